import type { MLOperandDataType } from '../data-type.js'
import { castNumber, toDataType } from '../data-type.js'
import { broadcast, broadcastsBlockwise, sameShape } from '../shape.js'
import { double, type Member, mlNumber } from '../web-idl.js'
import {
  anyRank,
  anyType,
  floats,
  type Given,
  type Limits,
  type OperatorDefinition,
  oneInput,
  same,
  signed,
  uint8,
} from './definition.js'

const asInput = ({ operands }: Given) => [operands.input]

/** An operator of one input whose output is like it. Its numbers are cast to the input's data type. */
function unary(
  name: string,
  types: Limits['types'],
  numbers: Readonly<Record<string, number>> = {},
): OperatorDefinition {
  const options = Object.fromEntries(
    Object.entries(numbers).map(([option, value]): [string, Member<number>] => [
      option,
      { convert: double, default: value },
    ]),
  )
  return {
    name,
    parameters: { input: 'operand' },
    options,
    limits: oneInput(types),
    infer(given) {
      for (const option of Object.keys(numbers))
        given.values[option] = castNumber(given.values[option] as number, given.operands.input.dataType)
      return asInput(given)
    },
  }
}

/** The shape of two operands that are stretched to each other. */
function together({ operands: { a, b }, refuse }: Given): number[] {
  return (
    broadcast(a.shape, b.shape) ??
    refuse(`shapes [${a.shape}] and [${b.shape}] cannot be broadcast to each other`)
  )
}

function binary(name: string, types: Limits['types'], output?: MLOperandDataType): OperatorDefinition {
  return {
    name,
    parameters: { a: 'operand', b: 'operand' },
    options: {},
    limits: {
      a: { types, ranks: anyRank },
      b: { types: same('a'), ranks: anyRank },
      output: { types: output === undefined ? same('a') : [output], ranks: anyRank },
    },
    infer: (given) => [{ dataType: output ?? given.operands.a.dataType, shape: together(given) }],
  }
}

const logicalUnary = (name: string, types: Limits['types']): OperatorDefinition => ({
  name,
  parameters: { a: 'operand' },
  options: {},
  limits: { a: { types, ranks: anyRank }, output: { types: uint8, ranks: anyRank } },
  infer: ({ operands: { a } }) => [{ dataType: 'uint8', shape: a.shape }],
})

/** Scale and zero point that are stretched over blocks of the input. */
const quantization = (
  name: string,
  limits: OperatorDefinition['limits'],
  output: string,
): OperatorDefinition => ({
  name,
  parameters: { input: 'operand', scale: 'operand', zeroPoint: 'operand' },
  options: {},
  limits,
  infer({ operands, refuse }) {
    const { input, scale, zeroPoint } = operands
    if (!sameShape(scale.shape, zeroPoint.shape))
      refuse(`scale and zeroPoint want one shape, found [${scale.shape}] and [${zeroPoint.shape}]`)
    if (!broadcastsBlockwise(scale.shape, input.shape))
      refuse(`the shape [${scale.shape}] of scale does not divide that of the input, [${input.shape}]`)
    return [{ dataType: operands[output].dataType, shape: input.shape }]
  },
})

const integers = ['uint8', 'int8', 'uint32', 'int32'] as const
const quantized: Limits = { types: integers, ranks: anyRank }
const scaled: Limits = { types: floats, ranks: anyRank }

