import type { MLOperand } from '@uaccel/webnn'
import { ints64, type Node, operandOf } from './node.js'

/** Where in the input an element of the output is (ONNX, Resize: coordinate_transformation_mode). */
const coordinates: Readonly<
  Record<string, (at: number, scale: number, input: number, output: number) => number>
> = {
  half_pixel: (at, scale) => (at + 0.5) / scale - 0.5,
  pytorch_half_pixel: (at, scale, _, output) => (output > 1 ? (at + 0.5) / scale - 0.5 : 0),
  align_corners: (at, _, input, output) => (output > 1 ? (at * (input - 1)) / (output - 1) : 0),
  asymmetric: (at, scale) => at / scale,
  half_pixel_symmetric: (at, scale, input, output) =>
    (input / 2) * (1 - output / (scale * input)) + (at + 0.5) / scale - 0.5,
}

const nearest: Readonly<Record<string, (x: number) => number>> = {
  round_prefer_floor: (x) => Math.ceil(x - 0.5),
  round_prefer_ceil: (x) => Math.floor(x + 0.5),
  floor: Math.floor,
  ceil: Math.ceil,
}

/** For each element of an output's axis, elements of the input and what each counts: lists, one for each tap. */
interface Taps {
  readonly at: number[][]
  readonly weight: number[][]
}

/** Keys' cubic: what the elements before, at, after and behind a place count (ONNX, Resize: cubic_coeff_a). */
function cubicWeights(part: number, a: number): number[] {
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
  return [far(part + 1), near(part), near(1 - part), far(2 - part)]
}

function tapsOf(node: Node, mode: string, places: readonly number[], size: number): Taps {
  const hold = (at: number) => Math.min(Math.max(at, 0), size - 1)
  if (mode === 'nearest') {
    const text = node.text('nearest_mode', 'round_prefer_floor')
    const round = nearest[text]
    if (round === undefined) throw node.corrupt(`nearest_mode "${text}"`)
    return { at: [places.map((x) => hold(round(x)))], weight: [places.map(() => 1)] }
  }
  if (mode === 'linear') {
    const low = places.map((x) => Math.floor(hold(x)))
    const part = places.map((x, i) => hold(x) - low[i]!)
    return { at: [low, low.map((at) => hold(at + 1))], weight: [part.map((p) => 1 - p), part] }
  }
  const a = node.float('cubic_coeff_a', -0.75)
  const outside = node.int('exclude_outside', 0) === 1
  const rows = places.map((x) => {
    const low = Math.floor(x)
    const at = [-1, 0, 1, 2].map((step) => low + step)
    const weights = cubicWeights(x - low, a).map((w, i) => (outside && at[i] !== hold(at[i]!) ? 0 : w))
    const all = outside ? weights.reduce((sum, w) => sum + w, 0) : 1
    return { at: at.map(hold), weight: weights.map((w) => w / all) }
  })
  const columns = <T>(pick: (row: (typeof rows)[number]) => T[]) =>
    [0, 1, 2, 3].map((i) => rows.map((row) => pick(row)[i]!))
  return { at: columns((row) => row.at), weight: columns((row) => row.weight) }
}

function along(node: Node, x: MLOperand, axis: number, { at, weight }: Taps): MLOperand {
  const { b } = node
  const picked = at.map((places) => b.gather(x, operandOf(b, ints64(places)), { axis }))
  if (picked.length === 1) return picked[0]!
  const shape = x.shape.map((_, dimension) => (dimension === axis ? at[0]!.length : 1))
  return picked
    .map((each, i) => b.mul(each, node.floats(shape, weight[i]!)))
    .reduce((all, each) => b.add(all, each))
}

/** Sizes of the output, and by how much each is scaled. */
function sizesOf(node: Node, shape: readonly number[]): { sizes: number[]; scales: number[] } {
  const axes = (node.ints('axes') ?? shape.map((_, at) => at)).map((axis) => node.axis(axis, shape.length))
  const [scales, wanted] = [node.numbers(2), node.numbers(3)]
  const policy = node.text('keep_aspect_ratio_policy', 'stretch')
  const spread = (values: readonly number[], otherwise: readonly number[]) => {
    if (values.length !== axes.length)
      throw node.corrupt(`${values.length} sizes or scales for ${axes.length} axes`)
    return otherwise.map((value, at) => (axes.includes(at) ? values[axes.indexOf(at)]! : value))
  }
  const ones = shape.map(() => 1)
  if (wanted?.length) {
    const each = wanted.map((size, at) => size / shape[axes[at]!]!)
    if (policy === 'stretch') return { sizes: spread(wanted, shape), scales: spread(each, ones) }
    const scale = policy === 'not_larger' ? Math.min(...each) : Math.max(...each)
    const kept = axes.map((axis) => Math.round(scale * shape[axis]!))
    return {
      sizes: spread(kept, shape),
      scales: spread(
        axes.map(() => scale),
        ones,
      ),
    }
  }
  if (!scales?.length) throw node.corrupt('scales or sizes are wanted')
  const each = spread(scales, ones)
  return { sizes: shape.map((size, at) => Math.floor(size * each[at]!)), scales: each }
}

/** `resample2d` where it computes the same, else elements picked along each axis, with their weights. */
export function resize(node: Node): MLOperand {
  const { b } = node
  let x = node.operand(0)
  const [mode, coordinate] = [
    node.text('mode', 'nearest'),
    node.text('coordinate_transformation_mode', 'half_pixel'),
  ]
  const place = coordinates[coordinate]
  if (place === undefined || !['nearest', 'linear', 'cubic'].includes(mode))
    throw node.unsupported(`mode "${mode}" with coordinates "${coordinate}" is not supported`)
  if (node.int('antialias', 0) === 1) throw node.unsupported('antialias is not supported')
  const { sizes, scales } = sizesOf(node, x.shape)
  const bad = sizes.find((size) => !Number.isSafeInteger(size) || size < 1 || size >= 2 ** 31)
  if (bad !== undefined) throw node.corrupt(`it wants the sizes [${sizes}]`)
  const axes = sizes.map((_, at) => at).filter((at) => sizes[at] !== x.shape[at] || scales[at] !== 1)
  const exact = axes.every((at) => sizes[at] === x.shape[at]! * scales[at]!)
  const whole = axes.every((at) => Number.isInteger(scales[at]))
  const rounding = node.text('nearest_mode', 'round_prefer_floor')
  const same =
    mode === 'linear'
      ? coordinate === 'half_pixel' && x.dataType === 'float32'
      : mode === 'nearest' &&
        ((coordinate === 'half_pixel' && rounding === 'round_prefer_floor') ||
          (coordinate === 'asymmetric' && rounding === 'floor' && whole))
  if (same && exact && x.shape.length === 4 && axes.length <= 2) {
    const both = axes.length === 2 ? axes : [2, 3]
    if (axes.every((axis) => both.includes(axis)))
      return b.resample2d(x, {
        mode: mode === 'linear' ? 'linear' : 'nearest-neighbor',
        axes: both,
        sizes: both.map((axis) => sizes[axis]!),
      })
  }
  if (mode !== 'nearest' && x.dataType !== 'float32') throw node.unsupported(`${mode} of ${x.dataType}`)
  for (const axis of axes) {
    const size = x.shape[axis]!
    const places = node.places(sizes[axis]!).map((at) => place(at, scales[axis]!, size, sizes[axis]!))
    x = along(node, x, axis, tapsOf(node, mode, places, size))
  }
  return axes.length === 0 ? b.identity(x) : x
}
