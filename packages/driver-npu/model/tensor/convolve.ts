import { Finish } from './finish.js'
import type { Elements, Operands, TensorParams } from './params.js'
import { slideOf } from './slide.js'

/** Does a contraction with two windows over A as a direct convolution. Answers false where it is no such one, and nothing is done. */
export function convolve(p: TensorParams, { a, b, c }: Operands, d: Elements): boolean {
  if (p.windows.some(({ out }) => p.b!.strides[out] !== 0)) return false
  const slide = slideOf(p, a)
  if (slide === undefined) return false
  const finish = new Finish(p, slide.sides, slide.planes.places)
  finish.start(c, d)
  slide.run(b, finish)
  return true
}
