import { castNumber } from '../data-type.js'
import { placesOf } from '../operators/spatial.js'
import { isBig, type Kernel, numbers, type Operand, stridesOf } from './kernel.js'

/** Size and stride of each dimension of an operand, by the letter of its layout. */
interface Layout {
  readonly size: Readonly<Record<string, number>>
  readonly stride: Readonly<Record<string, number>>
}

function layoutOf({ shape }: Operand, layout: string): Layout {
  const strides = stridesOf(shape)
  const by = (values: readonly number[]) =>
    Object.fromEntries(Object.entries(placesOf(layout)).map(([letter, at]) => [letter, values[at]]))
  return { size: by(shape), stride: by(strides) }
}

interface Window {
  readonly padding: readonly number[]
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
}

/** Computes each element of an image by its place. */
function fill(
  { size, stride }: Layout,
  to: Float32Array,
  at: (n: number, c: number, y: number, x: number) => number,
): void {
  for (let n = 0; n < size.n; n++)
    for (let c = 0; c < size.c; c++)
      for (let y = 0; y < size.h; y++)
        for (let x = 0; x < size.w; x++)
          to[n * stride.n + c * stride.c + y * stride.h + x * stride.w] = at(n, c, y, x)
}

const conv2d: Kernel = ({ inputs: { input, filter, bias }, attributes, outputs: [output] }) => {
  const { padding, strides, dilations } = attributes as unknown as Window
  const groups = attributes.groups as number
  const inputLayout = attributes.inputLayout as string
  const i = layoutOf(input, inputLayout)
  const o = layoutOf(output, inputLayout)
  const k = layoutOf(filter, attributes.filterLayout as string)
  const [from, by, to, more] = [numbers(input), numbers(filter), numbers(output), bias && numbers(bias)]
  const perGroup = k.size.o / groups
  const at = (n: number, oc: number, oy: number, ox: number): number => {
    const first = Math.floor(oc / perGroup) * k.size.i
    let sum = 0
    for (let ky = 0; ky < k.size.h; ky++) {
      const y = oy * strides[0] - padding[0] + ky * dilations[0]
      if (y < 0 || y >= i.size.h) continue
      for (let kx = 0; kx < k.size.w; kx++) {
        const x = ox * strides[1] - padding[2] + kx * dilations[1]
        if (x < 0 || x >= i.size.w) continue
        let a = n * i.stride.n + first * i.stride.c + y * i.stride.h + x * i.stride.w
        let b = oc * k.stride.o + ky * k.stride.h + kx * k.stride.w
        for (let ic = 0; ic < k.size.i; ic++) {
          sum += from[a] * by[b]
          a += i.stride.c
          b += k.stride.i
        }
      }
    }
    return sum
  }
  const biased = (n: number, oc: number, oy: number, ox: number) => at(n, oc, oy, ox) + (more ? more[oc] : 0)
  return () => fill(o, to, biased)
}

const convTranspose2d: Kernel = ({ inputs: { input, filter, bias }, attributes, outputs: [output] }) => {
  const { padding, strides, dilations } = attributes as unknown as Window
  const groups = attributes.groups as number
  const inputLayout = attributes.inputLayout as string
  const i = layoutOf(input, inputLayout)
  const o = layoutOf(output, inputLayout)
  const k = layoutOf(filter, attributes.filterLayout as string)
  const [from, by, to, more] = [numbers(input), numbers(filter), numbers(output), bias && numbers(bias)]
  const perGroup = i.size.c / groups
  // The specification takes such a graph, and says nothing of what it would compute: it cannot be built.
  if (!Number.isInteger(perGroup))
    throw new Error(`convTranspose2d: ${i.size.c} input channels cannot be shared out among ${groups} groups`)
  /** The input coordinate whose window reaches an output one by that element of the filter; -1 where none does. */
  const source = (out: number, filterAt: number, axis: number, size: number): number => {
    const steps = out + padding[2 * axis] - filterAt * dilations[axis]
    const found = steps / strides[axis]
    return steps >= 0 && Number.isInteger(found) && found < size ? found : -1
  }
  const at = (n: number, oc: number, oy: number, ox: number): number => {
    const group = Math.floor(oc / k.size.o)
    const own = oc % k.size.o
    let sum = 0
    for (let ky = 0; ky < k.size.h; ky++) {
      const y = source(oy, ky, 0, i.size.h)
      if (y < 0) continue
      for (let kx = 0; kx < k.size.w; kx++) {
        const x = source(ox, kx, 1, i.size.w)
        if (x < 0) continue
        let a = n * i.stride.n + group * perGroup * i.stride.c + y * i.stride.h + x * i.stride.w
        let b = group * perGroup * k.stride.i + own * k.stride.o + ky * k.stride.h + kx * k.stride.w
        for (let ic = 0; ic < perGroup; ic++) {
          sum += from[a] * by[b]
          a += i.stride.c
          b += k.stride.i
        }
      }
    }
    return sum
  }
  const biased = (n: number, oc: number, oy: number, ox: number) => at(n, oc, oy, ox) + (more ? more[oc] : 0)
  return () => fill(o, to, biased)
}

