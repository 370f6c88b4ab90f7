import { dequantize, isQuantized, quantize, rangeOf, requantize, toQuantized } from '../fuse/arithmetic.js'
import type {
  QuantizedAveragePool2d,
  QuantizedBinary,
  QuantizedConv2d,
  QuantizedMatmul,
  QuantizedTable,
  Sliding,
} from '../fuse/operators.js'
import { broadcastOffsets, type Kernel, type KernelNode, type Operand } from './kernel.js'

type Bytes = Uint8Array | Int8Array
const bytes = ({ data }: Operand): Bytes => data as Bytes

/** One place of a window along an axis: the results from `first` to before `end` read the element at place * stride + `start`. */
interface Tap {
  readonly start: number
  readonly first: number
  readonly end: number
}

/** For each place of the window along an axis (0 height, 1 width), the results for which it is inside. */
function tapsOf(
  { window, strides, dilations, pads }: Sliding,
  axis: 0 | 1,
  size: number,
  out: number,
): Tap[] {
  const stride = strides[axis]
  return Array.from({ length: window[axis] }, (_, at) => {
    const start = at * dilations[axis] - pads[axis]
    const first = Math.max(0, Math.ceil(-start / stride))
    const end = Math.min(out, Math.floor((size - 1 - start) / stride) + 1)
    return { start, first, end: Math.max(first, end) }
  })
}

/** A node on images, with the window along both axes. */
function images<Attributes extends Sliding>({
  inputs: { input },
  attributes,
  outputs: [output],
}: KernelNode) {
  const of = attributes as unknown as Attributes
  const [, channels, height, width] = input.shape
  const [n, outputs, outHeight, outWidth] = output.shape
  return {
    of,
    n,
    channels,
    height,
    width,
    outputs,
    outHeight,
    outWidth,
    plane: outHeight * outWidth,
    tapsY: tapsOf(of, 0, height, outHeight),
    tapsX: tapsOf(of, 1, width, outWidth),
  }
}

const quantizedConv2d: Kernel = (node) => {
  const { input, filter } = node.inputs
  const { of, n, channels, height, width, outputs, outWidth, plane, tapsY, tapsX } =
    images<QuantizedConv2d>(node)
  const { groups, bias, multipliers, inputZeroPoint, filterZeroPoints, outputZeroPoint, limits } = of
  const [strideY, strideX] = of.strides
  const [from, weights, to] = [bytes(input), bytes(filter), bytes(node.outputs[0])]
  const perGroup = channels / groups
  const values = new Int32Array(from.length)
  const sums = new Int32Array(plane)
  const addChannel = (base: number, firstWeight: number, zero: number): void => {
    let w = firstWeight
    for (const tapY of tapsY) {
      for (const tapX of tapsX) {
        const weight = weights[w++] - zero
        if (weight === 0) continue
        for (let y = tapY.first; y < tapY.end; y++) {
          let at = base + (y * strideY + tapY.start) * width + tapX.first * strideX + tapX.start
          const end = y * outWidth + tapX.end
          for (let s = y * outWidth + tapX.first; s < end; s++, at += strideX) sums[s] += values[at] * weight
        }
      }
    }
  }
  const area = tapsY.length * tapsX.length
  return () => {
    for (let i = 0; i < from.length; i++) values[i] = from[i] - inputZeroPoint
    for (let image = 0; image < n; image++) {
      for (let o = 0; o < outputs; o++) {
        sums.fill(bias[o])
        const first = image * channels + Math.floor((o * groups) / outputs) * perGroup
        for (let c = 0; c < perGroup; c++)
          addChannel((first + c) * height * width, (o * perGroup + c) * area, filterZeroPoints[o])
        const out = (image * outputs + o) * plane
        for (let s = 0; s < plane; s++)
          to[out + s] = requantize(sums[s], multipliers[o], outputZeroPoint, limits)
      }
    }
  }
}

