import {
  bigints,
  isBig,
  isFloat,
  type Kernel,
  type KernelNode,
  numbers,
  offsetsOf,
  stridesOf,
} from './kernel.js'

/** Where the first element of each reduction is, and how far from it the others are. */
function runs({ inputs: { input }, attributes }: KernelNode): {
  readonly starts: Int32Array
  readonly steps: Int32Array
} {
  const axes = attributes.axes as number[]
  const strides = stridesOf(input.shape)
  const of = (wanted: (axis: number) => boolean) => {
    const chosen = input.shape.map((_, at) => at).filter(wanted)
    return offsetsOf(
      chosen.map((at) => input.shape[at]),
      chosen.map((at) => strides[at]),
    )
  }
  return { starts: of((at) => !axes.includes(at)), steps: of((at) => axes.includes(at)) }
}

interface Fold {
  readonly from: number
  readonly add: (sum: number, x: number) => number
  readonly end?: (sum: number, count: number) => number
}

const sum: Fold = { from: 0, add: (all, x) => all + x }
const folds: Readonly<Record<string, Fold>> = {
  reduceL1: { from: 0, add: (all, x) => all + Math.abs(x) },
  reduceL2: { from: 0, add: (all, x) => all + x * x, end: Math.sqrt },
  reduceLogSum: { ...sum, end: Math.log },
  reduceMax: { from: Number.NEGATIVE_INFINITY, add: (most, x) => (x > most || Number.isNaN(x) ? x : most) },
  reduceMean: { ...sum, end: (all, count) => all / count },
  reduceMin: {
    from: Number.POSITIVE_INFINITY,
    add: (least, x) => (x < least || Number.isNaN(x) ? x : least),
  },
  reduceProduct: { from: 1, add: (all, x) => all * x },
  reduceSum: sum,
  reduceSumSquare: { from: 0, add: (all, x) => all + x * x },
}

/** Integers wrap at each step, as they would in registers of their width. */
const integerFolds: Readonly<Record<string, Fold>> = {
  ...folds,
  reduceL1: { from: 0, add: (all, x) => (all + Math.abs(x)) | 0 },
  reduceProduct: { from: 1, add: Math.imul },
  reduceSum: { from: 0, add: (all, x) => (all + x) | 0 },
  reduceSumSquare: { from: 0, add: (all, x) => (all + Math.imul(x, x)) | 0 },
}

type BigFold = (all: bigint | undefined, x: bigint) => bigint
const bigFolds: Readonly<Record<string, BigFold>> = {
  reduceL1: (all = 0n, x) => all + (x < 0n ? -x : x),
  reduceMax: (most = -(2n ** 64n), x) => (x > most ? x : most),
  reduceMin: (least = 2n ** 64n, x) => (x < least ? x : least),
  reduceProduct: (all = 1n, x) => BigInt.asIntN(128, all * x),
  reduceSum: (all = 0n, x) => all + x,
  reduceSumSquare: (all = 0n, x) => all + x * x,
}

const reduction =
  (name: string): Kernel =>
  (node) => {
    const {
      inputs: { input },
      outputs: [output],
    } = node
    const { starts, steps } = runs(node)
    if (isBig(input.dataType)) {
      const [from, to, fold] = [bigints(input), bigints(output), bigFolds[name]]
      return () => {
        for (let i = 0; i < starts.length; i++) {
          let all: bigint | undefined
          for (let j = 0; j < steps.length; j++) all = fold(all, from[starts[i] + steps[j]])
          to[i] = all!
        }
      }
    }
    const fold = (isFloat(input.dataType) ? folds : integerFolds)[name]
    const [from, to] = [numbers(input), numbers(output)]
    return () => {
      for (let i = 0; i < starts.length; i++) {
        let all = fold.from
        for (let j = 0; j < steps.length; j++) all = fold.add(all, from[starts[i] + steps[j]])
        to[i] = fold.end ? fold.end(all, steps.length) : all
      }
    }
  }

/** The greatest is taken out first, so that no exponential overflows. */
const reduceLogSumExp: Kernel = (node) => {
  const {
    inputs: { input },
    outputs: [output],
  } = node
  const { starts, steps } = runs(node)
  const [from, to] = [numbers(input), numbers(output)]
  return () => {
    for (let i = 0; i < starts.length; i++) {
      let most = Number.NEGATIVE_INFINITY
      for (let j = 0; j < steps.length; j++) most = Math.max(most, from[starts[i] + steps[j]])
      let all = 0
      for (let j = 0; j < steps.length; j++) all += Math.exp(from[starts[i] + steps[j]] - most)
      to[i] = Number.isFinite(most) ? most + Math.log(all) : most
    }
  }
}

/** The first NaN is the least and the greatest, as it is of a reduction. */
const isFirstNaN = (x: number, best: number) => Number.isNaN(x) && !Number.isNaN(best)

const argument =
  (isBetter: (x: number, best: number) => boolean): Kernel =>
  (node) => {
    const {
      inputs: { input },
      attributes,
      outputs: [output],
    } = node
    const { starts, steps } = runs({ ...node, attributes: { axes: [attributes.axis] } })
    const from = input.data as Float32Array
    const to = output.data as unknown as unknown[]
    const big = isBig(output.dataType)
    return () => {
      for (let i = 0; i < starts.length; i++) {
        let best = 0
        for (let j = 1; j < steps.length; j++)
          if (isBetter(from[starts[i] + steps[j]], from[starts[i] + steps[best]])) best = j
        to[i] = big ? BigInt(best) : best
      }
    }
  }

const softmax: Kernel = (node) => {
  const {
    inputs: { input },
    attributes,
    outputs: [output],
  } = node
  const { starts, steps } = runs({ ...node, attributes: { axes: [attributes.axis] } })
  const [from, to] = [numbers(input), numbers(output)]
  return () => {
    for (let i = 0; i < starts.length; i++) {
      let most = Number.NEGATIVE_INFINITY
      for (let j = 0; j < steps.length; j++) most = Math.max(most, from[starts[i] + steps[j]])
      let all = 0
      for (let j = 0; j < steps.length; j++) all += Math.exp(from[starts[i] + steps[j]] - most)
      for (let j = 0; j < steps.length; j++)
        to[starts[i] + steps[j]] = Math.exp(from[starts[i] + steps[j]] - most) / all
    }
  }
}

const cumulativeSum: Kernel = (node) => {
  const {
    inputs: { input },
    attributes,
    outputs: [output],
  } = node
  const { starts, steps } = runs({ ...node, attributes: { axes: [attributes.axis] } })
  const [from, to] = [input.data as Float32Array, output.data as Float32Array]
  const zero = (isBig(input.dataType) ? 0n : 0) as number
  const { exclusive, reversed } = attributes
  return () => {
    for (let i = 0; i < starts.length; i++) {
      let all = zero
      for (let j = 0; j < steps.length; j++) {
        const at = starts[i] + steps[reversed ? steps.length - 1 - j : j]
        const x = from[at]
        if (exclusive) to[at] = all
        all += x
        if (!exclusive) to[at] = all
      }
    }
  }
}

export const reductions: Readonly<Record<string, Kernel>> = {
  ...Object.fromEntries(Object.keys(folds).map((name) => [name, reduction(name)])),
  reduceLogSumExp,
  argMin: argument((x, best) => x < best || isFirstNaN(x, best)),
  argMax: argument((x, best) => x > best || isFirstNaN(x, best)),
  softmax,
  cumulativeSum,
}