interface Fold {
  readonly from: number
  add(all: number, x: number): number
  end(all: number, count: number): number
}

/** What is outside of the input counts in none of them. */
const pool =
  (fold: Fold): Kernel =>
  ({ inputs: { input }, attributes, outputs: [output] }) => {
    const { padding, strides, dilations } = attributes as unknown as Window
    const [height, width] = attributes.windowDimensions as number[]
    const layout = attributes.layout as string
    const [i, o] = [layoutOf(input, layout), layoutOf(output, layout)]
    const [from, to] = [input.data as Float32Array, output.data as Float32Array]
    const big = isBig(input.dataType)
    const at = (n: number, c: number, oy: number, ox: number): number => {
      const base = n * i.stride.n + c * i.stride.c
      let all = fold.from
      let count = 0
      for (let ky = 0; ky < height; ky++) {
        const y = oy * strides[0] - padding[0] + ky * dilations[0]
        if (y < 0 || y >= i.size.h) continue
        for (let kx = 0; kx < width; kx++) {
          const x = ox * strides[1] - padding[2] + kx * dilations[1]
          if (x < 0 || x >= i.size.w) continue
          all = fold.add(all, from[base + y * i.stride.h + x * i.stride.w])
          count++
        }
      }
      // A window that lies in the padding alone has nothing: 0.
      return count === 0 ? ((big ? 0n : 0) as number) : fold.end(all, count)
    }
    return () => fill(o, to, at)
  }

/** For each coordinate of an axis of the output: the two of the input that it lies between, and how near it is to the second. */
function between(
  inputSize: number,
  outputSize: number,
  nearest: boolean,
): { readonly low: Int32Array; readonly high: Int32Array; readonly part: Float64Array } {
  const [low, high, part] = [
    new Int32Array(outputSize),
    new Int32Array(outputSize),
    new Float64Array(outputSize),
  ]
  for (let at = 0; at < outputSize; at++) {
    const coordinate = Math.min(Math.max((at + 0.5) / (outputSize / inputSize) - 0.5, 0), inputSize - 1)
    low[at] = nearest ? Math.ceil(coordinate - 0.5) : Math.floor(coordinate)
    high[at] = nearest ? low[at] : Math.ceil(coordinate)
    part[at] = nearest ? 0 : coordinate - low[at]
  }
  return { low, high, part }
}

/** What is not between two is the first itself: none of an infinite second would be NaN. */
const mix = (low: number, high: number, part: number): number =>
  part === 0 ? low : low * (1 - part) + high * part

const resample2d: Kernel = ({ inputs: { input }, attributes, outputs: [output] }) => {
  const axes = attributes.axes as number[]
  const nearest = attributes.mode === 'nearest-neighbor'
  const [first, second] = axes.map((axis) => between(input.shape[axis], output.shape[axis], nearest))
  const [strides, own] = [stridesOf(input.shape), stridesOf(output.shape)]
  const [strideA, strideB] = axes.map((axis) => strides[axis])
  const [from, to] = [numbers(input), numbers(output)]
  const others = output.shape.map((_, at) => at).filter((at) => !axes.includes(at))
  const { dataType } = output
  return () => {
    for (let index = 0; index < to.length; index++) {
      const coordinate = (at: number) => Math.floor(index / own[at]) % output.shape[at]
      const base = others.reduce((sum, at) => sum + coordinate(at) * strides[at], 0)
      const [a, b] = [coordinate(axes[0]), coordinate(axes[1])]
      const along = (line: number) =>
        mix(
          from[base + line * strideA + second.low[b] * strideB],
          from[base + line * strideA + second.high[b] * strideB],
          second.part[b],
        )
      const value = mix(along(first.low[a]), along(first.high[a]), first.part[a])
      to[index] = dataType === 'float32' ? value : (castNumber(Math.round(value), dataType) as number)
    }
  }
}

export const spatial: Readonly<Record<string, Kernel>> = {
  conv2d,
  convTranspose2d,
  averagePool2d: pool({ from: 0, add: (all, x) => all + x, end: (all, count) => all / count }),
  l2Pool2d: pool({ from: 0, add: (all, x) => all + x * x, end: Math.sqrt }),
  maxPool2d: pool({
    from: Number.NEGATIVE_INFINITY,
    add: (most, x) => (x > most || Number.isNaN(x) ? x : most),
    end: (most) => most,
  }),
  resample2d,
}
