import fc from 'fast-check'
import type {
  AnyTensorStep,
  ComputeType,
  Place,
  Stage,
  StageFunction,
  TensorType,
  View,
} from '../src/driver.js'
import type { Case, Places } from './cases.js'
import { Dice } from './dice.js'
import * as reference from './tensor-reference.js'

const all = ['uint8', 'int8', 'int32', 'float32', 'uint32', 'int64', 'uint64'] as const
const narrow = ['uint8', 'int8', 'int32', 'float32', 'uint32'] as const
const integers = ['uint8', 'int8', 'int32', 'uint32'] as const
const exactly = [0, 0] as const
/** What 8.4 allows a function of `float32`: two units in the last place, or 2^-24. */
const twoUnits = [2 ** -24, 2 ** -22] as const

/** Words of the reference, with the way to a step of the driver. */
interface Tensor extends reference.Operand {
  readonly bytes: Uint8Array
  view(at: Place): View
}

interface Layout {
  readonly strides: readonly number[]
  /** Elements before the one of index 0, and in all. */
  readonly before: number
  readonly size: number
}

/** Strides for so many places along each dimension: in any order, with gaps, some reversed, some (where allowed) broadcast. */
function layOut(
  dice: Dice,
  counts: readonly number[],
  fixed: readonly boolean[],
  broadcast: boolean,
): Layout {
  const strides = counts.map(() => 0)
  const order = counts.map((_, r) => r)
  for (let i = order.length - 1; i > 0; i--) {
    const j = dice.below(i + 1)
    ;[order[i], order[j]] = [order[j], order[i]]
  }
  let step = 1 + dice.below(2)
  let before = 0
  let size = 1
  for (const r of order) {
    if (fixed[r] || (broadcast && dice.below(5) === 0)) continue
    const reversed = dice.below(4) === 0
    strides[r] = reversed ? -step : step
    const reach = (counts[r] - 1) * step
    if (reversed) before += reach
    size += reach
    step = step * counts[r] + dice.below(2)
  }
  return { strides, before, size }
}

function tensorOf(
  type: TensorType,
  { strides, before, size }: Layout,
  rank: number,
  value?: (i: number) => number | bigint,
): Tensor {
  const bytes = new Uint8Array(size * reference.bytesOf[type]).fill(0xee)
  const operand = {
    type,
    memory: new DataView(bytes.buffer),
    first: before,
    strides: strides.slice(0, rank),
  }
  for (let i = 0; value !== undefined && i < size; i++) reference.put(operand, i - before, value(i))
  return {
    ...operand,
    bytes,
    view: ({ buffer, offset = 0 }) => ({
      at: { buffer, offset: offset + before * reference.bytesOf[type] },
      type,
      strides: operand.strides,
    }),
  }
}

/** Small whole numbers: their sums and products are exact. */
const whole = (dice: Dice, type: TensorType, reach = 9) => {
  const signed = !type.startsWith('u')
  return () => dice.within([signed ? -reach : 0, reach])
}
const real =
  (dice: Dice, reach = 4) =>
  () =>
    Math.fround(((dice.below(2_000_001) - 1e6) / 1e6) * reach)
/** Quarters, whose functions are exact, and what is no number. */
const odd = (dice: Dice) => () =>
  dice.below(12) === 0
    ? [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e9][dice.below(4)]
    : (dice.below(81) - 40) / 4
const any = (dice: Dice, type: TensorType) => (): number | bigint =>
  reference.bytesOf[type] === 8
    ? (BigInt(dice.below(0xffffffff)) << 32n) | BigInt(dice.below(0xffffffff))
    : type === 'float32'
      ? odd(dice)()
      : dice.below(0xffffffff)

const pick = <T>(dice: Dice, of: readonly T[]): T => of[dice.below(of.length)]

