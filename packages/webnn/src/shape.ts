/** Shapes that meet, as the specification's section on broadcasting has it. `undefined` where they do not. */
export type Shape = readonly number[]

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((size, at) => size === b[at])

/** "Unidirectionally broadcast": `from` stretched to `to`. */
export function broadcastTo(from: Shape, to: Shape): number[] | undefined {
  const missing = to.length - from.length
  if (missing < 0) return undefined
  return from.every((size, at) => size === to[missing + at] || size === 1) ? [...to] : undefined
}

/** "Bidirectionally broadcast". */
export function broadcast(a: Shape, b: Shape): number[] | undefined {
  const rank = Math.max(a.length, b.length)
  const shape: number[] = []
  for (let at = 0; at < rank; at++) {
    const [sizeA, sizeB] = [a[at - rank + a.length] ?? 1, b[at - rank + b.length] ?? 1]
    if (sizeA !== sizeB && sizeA !== 1 && sizeB !== 1) return undefined
    shape.push(Math.max(sizeA, sizeB))
  }
  return shape
}

/** "Blockwise broadcast": each size of `from` divides that of `to`. */
export const broadcastsBlockwise = (from: Shape, to: Shape): boolean =>
  from.length === to.length && from.every((size, at) => to[at]! % size === 0)

/** "Calculate reduction output sizes". */
export function reducedShape(shape: Shape, axes: readonly number[], keepDimensions: boolean): number[] {
  return keepDimensions
    ? shape.map((size, at) => (axes.includes(at) ? 1 : size))
    : shape.filter((_, at) => !axes.includes(at))
}

/** "Calculate conv output size"; not rounded. */
export const convSize = (
  input: number,
  filter: number,
  padding: number,
  stride: number,
  dilation: number,
): number => (input - ((filter - 1) * dilation + 1) + padding) / stride + 1

/** "Calculate convtranspose output size". */
export const convTransposeSize = (
  input: number,
  filter: number,
  padding: number,
  stride: number,
  dilation: number,
): number => (input - 1) * stride + (filter - 1) * dilation + 1 - padding

export const distinct = (values: readonly number[]): boolean => new Set(values).size === values.length
