import type { MLOperandDataType, Operator, Value } from '@uaccel/webnn'
import type { ComputeType, StageFunction } from '../tensor-steps.js'

/** An argument: the result before, an operand, or a number. */
export type Argument = 'result' | Value | number

/** A stage whose operands are not yet in their places. */
export interface StageDraft {
  readonly fn: StageFunction
  readonly x?: Argument
  readonly y?: Argument
  readonly z?: Argument
  readonly alpha?: number
  readonly beta?: number
}

/** An element-wise operator as stages. */
export interface Elementwise {
  readonly stages: (operator: Operator) => readonly StageDraft[]
  /** Types in which it may compute, the best first; none where it cannot be done. */
  readonly computes: (operator: Operator) => readonly ComputeType[]
  /** False where the result is right only after it was written: nothing can follow. */
  readonly carries: (operator: Operator) => boolean
  /** Data types of operands and outputs that can be. */
  readonly types: Readonly<Record<string, readonly MLOperandDataType[]>>
}

/** All numbers of these types are numbers of those in which is computed. Bytes are small enough for any; they count modulo 2^32 as `uint32`. */
const natural: Readonly<Partial<Record<MLOperandDataType, readonly ComputeType[]>>> = {
  float32: ['float32'],
  int32: ['int32'],
  uint32: ['uint32'],
  int8: ['int32', 'float32'],
  uint8: ['int32', 'float32', 'uint32'],
}
export const computesOf = (dataType: MLOperandDataType): readonly ComputeType[] => natural[dataType] ?? []

const isByte = (dataType: MLOperandDataType) => dataType === 'int8' || dataType === 'uint8'

export const narrow = ['float32', 'int32', 'uint32', 'int8', 'uint8'] as const
const signed = ['float32', 'int32', 'int8'] as const
const float = ['float32'] as const
const byte = ['uint8'] as const

const first = ({ inputs }: Operator): Value => inputs.input ?? inputs.a!
const always = () => true

/** An operator whose result is right in the type in which its input is. */
const plain = (
  stages: Elementwise['stages'],
  types: Elementwise['types'],
  decides: (operator: Operator) => Value = first,
): Elementwise => ({
  stages,
  types,
  computes: (operator) => computesOf(decides(operator).descriptor.dataType),
  carries: always,
})

/** An operator whose result has to be cut to a byte, where it is one: that is done when it is written, from an integer. */
const wrapping = (lowering: Elementwise): Elementwise => ({
  ...lowering,
  computes: (operator) =>
    isByte(first(operator).descriptor.dataType) ? ['int32'] : lowering.computes(operator),
  carries: (operator) => !isByte(first(operator).descriptor.dataType),
})

const unary = (fn: StageFunction, types: readonly MLOperandDataType[]) =>
  plain((operator) => [{ fn, x: first(operator) }], { input: types, a: types })

/** Functions that take `alpha`, and `beta`, of the node. */
const parametric = (fn: StageFunction) =>
  plain(
    (operator) => [
      {
        fn,
        x: first(operator),
        alpha: (operator.attributes.alpha as number | undefined) ?? 0,
        beta: (operator.attributes.beta as number | undefined) ?? 0,
      },
    ],
    { input: float },
  )

const binary = (fn: StageFunction, types: readonly MLOperandDataType[]) =>
  plain(({ inputs: { a, b } }) => [{ fn, x: a!, y: b! }], { a: types })

/** Whether all bytes of a constant are 0. */
const isZero = ({ source }: Value) => source.kind === 'constant' && source.bytes.every((byte) => byte === 0)

const table = <K extends string>(names: readonly K[], make: (name: K) => Elementwise) =>
  Object.fromEntries(names.map((name) => [name, make(name)]))