const exactFunctions: readonly StageFunction[] = [
  'move',
  'abs',
  'neg',
  'sign',
  'ceil',
  'floor',
  'roundEven',
  'trunc',
  'sqrt',
  'clamp',
  'isNaN',
  'isInfinite',
  'not',
  'add',
  'sub',
  'mul',
  'min',
  'max',
  'equal',
  'notEqual',
  'greater',
  'greaterOrEqual',
  'lesser',
  'lesserOrEqual',
  'and',
  'or',
  'xor',
  'select',
]
const onlyReal: readonly StageFunction[] = [
  'ceil',
  'floor',
  'roundEven',
  'trunc',
  'sqrt',
  'isNaN',
  'isInfinite',
]
const ofIntegers: readonly StageFunction[] = [...exactFunctions.filter((fn) => !onlyReal.includes(fn)), 'div']
const approximate: readonly StageFunction[] = [
  'reciprocal',
  'div',
  'exp',
  'log',
  'sin',
  'cos',
  'tan',
  'erf',
  'tanh',
  'sigmoid',
  'softplus',
  'softsign',
  'gelu',
  'elu',
  'hardSigmoid',
  'leakyRelu',
  'linear',
  'hardSwish',
  'pow',
  'prelu',
]
const arity = (fn: StageFunction) => {
  if (fn === 'select') return 3
  return exactFunctions.indexOf(fn) >= exactFunctions.indexOf('add') || ['div', 'pow', 'prelu'].includes(fn)
    ? 2
    : 1
}

function stage(dice: Dice, fn: StageFunction, sources: readonly Stage['x'][], compute: ComputeType): Stage {
  const [low, high] = compute === 'uint32' ? [0, 9] : [-5, 5]
  const source = () => pick(dice, sources)!
  return {
    fn,
    x: source(),
    ...(arity(fn) > 1 && { y: source() }),
    ...(arity(fn) > 2 && { z: source() }),
    alpha: dice.within([low, high]),
    beta: dice.within([low, high]),
  }
}

function chain(
  dice: Dice,
  compute: ComputeType,
  operands: readonly ('a' | 'b' | 'c')[],
  outer: number,
): Stage[] {
  const sources: Stage['x'][] = ['result', 'result', ...operands, 'alpha', 'beta']
  for (let index = 0; index < outer; index++) sources.push({ index })
  const functions = compute === 'float32' ? exactFunctions : ofIntegers
  return Array.from({ length: dice.below(6) }, () => stage(dice, pick(dice, functions), sources, compute))
}

interface Shape {
  readonly dims: readonly number[]
  readonly seed: number
}
const shape = fc.record({
  // So small that a tensor with gaps fits the room that there is for it.
  dims: fc
    .array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 5 })
    .filter((dims) => dims.reduce((product, dim) => product * dim) <= 300),
  seed: fc.integer({ min: 1, max: 0x7fffffff }),
})

interface Parts {
  readonly dims: readonly number[]
  readonly compute: ComputeType
  readonly inner?: number
  readonly a: Tensor
  readonly b?: Tensor | undefined
  readonly c?: Tensor | undefined
  readonly d: Tensor
  readonly stages?: readonly Stage[]
  readonly tolerance?: Case['tolerance']
}

/** Computes what is expected, and names the places of a step. */
function caseOf(
  { dims, compute, inner = 0, a, b, c, d, stages = [], tolerance }: Parts,
  compute_: (op: reference.Operation) => void,
  own: (common: Common) => AnyTensorStep,
): Case {
  compute_({ dims, compute, inner, a, ...(b && { b }), ...(c && { c }), d, stages })
  return {
    inputs: { a: a.bytes, ...(b && { b: b.bytes }), ...(c && { c: c.bytes }) },
    expected: d.bytes,
    ...(d.type === 'float32' && { tolerance: tolerance ?? exactly }),
    step: (at: Places) =>
      own({
        dims,
        compute,
        a: a.view(at.a),
        ...(b && { b: b.view(at.b) }),
        ...(c && { c: c.view(at.c) }),
        d: d.view(at.d),
        stages,
      }),
  }
}
type Common = Omit<Extract<AnyTensorStep, { op: 'elementwise' }>, 'op'>
const withB = (common: Common) => ({ ...common, b: common.b! })

