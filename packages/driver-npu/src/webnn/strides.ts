/** How far apart neighbours of each dimension of a dense tensor are, in elements. */
export function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1)
  for (let at = shape.length - 2; at >= 0; at--) strides[at] = strides[at + 1]! * shape[at + 1]!
  return strides
}

/** Strides of a dense tensor of shape `from` for the dimensions of `to`, to which it is broadcast. */
export function broadcastStrides(from: readonly number[], to: readonly number[]): number[] {
  const strides = denseStrides(from)
  const missing = to.length - from.length
  return to.map((_, at) => (at < missing || from[at - missing] === 1 ? 0 : strides[at - missing]!))
}

export const product = (sizes: readonly number[]): number => sizes.reduce((all, size) => all * size, 1)

/** A dimension, and the strides of every operand along it. */
export interface Lane {
  readonly size: number
  readonly strides: readonly number[]
  /** It is named by something else than strides, and stays as it is. */
  readonly fixed: boolean
}

/**
 * Joins neighbours that are gone through as one dimension, and leaves those of one element out. `inner` of them, the last ones, are never joined with
 * those before. Answers for each dimension that is left which one it was: of several joined the last.
 */
export function coalesce(
  lanes: readonly Lane[],
  inner: number,
): { readonly lanes: readonly (Lane & { readonly was: number })[]; readonly inner: number } {
  const part = (from: number, to: number) => {
    const left: (Lane & { readonly was: number })[] = []
    for (let at = from; at < to; at++) {
      const lane = { ...lanes[at]!, was: at }
      const last = left.at(-1)
      if (lane.size === 1 && !lane.fixed) continue
      const joins =
        last !== undefined &&
        !last.fixed &&
        !lane.fixed &&
        last.strides.every((stride, operand) => stride === lane.strides[operand]! * lane.size)
      if (joins) left[left.length - 1] = { ...lane, size: last.size * lane.size }
      else left.push(lane)
    }
    return left
  }
  const [outer, reduced] = [part(0, lanes.length - inner), part(lanes.length - inner, lanes.length)]
  return { lanes: [...outer, ...reduced], inner: reduced.length }
}