/** Sections "Element-wise ..." of the specification, and the activations. */
export const elementwise: readonly OperatorDefinition[] = [
  ...['add', 'sub', 'mul', 'div', 'max', 'min', 'pow'].map((name) => binary(name, anyType)),
  ...['equal', 'notEqual', 'greater', 'greaterOrEqual', 'lesser', 'lesserOrEqual'].map((name) =>
    binary(name, anyType, 'uint8'),
  ),
  ...['logicalAnd', 'logicalOr', 'logicalXor'].map((name) => binary(name, uint8, 'uint8')),
  logicalUnary('logicalNot', uint8),
  logicalUnary('isNaN', floats),
  logicalUnary('isInfinite', floats),
  ...['abs', 'neg', 'sign', 'relu'].map((name) => unary(name, signed)),
  unary('identity', anyType),
  ...['ceil', 'cos', 'erf', 'exp', 'floor', 'log', 'reciprocal', 'roundEven', 'sin', 'sqrt', 'tan'].map(
    (name) => unary(name, floats),
  ),
  ...['gelu', 'hardSwish', 'sigmoid', 'softplus', 'softsign', 'tanh'].map((name) => unary(name, floats)),
  unary('elu', floats, { alpha: 1 }),
  unary('hardSigmoid', floats, { alpha: 0.2, beta: 0.5 }),
  unary('leakyRelu', floats, { alpha: 0.01 }),
  unary('linear', floats, { alpha: 1, beta: 0 }),
  {
    name: 'cast',
    parameters: { input: 'operand', dataType: toDataType },
    options: {},
    limits: { input: { types: anyType, ranks: anyRank }, output: { types: anyType, ranks: same('input') } },
    infer: ({ operands: { input }, values }) => [
      { dataType: values.dataType as MLOperandDataType, shape: input.shape },
    ],
  },
  {
    name: 'clamp',
    parameters: { input: 'operand' },
    options: { minValue: { convert: mlNumber }, maxValue: { convert: mlNumber } },
    limits: oneInput(anyType),
    infer(given) {
      const { values, operands, refuse } = given
      const { dataType } = operands.input
      const least = castNumber((values.minValue as number | undefined) ?? Number.NEGATIVE_INFINITY, dataType)
      const greatest = castNumber(
        (values.maxValue as number | undefined) ?? Number.POSITIVE_INFINITY,
        dataType,
      )
      if (least > greatest) refuse(`minValue ${least} is above maxValue ${greatest}`)
      // A NaN bounds nothing.
      values.minValue = Number.isNaN(least) ? Number.NEGATIVE_INFINITY : least
      values.maxValue = Number.isNaN(greatest) ? Number.POSITIVE_INFINITY : greatest
      return asInput(given)
    },
  },
  {
    name: 'prelu',
    parameters: { input: 'operand', slope: 'operand' },
    options: {},
    limits: {
      input: { types: signed, ranks: anyRank },
      slope: { types: same('input'), ranks: anyRank },
      output: { types: same('input'), ranks: anyRank },
    },
    infer({ operands: { input, slope }, refuse }) {
      const shape = broadcast(slope.shape, input.shape)
      return [
        {
          dataType: input.dataType,
          shape:
            shape ??
            refuse(
              `the shape [${slope.shape}] of slope and that of the input, [${input.shape}], cannot be broadcast to each other`,
            ),
        },
      ]
    },
  },
  {
    name: 'where',
    parameters: { condition: 'operand', trueValue: 'operand', falseValue: 'operand' },
    options: {},
    limits: {
      condition: { types: uint8, ranks: anyRank },
      trueValue: { types: anyType, ranks: anyRank },
      falseValue: { types: same('trueValue'), ranks: anyRank },
      output: { types: same('trueValue'), ranks: anyRank },
    },
    infer({ operands: { condition, trueValue, falseValue }, refuse }) {
      const values = broadcast(trueValue.shape, falseValue.shape)
      const shape = values && broadcast(condition.shape, values)
      return [
        {
          dataType: trueValue.dataType,
          shape:
            shape ??
            refuse(
              `shapes [${condition.shape}], [${trueValue.shape}] and [${falseValue.shape}] cannot be broadcast to each other`,
            ),
        },
      ]
    },
  },
  quantization(
    'quantizeLinear',
    {
      input: scaled,
      scale: { types: same('input'), ranks: same('input') },
      zeroPoint: { types: integers, ranks: same('input') },
      output: { types: same('zeroPoint'), ranks: same('input') },
    },
    'zeroPoint',
  ),
  quantization(
    'dequantizeLinear',
    {
      input: quantized,
      scale: { types: floats, ranks: same('input') },
      zeroPoint: { types: same('input'), ranks: same('input') },
      output: { types: same('scale'), ranks: same('input') },
    },
    'scale',
  ),
]