/** An input over `counts`, the first `rank` of which are dimensions. */
function input(
  dice: Dice,
  type: TensorType,
  counts: readonly number[],
  value: (i: number) => number | bigint,
  fixed: readonly boolean[] = [],
): Tensor {
  return tensorOf(type, layOut(dice, counts, fixed, true), counts.length, value)
}
function output(dice: Dice, type: TensorType, dims: readonly number[], inner = 0): Tensor {
  const reduced = dims.map((_, r) => r >= dims.length - inner)
  return tensorOf(type, layOut(dice, dims, reduced, false), dims.length)
}

/** `float32` or integers, with B and C sometimes there. */
function computing(dice: Dice, dims: readonly number[], inner = 0) {
  const compute = pick(dice, ['float32', 'float32', 'int32', 'uint32'] as const)
  const reduced = dims.map((_, r) => r >= dims.length - inner)
  const other = () => {
    if (dice.below(2) === 0) return undefined
    const type = pick(dice, compute === 'float32' ? narrow : integers)
    return input(dice, type, dims, type === 'float32' ? odd(dice) : any(dice, type), reduced)
  }
  return { compute, b: other(), c: other() }
}
const names = (b: unknown, c: unknown) => [...(b ? (['b'] as const) : []), ...(c ? (['c'] as const) : [])]

const elementwise = shape.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  if (dice.below(4) === 0) {
    const type = pick(dice, all)
    const a = input(dice, type, dims, any(dice, type))
    const parts = { dims, compute: 'none', a, d: output(dice, type, dims), tolerance: exactly } as const
    return caseOf(parts, reference.elementwise, (common) => ({ op: 'elementwise', ...common }))
  }
  const { compute, b, c } = computing(dice, dims)
  const type = pick(dice, compute === 'float32' ? narrow : integers)
  const a = input(dice, type, dims, type === 'float32' ? odd(dice) : any(dice, type))
  const stages = chain(dice, compute, ['a', ...names(b, c)], dims.length)
  const d = output(dice, pick(dice, narrow), dims)
  return caseOf({ dims, compute, a, b, c, d, stages }, reference.elementwise, (common) => ({
    op: 'elementwise',
    ...common,
  }))
})

/** One function each whose results are not exact. */
const functions = shape.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const a = input(dice, 'float32', dims, real(dice))
  const b = input(dice, 'float32', dims, real(dice))
  const fn = pick(dice, approximate)
  const { alpha, beta } = { alpha: real(dice)(), beta: real(dice)() }
  const stages: Stage[] = [{ fn, x: 'a', ...(arity(fn) > 1 && { y: 'b' }), alpha, beta }]
  // Products of parameters are added to others, whose difference may be small.
  const tolerance = fn === 'linear' || fn === 'hardSigmoid' ? ([2 ** -19, 2 ** -22] as const) : twoUnits
  const d = output(dice, 'float32', dims)
  return caseOf(
    { dims, compute: 'float32', a, b, d, stages, tolerance },
    reference.elementwise,
    (common) => ({
      op: 'elementwise',
      ...common,
    }),
  )
})

/** Windows over the dimensions of `dims`, and what A has along each. */
function slides(dice: Dice, dims: readonly number[], inner: number) {
  const outer = dims.length - inner
  const windows: reference.Window[] = []
  const counts = [...dims]
  const fixed = dims.map(() => false)
  for (let w = 0; w < Math.min(2, outer, inner, dice.below(4)); w++) {
    const size = 1 + dice.below(7)
    const window = {
      size,
      out: w,
      kernel: outer + w,
      stride: 1 + dice.below(3),
      dilation: 1 + dice.below(2),
      pad: dice.below(3),
    }
    windows.push(window)
    counts[window.out] = size
    counts[window.kernel] = 1
    fixed[window.kernel] = true
  }
  return { windows, counts, fixed, transposed: windows.length > 0 && dice.below(2) === 0 }
}

