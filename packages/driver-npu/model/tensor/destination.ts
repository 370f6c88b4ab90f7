import { scatter } from './gather.js'
import { type Operands, TensorOpcode, type TensorParams, Type } from './params.js'
import { Walk } from './walk.js'

/** Sets the bytes of `mark`, one for each element of the destination's range, where an element is addressed. */
export function markDestination(
  p: TensorParams,
  operands: Operands,
  mark: Uint8Array,
  reduces: boolean,
): void {
  const { before, strides } = p.d
  if (p.opcode === TensorOpcode.SCATTER) {
    const one = { ...p.a, type: Type.uint8, strides: strides.map(() => 0) }
    scatter(
      { ...p, a: one },
      { ...operands, a: { data: Uint8Array.of(1), base: 0 } },
      { data: mark, base: before },
    )
    return
  }
  const rank = reduces ? p.rank - p.inner : p.rank
  const walk = new Walk(p.dims.slice(0, rank), [strides.slice(0, rank)])
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const base = before + walk.bases[0]
    for (let i = 0; i < count; i++) mark[base + walk.offsets[0][i]] = 1
  }
}
