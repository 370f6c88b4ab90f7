import type { MLOperand } from '@uaccel/webnn'
import { given, type Mapping, type Mappings, type Node } from './node.js'
import { resize } from './resize.js'

/** Images of one dimension are lines of one of two: their windows get a dimension of 1 before. */
export interface Window {
  readonly kernel: readonly number[]
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
  /** Before and after each dimension, as WebNN wants it. */
  readonly padding: readonly (readonly [number, number])[]
  readonly ceil: boolean
}

/** The window of a convolution or pool over images of these sizes. */
export function windowOf(node: Node, sizes: readonly number[], kernel: readonly number[]): Window {
  const { length } = sizes
  if (length < 1 || length > 2)
    throw node.unsupported(`images of ${length} dimensions; 1 and 2 are supported`)
  const list = (name: string, otherwise: number, least: number, count = length) => {
    const found = node.ints(name) ?? new Array<number>(count).fill(otherwise)
    if (found.length !== count || found.some((each) => each < least || each >= 2 ** 31))
      throw node.corrupt(`attribute "${name}" [${found}]: ${count} numbers of at least ${least} are wanted`)
    return found
  }
  if (kernel.length !== length || kernel.some((size) => size < 1 || size >= 2 ** 31))
    throw node.corrupt(`a kernel of [${kernel}] for images of [${sizes}]`)
  const [strides, dilations] = [list('strides', 1, 1), list('dilations', 1, 1)]
  const auto = node.text('auto_pad', 'NOTSET')
  const pads = list('pads', 0, 0, 2 * length)
  const padding = sizes.map((size, at): [number, number] => {
    if (auto === 'NOTSET') return [pads[at]!, pads[at + length]!]
    if (auto === 'VALID') return [0, 0]
    const reach = (kernel[at]! - 1) * dilations[at]! + 1
    const all = Math.max(0, (Math.ceil(size / strides[at]!) - 1) * strides[at]! + reach - size)
    return halves(all, auto === 'SAME_LOWER')
  })
  return { kernel, strides, dilations, padding, ceil: node.int('ceil_mode', 0) === 1 }
}

/** A padding in two parts; the greater is before where `lower`. */
const halves = (all: number, lower: boolean): [number, number] => {
  const [less, more] = [Math.floor(all / 2), Math.ceil(all / 2)]
  return lower ? [more, less] : [less, more]
}

/** Numbers of each dimension as those of two. */
const two = (values: readonly number[], otherwise: number): number[] =>
  values.length === 1 ? [otherwise, values[0]!] : [...values]

const optionsOf = ({ strides, dilations, padding }: Window) => ({
  strides: two(strides, 1),
  dilations: two(dilations, 1),
  padding: (padding.length === 1 ? [[0, 0] as const, padding[0]!] : padding).flat(),
})

/** An image, or a filter, of four dimensions. */
const wide = (node: Node, x: MLOperand): MLOperand =>
  x.shape.length === 3 ? node.b.reshape(x, [x.shape[0]!, x.shape[1]!, 1, x.shape[2]!]) : x

const narrow = (node: Node, y: MLOperand, rank: number): MLOperand =>
  rank === 3 ? node.b.reshape(y, [y.shape[0]!, y.shape[1]!, y.shape[3]!]) : y

/** A convolution of operands that are there already: also that of the quantised operators. */
export function convolve(node: Node, x: MLOperand, w: MLOperand, bias?: MLOperand): MLOperand {
  const window = windowOf(node, x.shape.slice(2), node.ints('kernel_shape') ?? w.shape.slice(2))
  const options = given({ ...optionsOf(window), groups: node.int('group', 1), bias })
  return narrow(node, node.b.conv2d(wide(node, x), wide(node, w), options), x.shape.length)
}

