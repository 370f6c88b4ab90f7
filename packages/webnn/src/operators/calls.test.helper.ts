/** A call that the specification takes: shapes of its operands and of operands among its options, what follows the operands, and its outputs' shapes. */
export interface Call {
  readonly operands: Readonly<Record<string, readonly number[]>>
  readonly options?: Readonly<Record<string, readonly number[]>>
  readonly rest?: readonly unknown[]
  readonly outputs: readonly (readonly number[])[]
}

const one = (
  input: string,
  shape: readonly number[],
  rest: readonly unknown[] = [],
  output = shape,
): Call => ({
  operands: { [input]: shape },
  rest,
  outputs: [output],
})
const pair = (a: string, b: string): Call => ({
  operands: { [a]: [2, 1, 3], [b]: [4, 1] },
  outputs: [[2, 4, 3]],
})

const table: Readonly<Record<string, Call>> = {
  'argMin argMax': one('input', [2, 3], [1], [2]),
  batchNormalization: {
    operands: { input: [2, 3, 4], mean: [3], variance: [3] },
    options: { scale: [3], bias: [3] },
    outputs: [[2, 3, 4]],
  },
  cast: one('input', [2, 3], ['int32']),
  clamp: one('input', [2, 3]),
  concat: { operands: { 'inputs[0]': [2, 3], 'inputs[1]': [2, 1] }, rest: [1], outputs: [[2, 4]] },
  conv2d: {
    operands: { input: [1, 2, 5, 5], filter: [3, 2, 3, 3] },
    options: { bias: [3] },
    outputs: [[1, 3, 3, 3]],
  },
  convTranspose2d: {
    operands: { input: [1, 2, 3, 3], filter: [2, 4, 2, 2] },
    options: { bias: [4] },
    outputs: [[1, 4, 4, 4]],
  },
  'cumulativeSum softmax': one('input', [2, 3], [1]),
  'add sub mul div max min pow equal notEqual greater greaterOrEqual lesser lesserOrEqual logicalAnd logicalOr logicalXor':
    pair('a', 'b'),
  'logicalNot isNaN isInfinite': one('a', [2, 3]),
  'abs neg sign relu ceil cos erf exp floor identity log reciprocal roundEven sin sqrt tan elu gelu hardSigmoid hardSwish leakyRelu linear sigmoid softplus softsign tanh reverse triangular':
    one('input', [2, 3]),
  'dequantizeLinear quantizeLinear': {
    operands: { input: [4, 6], scale: [2, 3], zeroPoint: [2, 3] },
    outputs: [[4, 6]],
  },
  expand: one('input', [3, 1], [[2, 3, 4]], [2, 3, 4]),
  gather: { operands: { input: [4, 5], indices: [2, 3] }, outputs: [[2, 3, 5]] },
  gatherElements: { operands: { input: [4, 5], indices: [2, 5] }, outputs: [[2, 5]] },
  gatherND: { operands: { input: [4, 5, 6], indices: [3, 2] }, outputs: [[3, 6]] },
  gemm: { operands: { a: [2, 3], b: [3, 4] }, options: { c: [4] }, outputs: [[2, 4]] },
  gru: {
    operands: { input: [2, 3, 4], weight: [1, 15, 4], recurrentWeight: [1, 15, 5] },
    options: { bias: [1, 15], recurrentBias: [1, 15], initialHiddenState: [1, 3, 5] },
    rest: [2, 5],
    outputs: [[1, 3, 5]],
  },
  gruCell: {
    operands: { input: [3, 4], weight: [15, 4], recurrentWeight: [15, 5], hiddenState: [3, 5] },
    options: { bias: [15], recurrentBias: [15] },
    rest: [5],
    outputs: [[3, 5]],
  },
  instanceNormalization: {
    operands: { input: [1, 2, 3, 4] },
    options: { scale: [2], bias: [2] },
    outputs: [[1, 2, 3, 4]],
  },
  layerNormalization: {
    operands: { input: [2, 3, 4] },
    options: { scale: [3, 4], bias: [3, 4] },
    outputs: [[2, 3, 4]],
  },
  lstm: {
    operands: { input: [2, 3, 4], weight: [1, 20, 4], recurrentWeight: [1, 20, 5] },
    options: {
      bias: [1, 20],
      recurrentBias: [1, 20],
      peepholeWeight: [1, 15],
      initialHiddenState: [1, 3, 5],
      initialCellState: [1, 3, 5],
    },
    rest: [2, 5],
    outputs: [
      [1, 3, 5],
      [1, 3, 5],
    ],
  },
  lstmCell: {
    operands: {
      input: [3, 4],
      weight: [20, 4],
      recurrentWeight: [20, 5],
      hiddenState: [3, 5],
      cellState: [3, 5],
    },
    options: { bias: [20], recurrentBias: [20], peepholeWeight: [15] },
    rest: [5],
    outputs: [
      [3, 5],
      [3, 5],
    ],
  },
  matmul: { operands: { a: [2, 1, 3, 4], b: [5, 4, 6] }, outputs: [[2, 5, 3, 6]] },
  pad: one(
    'input',
    [2, 3],
    [
      [1, 0],
      [0, 2],
    ],
    [3, 5],
  ),
  'averagePool2d l2Pool2d maxPool2d': one('input', [1, 2, 5, 4], [], [1, 2, 1, 1]),
  prelu: pair('input', 'slope'),
  'reduceL1 reduceL2 reduceLogSum reduceLogSumExp reduceMax reduceMean reduceMin reduceProduct reduceSum reduceSumSquare':
    one('input', [2, 3], [], []),
  resample2d: one('input', [1, 2, 3, 4]),
  reshape: one('input', [2, 3], [[6, 1]], [6, 1]),
  scatterElements: { operands: { input: [4, 5], indices: [2, 5], updates: [2, 5] }, outputs: [[4, 5]] },
  scatterND: { operands: { input: [4, 5], indices: [3, 1], updates: [3, 5] }, outputs: [[4, 5]] },
  slice: one(
    'input',
    [4, 5],
    [
      [1, 0],
      [2, 5],
    ],
    [2, 5],
  ),
  split: {
    operands: { input: [4, 5] },
    rest: [2],
    outputs: [
      [2, 5],
      [2, 5],
    ],
  },
  tile: one('input', [2, 3], [[2, 1]], [4, 3]),
  transpose: one('input', [2, 3], [], [3, 2]),
  where: {
    operands: { condition: [2, 1], trueValue: [3], falseValue: [4, 1, 1] },
    outputs: [[4, 2, 3]],
  },
}

