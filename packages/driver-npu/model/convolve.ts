import type { ChannelTable, Convolution, Output, Quantised } from './arithmetic.js'
import { convolve, Planes } from './direct.js'
import { requantiseSums } from './requantise.js'

/** Sums of so many products, of at most 255 by 255, are below 2^24: `float32` holds them, and those on the way, exactly. */
const MOST_TAPS = 258
/** From so many channels of output for each image on, a product of matrices is faster: its numbers have 16 bits. */
const FEW_CHANNELS = 32

/** Does a convolution (docs/devices/npu.md, 9.4) directly. Answers false where that is not exact or not faster, and nothing is done. */
export function convolveQuantised(
  x: Quantised,
  w: Quantised,
  y: Quantised,
  g: Convolution,
  [oh, ow]: readonly [number, number],
  table: ChannelTable,
  out: Output,
): boolean {
  const inputs = g.c / g.groups
  const perImage = g.o / g.groups
  const taps = inputs * g.kh * g.kw
  if (taps > MOST_TAPS || perImage > FEW_CHANNELS) return false
  const vertical = { size: g.h, out: oh, kernel: g.kh, stride: g.sh, dilation: g.dh, pad: g.padTop }
  const horizontal = { size: g.w, out: ow, kernel: g.kw, stride: g.sw, dilation: g.dw, pad: g.padLeft }
  const planes = Planes.of(vertical, horizontal, { count: inputs, perImage })
  if (planes === undefined) return false
  const plane = g.h * g.w
  const each = g.kh * g.kw
  const [a, b] = [new Int32Array(planes.most), new Int32Array(planes.most)]
  convolve(planes, {
    data: x,
    base: 0,
    down: g.w,
    right: 1,
    zero: g.xZero,
    planes: Array.from({ length: inputs }, (_, c) => c * plane),
    taps: Int32Array.from({ length: taps }, (_, k) =>
      planes.offset(Math.floor(k / each), (Math.floor(k / g.kw) % g.kh) * g.dh, (k % g.kw) * g.dw),
    ),
    by: { data: w, base: 0, steps: Int32Array.from({ length: taps }, (_, k) => k), zero: g.wZero },
    channels: g.n * g.o,
    perImage,
    seek(first, count) {
      for (let at = 0; at < count; at++) {
        a[at] = Math.floor((first + at) / perImage) * inputs * plane
        b[at] = ((first + at) % g.o) * taps
      }
      return { a, b }
    },
    finish(top, rows, first, count, width) {
      for (let at = 0; at < count; at++) {
        const channel = first + at
        const to = (channel * oh + top) * ow
        requantiseSums(at * width, 'float32', y, to, rows * ow, table, channel % g.o, 0, out)
      }
    },
  })
  return true
}