function convTranspose(node: Node): MLOperand {
  const [x, w] = [node.operand(0), node.operand(1)]
  const sizes = x.shape.slice(2)
  const window = windowOf(node, sizes, node.ints('kernel_shape') ?? w.shape.slice(2))
  const more = node.ints('output_padding') ?? sizes.map(() => 0)
  const auto = node.text('auto_pad', 'NOTSET')
  const sized = node.ints('output_shape')
  const wanted =
    sized ?? (auto.startsWith('SAME') ? sizes.map((size, at) => size * window.strides[at]!) : undefined)
  const padding = window.padding.map((pads, at) => {
    if (wanted === undefined) return pads
    const reach = (window.kernel[at]! - 1) * window.dilations[at]! + 1
    const all = (sizes[at]! - 1) * window.strides[at]! + more[at]! + reach - wanted[at]!
    if (!(all >= 0)) throw node.unsupported(`an output of [${wanted}] is greater than the windows reach`)
    return halves(all, auto !== 'SAME_UPPER')
  })
  const y = node.b.convTranspose2d(
    wide(node, x),
    wide(node, w),
    given({
      ...optionsOf({ ...window, padding }),
      outputPadding: two(more, 0),
      groups: node.int('group', 1),
      bias: node.optional(2),
    }),
  )
  return narrow(node, y, x.shape.length)
}

const pool =
  (name: 'averagePool2d' | 'maxPool2d' | 'l2Pool2d'): Mapping =>
  (node) => {
    if (node.outputs[1]) throw node.unsupported('its output Indices is not computed')
    if (name === 'l2Pool2d' && node.int('p', 2) !== 2) throw node.unsupported('p is not 2')
    const image = node.operand(0)
    const sizes = image.shape.slice(2)
    const window = windowOf(node, sizes, node.ints('kernel_shape') ?? [])
    const { kernel, strides, dilations, padding } = window
    const ends = sizes.map((size, at) => {
      const [before, after] = padding[at]!
      const [stride, reach] = [strides[at]!, (kernel[at]! - 1) * dilations[at]! + 1]
      const steps = (size + before + after - reach) / stride
      if (steps < 0) throw node.corrupt(`a kernel of [${kernel}] does not fit into images of [${sizes}]`)
      if (!window.ceil) return after
      // A window that would begin behind the image is none; the last one may reach beyond the padding. WebNN rounds both dimensions alike.
      const last = Math.min(Math.ceil(steps), Math.ceil((size + before) / stride) - 1)
      return Math.max(0, last * stride + reach - size - before)
    })
    // Zeros that count are put around the image; what the last window reaches beyond them does not count.
    const counted = name === 'averagePool2d' && node.int('count_include_pad', 0) === 1
    const zeros = padding.map(([before, after], at): readonly [number, number] =>
      counted ? [before, Math.min(after, ends[at]!)] : [0, 0],
    )
    const rest = padding.map(([before], at): readonly [number, number] => [
      before - zeros[at]![0],
      ends[at]! - zeros[at]![1],
    ])
    const [top, bottom, left, right] = optionsOf({ ...window, padding: zeros }).padding as [
      number,
      number,
      number,
      number,
    ]
    const x = wide(node, image)
    const padded = counted ? node.b.pad(x, [0, 0, top, left], [0, 0, bottom, right]) : x
    const options = optionsOf({ ...window, padding: rest })
    const y = node.b[name](padded, { ...options, windowDimensions: two(kernel, 1) })
    return narrow(node, y, image.shape.length)
  }

const globalPool =
  (
    pool: 'averagePool2d' | 'maxPool2d' | 'l2Pool2d',
    reduce: 'reduceMean' | 'reduceMax' | 'reduceL2',
  ): Mapping =>
  (node) => {
    const x = node.operand(0)
    if (x.shape.length === 4) return node.b[pool](x)
    const axes = x.shape.map((_, at) => at).slice(2)
    return node.b[reduce](x, { axes, keepDimensions: true })
  }

export const spatial: Mappings = {
  Conv: (node) => convolve(node, node.operand(0), node.operand(1), node.optional(2)),
  ConvTranspose: convTranspose,
  AveragePool: pool('averagePool2d'),
  MaxPool: pool('maxPool2d'),
  LpPool: pool('l2Pool2d'),
  GlobalAveragePool: globalPool('averagePool2d', 'reduceMean'),
  GlobalMaxPool: globalPool('maxPool2d', 'reduceMax'),
  GlobalLpPool: (node) => {
    if (node.int('p', 2) !== 2) throw node.unsupported('p is not 2')
    return globalPool('l2Pool2d', 'reduceL2')(node)
  },
  Resize: resize,
}