/** By the names of the specification. */
export const elementwise: Readonly<Record<string, Elementwise>> = {
  ...table(
    ['ceil', 'cos', 'erf', 'exp', 'floor', 'log', 'reciprocal', 'roundEven', 'sin', 'sqrt', 'tan'],
    (name) => unary(name, float),
  ),
  ...table(['gelu', 'hardSwish', 'sigmoid', 'softplus', 'softsign', 'tanh'], (name) => unary(name, float)),
  ...table(['elu', 'hardSigmoid', 'leakyRelu', 'linear'], parametric),
  ...table(['isNaN', 'isInfinite'], (name) => unary(name, float)),
  ...table(['abs', 'neg'], (name) => wrapping(unary(name, signed))),
  sign: unary('sign', signed),
  identity: unary('move', narrow),
  logicalNot: unary('not', byte),
  relu: plain(({ inputs: { input } }) => [{ fn: 'max', x: input!, y: 0 }], { input: signed }),
  clamp: plain(
    ({ inputs: { input }, attributes }) => [
      { fn: 'clamp', x: input!, alpha: Number(attributes.minValue), beta: Number(attributes.maxValue) },
    ],
    { input: narrow },
  ),
  ...table(['add', 'sub', 'mul', 'div'], (name) => wrapping(binary(name, narrow))),
  ...table(['max', 'min'], (name) => binary(name, narrow)),
  pow: binary('pow', float),
  ...table(['equal', 'notEqual', 'greater', 'greaterOrEqual', 'lesser', 'lesserOrEqual'], (name) =>
    binary(name, narrow),
  ),
  logicalAnd: binary('and', byte),
  logicalOr: binary('or', byte),
  logicalXor: binary('xor', byte),
  prelu: wrapping(
    plain(({ inputs: { input, slope } }) => [{ fn: 'prelu', x: input!, y: slope! }], { input: signed }),
  ),
  where: plain(
    ({ inputs: { condition, trueValue, falseValue } }) => [
      { fn: 'select', x: condition!, y: trueValue!, z: falseValue! },
    ],
    { trueValue: narrow },
    ({ inputs: { trueValue } }) => trueValue!,
  ),
  /** Between integers the low bits are taken when they are written, and of `float32` what is nearest to 0 and in range. */
  cast: {
    stages: ({ inputs: { input } }) => [{ fn: 'move', x: input! }],
    types: { input: narrow, output: narrow },
    computes: ({ inputs: { input }, outputs: [output] }) => {
      const [from, to] = [input!.descriptor.dataType, output!.descriptor.dataType]
      if (from === 'float32' || to === 'float32') return ['float32']
      return from === 'uint32' ? ['uint32'] : ['int32']
    },
    carries: ({ inputs: { input }, outputs: [output] }) => {
      const [from, to] = [input!.descriptor.dataType, output!.descriptor.dataType]
      return to === 'float32' || from === to || (from === 'uint8' && to === 'int32')
    },
  },
  /** Of 32 bits the zero point has more digits than what is computed with. */
  quantizeLinear: {
    stages: ({ inputs: { input, scale, zeroPoint } }) => [
      { fn: 'div', x: input!, y: scale! },
      { fn: 'roundEven' },
      ...(isZero(zeroPoint!) ? [] : [{ fn: 'add', y: zeroPoint! } as const]),
    ],
    types: { input: float, zeroPoint: ['int8', 'uint8'] },
    computes: () => ['float32'],
    carries: () => false,
  },
  dequantizeLinear: {
    stages: ({ inputs: { input, scale, zeroPoint } }) =>
      isZero(zeroPoint!)
        ? [{ fn: 'mul', x: input!, y: scale! }]
        : [
            { fn: 'sub', x: input!, y: zeroPoint! },
            { fn: 'mul', y: scale! },
          ],
    types: { input: ['int8', 'uint8', 'int32', 'uint32'], output: float },
    computes: ({ inputs: { input, zeroPoint } }) =>
      isByte(input!.descriptor.dataType) || isZero(zeroPoint!) ? ['float32'] : [],
    carries: always,
  },
}