const quantizedMatmul: Kernel = ({ inputs: { a, b }, attributes, outputs: [output] }) => {
  const of = attributes as unknown as QuantizedMatmul
  const { batch, m, k, n, bias, multipliers, outputZeroPoint, limits, aZeroPoint, bZeroPoints } = of
  const [left, right, to] = [bytes(a), bytes(b), bytes(output)]
  const [row, column] = of.transposeB ? [1, k] : [n, 1]
  const sums = new Int32Array(n)
  return () => {
    for (let line = 0; line < batch * m; line++) {
      const base = of.batchB ? Math.floor(line / m) * k * n : 0
      sums.set(bias)
      for (let i = 0; i < k; i++) {
        const x = left[line * k + i] - aZeroPoint
        if (x === 0) continue
        for (let c = 0, at = base + i * row; c < n; c++, at += column)
          sums[c] += x * (right[at] - bZeroPoints[c])
      }
      for (let c = 0; c < n; c++)
        to[line * n + c] = requantize(sums[c], multipliers[c], outputZeroPoint, limits)
    }
  }
}

const quantizedMaxPool2d: Kernel = (node) => {
  const { of, n, channels, height, width, outHeight, outWidth, tapsY, tapsX } = images<Sliding>(node)
  const [strideY, strideX] = of.strides
  const { dataType } = node.outputs[0]
  const least = isQuantized(dataType) ? rangeOf[dataType][0] : Number.NEGATIVE_INFINITY
  const [from, to] = [bytes(node.inputs.input), bytes(node.outputs[0])]
  return () => {
    to.fill(least)
    for (const tapY of tapsY) {
      for (const tapX of tapsX) {
        for (let plane = 0; plane < n * channels; plane++) {
          for (let y = tapY.first; y < tapY.end; y++) {
            const row = (plane * height + y * strideY + tapY.start) * width + tapX.start
            const out = (plane * outHeight + y) * outWidth
            for (let x = tapX.first; x < tapX.end; x++) {
              const value = from[row + x * strideX]
              if (value > to[out + x]) to[out + x] = value
            }
          }
        }
      }
    }
  }
}

const quantizedAveragePool2d: Kernel = (node) => {
  const { of, n, channels, height, width, outWidth, plane, tapsY, tapsX } =
    images<QuantizedAveragePool2d>(node)
  const { inputZeroPoint, multiplier, outputZeroPoint, limits } = of
  const [strideY, strideX] = of.strides
  const [from, to] = [bytes(node.inputs.input), bytes(node.outputs[0])]
  const [sums, counts] = [new Int32Array(plane), new Int32Array(plane)]
  return () => {
    for (let image = 0; image < n * channels; image++) {
      sums.fill(0)
      counts.fill(0)
      for (const tapY of tapsY) {
        for (const tapX of tapsX) {
          for (let y = tapY.first; y < tapY.end; y++) {
            const row = (image * height + y * strideY + tapY.start) * width + tapX.start
            for (let x = tapX.first; x < tapX.end; x++) {
              sums[y * outWidth + x] += from[row + x * strideX] - inputZeroPoint
              counts[y * outWidth + x]++
            }
          }
        }
      }
      for (let s = 0; s < plane; s++) {
        const scaled = Math.fround(Math.fround(sums[s]) * multiplier)
        to[image * plane + s] = toQuantized(Math.fround(scaled / counts[s]), outputZeroPoint, limits)
      }
    }
  }
}

const functions: Readonly<Record<QuantizedBinary['function'], (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
}

const quantizedBinary: Kernel = ({ inputs: { a, b }, attributes, outputs: [output] }) => {
  const of = attributes as unknown as QuantizedBinary
  const f = functions[of.function]
  const [left, right, to] = [bytes(a), bytes(b), bytes(output)]
  const [atA, atB] = [broadcastOffsets(a.shape, output.shape), broadcastOffsets(b.shape, output.shape)]
  return () => {
    for (let i = 0; i < to.length; i++) {
      const x = dequantize(left[atA ? atA[i] : i], of.a)
      const y = dequantize(right[atB ? atB[i] : i], of.b)
      to[i] = quantize(Math.fround(f(x, y)), of.output, of.limits)
    }
  }
}

const quantizedTable: Kernel = ({ inputs: { input }, attributes, outputs: [output] }) => {
  const { table } = attributes as unknown as QuantizedTable
  const [from, to] = [bytes(input), bytes(output)]
  return () => {
    for (let i = 0; i < to.length; i++) to[i] = table[from[i] & 0xff]
  }
}

/** What `fuse` makes, with the arithmetic that `fuse/operators.ts` says. */
export const quantized: Readonly<Record<string, Kernel>> = {
  quantizedConv2d,
  quantizedMatmul,
  quantizedMaxPool2d,
  quantizedAveragePool2d,
  quantizedBinary,
  quantizedTable,
}