const contract = shape.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const inner = dice.below(dims.length + 1)
  const { windows, transposed, counts, fixed } = slides(dice, dims, inner)
  const a = input(dice, 'float32', counts, whole(dice, 'float32'), fixed)
  const b = input(dice, 'float32', dims, whole(dice, 'float32'))
  const { c } = computing(dice, dims, inner)
  const stages = chain(dice, 'float32', names(undefined, c), dims.length - inner)
  const d = output(dice, pick(dice, narrow), dims, inner)
  return caseOf(
    { dims, compute: 'float32', inner, a, b, c, d, stages },
    (op) => reference.contract(op, { windows, transposed }),
    (common) => ({ op: 'contract', ...withB(common), inner, windows, transposed }),
  )
})

const ofReals = ['mean', 'l2', 'logSum', 'logSumExp'] as const
const exactReductions = ['sum', 'product', 'min', 'max', 'sumSquare', 'l1'] as const
const reduce = shape.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const inner = dice.below(dims.length + 1)
  const { compute, b, c } = computing(dice, dims, inner)
  const isReal = compute === 'float32'
  const fn = pick(dice, [...exactReductions, 'argMin', 'argMax', ...(isReal ? ofReals : [])] as const)
  const isArg = fn === 'argMin' || fn === 'argMax'
  const sliding = slides(dice, dims, isArg ? 0 : inner)
  const { windows, transposed, counts, fixed } = sliding
  const type = pick(dice, isReal ? narrow : integers)
  // Products stay exact, and logarithms have what they are of.
  const reach = fn === 'product' ? 1 : fn.startsWith('log') ? 6 : 50
  const value = isArg && type === 'float32' ? odd(dice) : whole(dice, type, reach)
  const a = input(dice, type, counts, value, fixed)
  const exact = !(ofReals as readonly string[]).includes(fn)
  const countPadding = dice.below(2) === 0
  const parts = { dims, compute, inner, a, d: output(dice, pick(dice, narrow), dims, inner) }
  const more = isArg
    ? { d: output(dice, pick(dice, ['int32', 'int64'] as const), dims, inner) }
    : exact
      ? { b, c, stages: chain(dice, compute, names(b, c), dims.length - inner) }
      : { d: output(dice, 'float32', dims, inner), tolerance: [2 ** -20, 2 ** -20] as const }
  return caseOf(
    { ...parts, ...more },
    (op) => reference.reduce(op, fn, { ...sliding, countPadding }),
    (common) => ({ op: 'reduce', ...common, fn, inner, windows, transposed, countPadding }),
  )
})

const normalise = shape.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const inner = dice.below(dims.length + 1)
  const fn = pick(dice, ['softmax', 'standardise'] as const)
  // Without it a variance of nearly nothing would make much of every rounding.
  const epsilon = fn === 'standardise' ? 0.5 : undefined
  const a = input(dice, 'float32', dims, real(dice))
  const [b, c] = [0, 1].map(() => input(dice, 'float32', dims, real(dice)))
  const stages: Stage[] = [
    { fn: 'mul', y: 'b' },
    { fn: 'add', y: 'c' },
  ]
  const d = output(dice, 'float32', dims)
  return caseOf(
    { dims, compute: 'float32', inner, a, b, c, d, stages, tolerance: [1e-5, 1e-5] },
    (op) => reference.normalise(op, fn, epsilon ?? 0),
    (common) => ({ op: 'normalise', ...common, fn, inner, ...(epsilon !== undefined && { epsilon }) }),
  )
})

