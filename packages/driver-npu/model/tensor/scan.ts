import { chunk } from './numbers.js'
import { type TensorOperation, Type } from './params.js'
import { Pipeline } from './pipeline.js'

/** `SCAN` (9.14). `float32` is summed up in double precision. */
export const scan: TensorOperation = (p, operands, d) => {
  const exclusive = (p.flags & 1) !== 0
  const pipeline = new Pipeline(p, operands, d, p.dims, [p.a.strides], true)
  const { walk } = pipeline
  const room = chunk(p.compute, walk.size)
  const result = chunk(p.compute, walk.size)
  const wraps = p.compute !== Type.float32
  let sum = 0
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const x = pipeline.load(operands.a, 0, room, count)
    if (walk.atRow) sum = 0
    for (let i = 0; i < count; i++) {
      const next = wraps ? (sum + x[i]) | 0 : sum + x[i]
      result[i] = exclusive ? sum : next
      sum = next
    }
    pipeline.emit(result, count)
  }
}
