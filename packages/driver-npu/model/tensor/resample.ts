import type { Axis, TensorOperation } from './params.js'
import { Pipeline } from './pipeline.js'
import { unit } from './reduce.js'

/** Where the indices along an axis lie in A: two neighbours, as offsets, and the weight of the second. */
interface Taps {
  readonly one: Float64Array
  readonly two: Float64Array
  readonly weight: Float64Array
}

function tapsOf({ size, scale }: Axis, places: number, stride: number, nearest: boolean): Taps {
  const taps = {
    one: new Float64Array(places),
    two: new Float64Array(places),
    weight: new Float64Array(places),
  }
  for (let i = 0; i < places; i++) {
    const position = Math.min(Math.max((i + 0.5) / scale - 0.5, 0), size - 1)
    const first = nearest ? Math.ceil(position - 0.5) : Math.floor(position)
    taps.weight[i] = nearest ? 0 : position - first
    taps.one[i] = first * stride
    // A neighbour without weight is not looked at: it may be infinite.
    taps.two[i] = (taps.weight[i] === 0 ? first : first + 1) * stride
  }
  return taps
}

/** `RESAMPLE` (9.17). */
export const resample: TensorOperation = (p, operands, d) => {
  const { data, base } = operands.a
  const nearest = p.fn === 0
  const [v, h] = p.axes!.map((axis) =>
    tapsOf(axis, p.dims[axis.dimension], p.a.strides[axis.dimension], nearest),
  )
  const axes = p.axes!.map(({ dimension }) => dimension)
  const still = p.a.strides.map((stride, r) => (axes.includes(r) ? 0 : stride))
  const pipeline = new Pipeline(p, operands, d, p.dims, [still, unit(p.rank, axes[0]), unit(p.rank, axes[1])])
  const { walk } = pipeline
  const [offsets, ofV, ofH] = walk.offsets
  const result = new Float32Array(walk.size)
  for (let count = walk.next(); count > 0; count = walk.next()) {
    const [from, firstV, firstH] = walk.bases
    for (let i = 0; i < count; i++) {
      const at = base + from + offsets[i]
      const y = firstV + ofV[i]
      const x = firstH + ofH[i]
      if (nearest) {
        result[i] = data[at + v.one[y] + h.one[x]]
        continue
      }
      const top = at + v.one[y]
      const bottom = at + v.two[y]
      const left = h.one[x]
      const right = h.two[x]
      const across = h.weight[x]
      const above = mixed(data[top + left], data[top + right], across)
      result[i] = mixed(above, mixed(data[bottom + left], data[bottom + right], across), v.weight[y])
    }
    pipeline.emit(result, count)
  }
}

const mixed = (one: number, two: number, weight: number) =>
  weight === 0 ? one : one * (1 - weight) + two * weight
