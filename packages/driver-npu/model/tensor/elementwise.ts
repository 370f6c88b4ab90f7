import { type Chunk, chunk } from './numbers.js'
import { type Elements, type Operands, type TensorOperation, type TensorParams, Type } from './params.js'
import { ofWords, Pipeline, words } from './pipeline.js'
import { Walk } from './walk.js'

/** `ELEMENTWISE` (9.10). */
export const elementwise: TensorOperation = (p, operands, d) => {
  if (p.compute === Type.none) {
    move(p, operands.a, d)
    return
  }
  const { pipeline, room } = madeFor(p, operands, d)
  const { walk } = pipeline
  for (let count = walk.next(); count > 0; count = walk.next())
    pipeline.emit(pipeline.load(operands.a, 0, room, count), count)
  pipeline.release()
}

interface Made {
  readonly pipeline: Pipeline
  readonly room: Chunk
}

const made = new WeakMap<TensorParams, Made>()

/** A pipeline for each block: small tensors are done in less time than it takes to make one. */
function madeFor(p: TensorParams, operands: Operands, d: Elements): Made {
  const known = made.get(p)
  if (known !== undefined) {
    known.pipeline.restart(operands, d)
    return known
  }
  const pipeline = new Pipeline(p, operands, d, p.dims, [p.a.strides])
  const one = { pipeline, room: chunk(p.compute, pipeline.walk.size) }
  made.set(p, one)
  return one
}

/** Moves elements as they are. */
function move(p: TensorParams, a: Elements, d: Elements): void {
  const from = words(p.a.type, a)
  const to = words(p.d.type, d)
  const [dims, vectors] = ofWords(from.each, p.dims, p.a.strides, p.d.strides)
  const walk = new Walk(dims, vectors)
  const [offsets, places] = walk.offsets
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const at = from.base + walk.bases[0]
    const into = to.base + walk.bases[1]
    if (walk.dense[0] && walk.dense[1]) to.data.set(from.data.subarray(at, at + count), into)
    else for (let i = 0; i < count; i++) to.data[into + places[i]] = from.data[at + offsets[i]]
  }
}