const scan = shape.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const { compute, b, c } = computing(dice, dims)
  const type = pick(dice, compute === 'float32' ? narrow : integers)
  const a = input(dice, type, dims, whole(dice, type))
  const exclusive = dice.below(2) === 0
  const stages = chain(dice, compute, names(b, c), dims.length)
  const d = output(dice, pick(dice, narrow), dims)
  return caseOf(
    { dims, compute, inner: 1, a, b, c, d, stages },
    (op) => reference.scan(op, exclusive),
    (common) => ({ op: 'scan', ...common, exclusive }),
  )
})

/** GATHER and SCATTER: the axes belong to the tensor whose elements are found by the indices. */
function indexing(dice: Dice, dims: readonly number[]) {
  const rank = dims.length
  const type = pick(dice, all)
  const sizes = Array.from({ length: 1 + dice.below(3) }, () => 1 + dice.below(4))
  const kind = pick(dice, ['int32', 'uint32', 'int64'] as const)
  const b = layOut(dice, [...dims, sizes.length], [], true)
  const index = tensorOf(kind, b, rank, () => dice.within([kind === 'uint32' ? 0 : -6, 6]))
  const of = (strides: readonly number[]) => ({
    stride: b.strides[rank],
    axes: sizes.map((size, k) => ({ size, stride: strides[rank + k] })),
  })
  return { type, counts: [...dims, ...sizes], index, of }
}

const small = shape.map(({ dims, seed }) => ({ dims: dims.slice(0, 2), seed }))
const gather = small.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const { type, counts, index: b, of } = indexing(dice, dims)
  const layout = layOut(dice, counts, [], true)
  const a = tensorOf(type, layout, dims.length, any(dice, type))
  const indices = of(layout.strides)
  return caseOf(
    { dims, compute: 'none', a, b, d: output(dice, type, dims) },
    (op) => reference.gather(op, indices),
    (common) => ({ op: 'gather', ...withB(common), indices }),
  )
})

const scatter = small.map(({ dims, seed }: Shape): Case => {
  const dice = new Dice(seed)
  const { type, counts, index: b, of } = indexing(dice, dims)
  // Dimensions that stand still make elements meet.
  const layout = layOut(dice, counts, [], true)
  const a = input(dice, type, dims, any(dice, type))
  const indices = of(layout.strides)
  return caseOf(
    { dims, compute: 'none', a, b, d: tensorOf(type, layout, dims.length) },
    (op) => reference.scatter(op, indices),
    (common) => ({ op: 'scatter', ...withB(common), indices }),
  )
})

const resample = shape
  .filter(({ dims }) => dims.length >= 2)
  .map(({ dims, seed }: Shape): Case => {
    const dice = new Dice(seed)
    const v = dice.below(dims.length)
    const h = (v + 1 + dice.below(dims.length - 1)) % dims.length
    const counts = [...dims]
    const [first, second] = [v, h].map((dimension) => {
      const size = 1 + dice.below(6)
      counts[dimension] = size
      return { dimension, size, scale: pick(dice, [0.25, 0.5, 1, 2, 4]) }
    })
    const axes = [first, second] as const
    const fn = pick(dice, ['nearest', 'linear'] as const)
    const { b, c } = computing(dice, dims)
    const type = pick(dice, narrow)
    const a = input(dice, type, counts, whole(dice, type))
    // Weights are of few bits, and so are results.
    const stages = chain(dice, 'float32', names(b, c), dims.length)
    const d = output(dice, pick(dice, narrow), dims)
    return caseOf(
      { dims, compute: 'float32', a, b, c, d, stages },
      (op) => reference.resample(op, fn, axes),
      (common) => ({ op: 'resample', ...common, fn, axes }),
    )
  })

/** Random cases of each operation on tensors with strides. */
export const tensorCases: Readonly<Record<string, fc.Arbitrary<Case>>> = {
  elementwise,
  functions,
  contract,
  reduce,
  normalise,
  scan,
  gather,
  scatter,
  resample,
}
