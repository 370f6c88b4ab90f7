import type { MLOperandDataType } from '../data-type.js'
import { integerMaximum, toDataType } from '../data-type.js'
import { reducedShape } from '../shape.js'
import { boolean, sequence, unsignedLong, wrappingUnsignedLong } from '../web-idl.js'
import {
  anyRank,
  anyType,
  floats,
  type Limits,
  type OperatorDefinition,
  oneInput,
  ranked,
  same,
  wide,
} from './definition.js'
import { checkAxes, checkAxis } from './layout.js'

const keepDimensions = { convert: boolean, default: false }

const reduction = (name: string, types: Limits['types']): OperatorDefinition => ({
  name,
  parameters: { input: 'operand' },
  options: { axes: { convert: sequence(unsignedLong) }, keepDimensions },
  limits: oneInput(types, anyRank, anyRank),
  infer(given) {
    const {
      operands: { input },
      values,
    } = given
    values.axes ??= input.shape.map((_, at) => at)
    const axes = values.axes as number[]
    checkAxes(given, axes)
    return [
      { dataType: input.dataType, shape: reducedShape(input.shape, axes, values.keepDimensions as boolean) },
    ]
  },
})

const argument = (name: string): OperatorDefinition => ({
  name,
  parameters: { input: 'operand', axis: unsignedLong },
  options: { keepDimensions, outputDataType: { convert: toDataType, default: 'int32' } },
  limits: { input: { types: anyType, ranks: ranked }, output: { types: ['int32', 'int64'], ranks: anyRank } },
  infer(given) {
    const {
      operands: { input },
      values,
      refuse,
    } = given
    const axis = checkAxis(given)
    const dataType = values.outputDataType as MLOperandDataType
    const greatest =
      integerMaximum[dataType] ?? refuse(`outputDataType int32 or int64 is wanted, found ${dataType}`)
    if (input.shape[axis]! > greatest)
      refuse(`axis ${axis} has ${input.shape[axis]} elements, more than ${dataType} can count`)
    return [{ dataType, shape: reducedShape(input.shape, [axis], values.keepDimensions as boolean) }]
  },
})

export const reductions: readonly OperatorDefinition[] = [
  argument('argMin'),
  argument('argMax'),
  ...['reduceL1', 'reduceSum', 'reduceSumSquare', 'reduceProduct'].map((name) => reduction(name, wide)),
  ...['reduceL2', 'reduceLogSum', 'reduceLogSumExp', 'reduceMean'].map((name) => reduction(name, floats)),
  ...['reduceMax', 'reduceMin'].map((name) => reduction(name, anyType)),
  {
    name: 'cumulativeSum',
    parameters: { input: 'operand', axis: wrappingUnsignedLong },
    options: {
      exclusive: { convert: boolean, default: false },
      reversed: { convert: boolean, default: false },
    },
    limits: { input: { types: wide, ranks: ranked }, output: { types: same('input'), ranks: same('input') } },
    infer(given) {
      checkAxis(given)
      return [given.operands.input]
    },
  },
  {
    name: 'softmax',
    parameters: { input: 'operand', axis: unsignedLong },
    options: {},
    limits: oneInput(floats, ranked),
    infer(given) {
      checkAxis(given)
      return [given.operands.input]
    },
  },
]
