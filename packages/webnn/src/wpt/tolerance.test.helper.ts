import type { Case } from './case.test.helper.js'

/** How far a result may be from what is expected: units in the last place, or an absolute distance. */
export type Tolerance = { readonly ulp: number } | { readonly absolute: number }

/** An operator of a case, with the shapes of what it reads, in the order of its arguments. */
export interface Use {
  readonly operator: Case['graph']['operators'][number]
  readonly shapes: readonly (readonly number[])[]
}
type Rule = Tolerance | ((use: Use) => Tolerance)

const product = (sizes: readonly number[]) => sizes.reduce((all, size) => all * size, 1)
const optionsOf = ({ operator }: Use) =>
  (operator.arguments.find((each) => 'options' in each)?.options ?? {}) as Record<string, unknown>
/** What an argument is, by its place or by its name. */
const argumentOf = ({ operator }: Use, name: string) =>
  operator.arguments.find((each) => name in each)?.[name]

const reduced = (use: Use) => {
  const shape = use.shapes[0]!
  const axes = optionsOf(use).axes as number[] | undefined
  return product(axes ? axes.map((axis) => shape[axis]!) : shape)
}
const reduction =
  (times: number, more: number): Rule =>
  (use) => ({ ulp: reduced(use) * times + more })
const convolution: Rule = (use) => {
  const { groups = 1, inputLayout = 'nchw' } = optionsOf(use) as { groups?: number; inputLayout?: string }
  const [input, filter] = use.shapes as [readonly number[], readonly number[]]
  const layout = ((optionsOf(use).filterLayout as string | undefined) ?? 'oihw').replace('iohw', 'oihw')
  const size = (letter: string) => filter[layout.indexOf(letter)]!
  return { ulp: size('h') * size('w') * (input[inputLayout === 'nchw' ? 1 : 3]! / groups) * 2 }
}
const pooling: Rule = (use) => {
  const { layout = 'nchw', windowDimensions } = optionsOf(use) as {
    layout?: string
    windowDimensions?: number[]
  }
  const shape = use.shapes[0]!
  return { ulp: product(windowDimensions ?? (layout === 'nchw' ? shape.slice(2) : shape.slice(1, 3))) + 2 }
}
const exact: Rule = { ulp: 0 }
const near: Rule = { absolute: 1 / 1024 }

/** The tolerances of the suite (`webnn/resources/utils.js` of web-platform-tests), for float32. Integers are exact but where this says so. */
const rules: Readonly<Record<string, Rule>> = {
  batchNormalization: { ulp: 6 },
  conv2d: convolution,
  convTranspose2d: convolution,
  add: { ulp: 1 },
  sub: { ulp: 1 },
  mul: { ulp: 1 },
  div: { ulp: 2 },
  pow: { ulp: 32 },
  cos: near,
  erf: near,
  exp: { ulp: 32 },
  log: near,
  reciprocal: { ulp: 2 },
  sin: near,
  sqrt: { ulp: 1 },
  tan: near,
  elu: { ulp: 18 },
  gelu: { ulp: 18 },
  gemm: (use) => ({ ulp: use.shapes[0]![optionsOf(use).aTranspose ? 0 : 1]! * 2 + 3 }),
  hardSigmoid: { ulp: 2 },
  hardSwish: { ulp: 4 },
  instanceNormalization: { ulp: 840 },
  layerNormalization: near,
  leakyRelu: { ulp: 1 },
  linear: { ulp: 2 },
  matmul: (use) => ({ ulp: use.shapes[0]!.at(-1)! * 2 }),
  averagePool2d: pooling,
  l2Pool2d: pooling,
  prelu: { ulp: 1 },
  quantizeLinear: { ulp: 1 },
  dequantizeLinear: { ulp: 1 },
  cumulativeSum: (use) => ({ ulp: use.shapes[0]![argumentOf(use, 'axis') as number] ?? 0 }),
  resample2d: (use) => ({ ulp: optionsOf(use).mode === 'linear' ? 84 : 0 }),
  gru: near,
  gruCell: near,
  lstm: near,
  lstmCell: near,
  reduceL1: reduction(1, 0),
  reduceProduct: reduction(1, 0),
  reduceSum: reduction(1, 0),
  reduceL2: reduction(2, 1),
  reduceMean: reduction(1, 2),
  reduceLogSum: reduction(1, 18),
  reduceLogSumExp: reduction(2, 18),
  reduceSumSquare: reduction(2, 0),
  sigmoid: { ulp: 34 },
  softmax: (use) => ({ ulp: use.shapes[0]![(argumentOf(use, 'axis') as number | undefined) ?? 1]! * 3 + 3 }),
  softplus: { ulp: 18 },
  softsign: { ulp: 3 },
  tanh: near,
}

/**
 * What a case is held to: the tolerances of its operators together, as the suite adds them up. One of them that is told as a distance decides for all.
 * @param uses In the order of the graph
 */
export function toleranceOf(uses: readonly Use[]): Tolerance {
  const all = uses.map((use) => {
    const rule = rules[use.operator.name] ?? exact
    return typeof rule === 'function' ? rule(use) : rule
  })
  const distances = all.flatMap((each) => ('absolute' in each ? each.absolute : []))
  if (distances.length > 0) return { absolute: Math.max(...distances) }
  return { ulp: all.reduce((sum, each) => sum + ('ulp' in each ? each.ulp : 0), 0) }
}
