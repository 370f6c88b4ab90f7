import type { MLOperandDescriptor } from '../data-type.js'
import { MAX_RANK } from '../data-type.js'
import { sameShape } from '../shape.js'
import { unsignedLong } from '../web-idl.js'
import {
  anyRank,
  anyType,
  type Given,
  indexTypes,
  type OperatorDefinition,
  ranked,
  same,
} from './definition.js'
import { checkAxis } from './layout.js'

const axis = { axis: { convert: unsignedLong, default: 0 } }

function checkRank({ refuse }: Given, shape: readonly number[]): readonly number[] {
  if (shape.length > MAX_RANK)
    refuse(`the output would have ${shape.length} dimensions: at most ${MAX_RANK} are supported`)
  return shape
}

/** The indices of an element-wise gather or scatter have the input's shape but for one axis. */
function checkElementIndices(given: Given): void {
  const {
    operands: { input, indices },
    refuse,
  } = given
  const at = checkAxis(given)
  const wanted = input.shape.with(at, indices.shape[at]!)
  if (!sameShape(wanted, indices.shape))
    refuse(`the shape [${wanted}] of indices is wanted, found [${indices.shape}]`)
}

/** What a list of coordinates, in the last dimension of `indices`, picks of the input. */
function pickedShape({ operands: { input, indices }, refuse }: Given): number[] {
  const coordinates = indices.shape.at(-1)!
  if (coordinates > input.shape.length)
    refuse(`indices has ${coordinates} coordinates, and the input ${input.shape.length} dimensions`)
  return [...indices.shape.slice(0, -1), ...input.shape.slice(coordinates)]
}

const indices = { types: indexTypes, ranks: anyRank }
const like = (input: MLOperandDescriptor, shape: readonly number[]) => [{ dataType: input.dataType, shape }]

export const gathers: readonly OperatorDefinition[] = [
  {
    name: 'gather',
    parameters: { input: 'operand', indices: 'operand' },
    options: axis,
    limits: {
      input: { types: anyType, ranks: ranked },
      indices,
      output: { types: same('input'), ranks: ranked },
    },
    infer(given) {
      const { input, indices } = given.operands
      const at = checkAxis(given)
      return like(input, checkRank(given, input.shape.toSpliced(at, 1, ...indices.shape)))
    },
  },
  {
    name: 'gatherElements',
    parameters: { input: 'operand', indices: 'operand' },
    options: axis,
    limits: {
      input: { types: anyType, ranks: ranked },
      indices: { types: indexTypes, ranks: same('input') },
      output: { types: same('input'), ranks: same('input') },
    },
    infer(given) {
      checkElementIndices(given)
      return like(given.operands.input, given.operands.indices.shape)
    },
  },
  {
    name: 'gatherND',
    parameters: { input: 'operand', indices: 'operand' },
    options: {},
    limits: {
      input: { types: anyType, ranks: ranked },
      indices: { types: indexTypes, ranks: ranked },
      output: { types: same('input'), ranks: anyRank },
    },
    infer: (given) => like(given.operands.input, checkRank(given, pickedShape(given))),
  },
  {
    name: 'scatterElements',
    parameters: { input: 'operand', indices: 'operand', updates: 'operand' },
    options: axis,
    limits: {
      input: { types: anyType, ranks: ranked },
      indices: { types: indexTypes, ranks: same('input') },
      updates: { types: same('input'), ranks: same('input') },
      output: { types: same('input'), ranks: same('input') },
    },
    infer(given) {
      const {
        operands: { input, indices, updates },
        refuse,
      } = given
      checkElementIndices(given)
      if (!sameShape(updates.shape, indices.shape))
        refuse(`updates wants the shape of indices, [${indices.shape}], found [${updates.shape}]`)
      return [input]
    },
  },
  {
    name: 'scatterND',
    parameters: { input: 'operand', indices: 'operand', updates: 'operand' },
    options: {},
    limits: {
      input: { types: anyType, ranks: ranked },
      indices: { types: indexTypes, ranks: ranked },
      updates: { types: same('input'), ranks: anyRank },
      output: { types: same('input'), ranks: same('input') },
    },
    infer(given) {
      const {
        operands: { input, updates },
        refuse,
      } = given
      const wanted = pickedShape(given)
      if (!sameShape(updates.shape, wanted))
        refuse(`updates wants the shape [${wanted}], found [${updates.shape}]`)
      return [input]
    },
  },
]