/** One call of each operator. */
export const calls: ReadonlyMap<string, Call> = new Map(
  Object.entries(table).flatMap(([names, call]) => names.split(' ').map((name) => [name, call] as const)),
)

/** Kinds of what is no operand, as the specification's IDL has them. A `?` is a union with a number. */
export type Kind =
  | 'long'
  | 'ulong'
  | 'wrapping'
  | 'double'
  | 'floats'
  | 'number'
  | 'boolean'
  | 'ulongs'
  | 'wrappings'
  | 'ulong?'
  | 'enum'
  | 'enums'

const positions: Readonly<Record<string, readonly Kind[]>> = {
  'argMin argMax softmax concat': ['ulong'],
  cumulativeSum: ['wrapping'],
  cast: ['enum'],
  'expand reshape': ['ulongs'],
  'pad slice': ['ulongs', 'ulongs'],
  'gru lstm': ['ulong', 'ulong'],
  'gruCell lstmCell': ['ulong'],
  split: ['ulong?'],
  tile: ['wrappings'],
}
const sliding = { padding: 'ulongs', strides: 'ulongs', dilations: 'ulongs' } as const
const convolution = { ...sliding, groups: 'ulong', inputLayout: 'enum', filterLayout: 'enum' } as const
const network = {
  returnSequence: 'boolean',
  direction: 'enum',
  layout: 'enum',
  activations: 'enums',
} as const
const cell = { layout: 'enum', activations: 'enums' } as const

const members: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  'argMin argMax': { keepDimensions: 'boolean', outputDataType: 'enum' },
  batchNormalization: { axis: 'ulong', epsilon: 'double' },
  clamp: { minValue: 'number', maxValue: 'number' },
  conv2d: convolution,
  convTranspose2d: { ...convolution, outputPadding: 'ulongs', outputSizes: 'ulongs' },
  cumulativeSum: { exclusive: 'boolean', reversed: 'boolean' },
  'elu leakyRelu': { alpha: 'double' },
  'linear hardSigmoid': { alpha: 'double', beta: 'double' },
  'gather gatherElements scatterElements split': { axis: 'ulong' },
  gemm: { alpha: 'double', beta: 'double', aTranspose: 'boolean', bTranspose: 'boolean' },
  gru: { ...network, resetAfter: 'boolean' },
  gruCell: { ...cell, resetAfter: 'boolean' },
  lstm: network,
  lstmCell: cell,
  instanceNormalization: { epsilon: 'double', layout: 'enum' },
  layerNormalization: { axes: 'ulongs', epsilon: 'double' },
  pad: { mode: 'enum', value: 'number' },
  'averagePool2d l2Pool2d maxPool2d': {
    ...sliding,
    windowDimensions: 'ulongs',
    layout: 'enum',
    outputShapeRounding: 'enum',
    outputSizes: 'ulongs',
  },
  'reduceL1 reduceL2 reduceLogSum reduceLogSumExp reduceMax reduceMean reduceMin reduceProduct reduceSum reduceSumSquare':
    { axes: 'ulongs', keepDimensions: 'boolean' },
  resample2d: { mode: 'enum', scales: 'floats', sizes: 'ulongs', axes: 'ulongs' },
  reverse: { axes: 'ulongs' },
  slice: { strides: 'ulongs' },
  transpose: { permutation: 'ulongs' },
  triangular: { upper: 'boolean', diagonal: 'long' },
}

const byName = <T>(table: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.entries(table).find(([names]) => names.split(' ').includes(name))?.[1]

export const kindsOf = (name: string) => ({
  positions: byName(positions, name) ?? [],
  members: byName(members, name) ?? {},
})

const numberless: readonly unknown[] = [1n, Symbol('one')]
const outside: readonly unknown[] = [
  -1,
  2 ** 32,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  'one',
  {},
  undefined,
  ...numberless,
]
const unlisted: readonly unknown[] = [1, 'one', null, {}, true]
const lists = (items: readonly unknown[]) => [...unlisted, ...items.map((item) => [item])]

/** What each kind refuses. */
export const refusedOf: Readonly<Record<Kind, readonly unknown[]>> = {
  ulong: outside,
  long: [-(2 ** 31) - 1, 2 ** 31, Number.NaN, Number.NEGATIVE_INFINITY, 'one', ...numberless],
  wrapping: numberless,
  double: [Number.NaN, Number.POSITIVE_INFINITY, 'one', ...numberless],
  floats: lists([Number.NaN, 1e39, ...numberless]),
  number: [Symbol('one')],
  boolean: [],
  ulongs: lists(outside),
  wrappings: lists(numberless),
  'ulong?': [...outside, ...outside.map((item) => [item])],
  enum: ['', 'none', 'Float32', 0, null, {}, Symbol('one')],
  enums: lists(['none', Symbol('one')]),
}
