import { castNumber, MAX_RANK } from '../data-type.js'
import { broadcast, broadcastTo, sameShape } from '../shape.js'
import { boolean, double, enumeration, sequence, unsignedLong } from '../web-idl.js'
import { floats, type Given, type OperatorDefinition, oneInput, rank, same } from './definition.js'
import { checkAxes } from './layout.js'

/** An operand that is left out, or has that shape. */
function checkShape({ operands, refuse }: Given, name: string, wanted: readonly number[]): void {
  const found = operands[name]
  if (found && !sameShape(found.shape, wanted))
    refuse(`${name} wants the shape [${wanted}], found [${found.shape}]`)
}

function castOptions({ values, operands }: Given, names: readonly string[], of = 'input'): void {
  for (const name of names) values[name] = castNumber(values[name] as number, operands[of]!.dataType)
}

const one = { types: same('input'), ranks: rank(1) }
const epsilon = { convert: double, default: 1e-5 }
const matrices = rank(2, MAX_RANK)

/** Products of matrices, and the normalisations. */
export const matrix: readonly OperatorDefinition[] = [
  {
    name: 'matmul',
    parameters: { a: 'operand', b: 'operand' },
    options: {},
    limits: {
      a: { types: floats, ranks: matrices },
      b: { types: same('a'), ranks: matrices },
      output: { types: same('a'), ranks: matrices },
    },
    infer({ operands: { a, b }, refuse }) {
      const [rows, inner] = a.shape.slice(-2)
      const [rowsB, columns] = b.shape.slice(-2)
      if (inner !== rowsB) refuse(`a has ${inner} columns and b ${rowsB} rows: as many are wanted`)
      const batches = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2))
      if (batches === undefined)
        return refuse(`the batches of [${a.shape}] and [${b.shape}] cannot be broadcast to each other`)
      return [{ dataType: a.dataType, shape: [...batches, rows!, columns!] }]
    },
  },
  {
    name: 'gemm',
    parameters: { a: 'operand', b: 'operand' },
    options: {
      c: 'operand',
      alpha: { convert: double, default: 1 },
      beta: { convert: double, default: 1 },
      aTranspose: { convert: boolean, default: false },
      bTranspose: { convert: boolean, default: false },
    },
    limits: {
      a: { types: floats, ranks: rank(2) },
      b: { types: same('a'), ranks: rank(2) },
      c: { types: same('a'), ranks: rank(0, 2) },
      output: { types: same('a'), ranks: rank(2) },
    },
    infer(given) {
      const {
        operands: { a, b, c },
        values,
        refuse,
      } = given
      castOptions(given, ['alpha', 'beta'], 'a')
      const [rows, inner] = values.aTranspose ? a.shape.toReversed() : a.shape
      const [rowsB, columns] = values.bTranspose ? b.shape.toReversed() : b.shape
      if (inner !== rowsB) refuse(`a has ${inner} columns and b ${rowsB} rows: as many are wanted`)
      const shape = [rows!, columns!]
      if (c && broadcastTo(c.shape, shape) === undefined)
        refuse(`the shape [${c.shape}] of c cannot be broadcast to [${shape}]`)
      return [{ dataType: a.dataType, shape }]
    },
  },
  {
    name: 'batchNormalization',
    parameters: { input: 'operand', mean: 'operand', variance: 'operand' },
    options: { scale: 'operand', bias: 'operand', axis: { convert: unsignedLong, default: 1 }, epsilon },
    limits: { ...oneInput(floats, rank(1, MAX_RANK)), mean: one, variance: one, scale: one, bias: one },
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const axis = values.axis as number
      if (axis >= input.shape.length)
        refuse(`axis ${axis} is not within the rank of the input, ${input.shape.length}`)
      for (const name of ['mean', 'variance', 'scale', 'bias']) checkShape(given, name, [input.shape[axis]!])
      castOptions(given, ['epsilon'])
      return [input]
    },
  },
  {
    name: 'instanceNormalization',
    parameters: { input: 'operand' },
    options: {
      scale: 'operand',
      bias: 'operand',
      epsilon,
      layout: { convert: enumeration('nchw', 'nhwc'), default: 'nchw' },
    },
    limits: { ...oneInput(floats, rank(4)), scale: one, bias: one },
    infer(given) {
      const { input } = given.operands
      const channels = input.shape[given.values.layout === 'nchw' ? 1 : 3]!
      for (const name of ['scale', 'bias']) checkShape(given, name, [channels])
      castOptions(given, ['epsilon'])
      return [input]
    },
  },
  {
    name: 'layerNormalization',
    parameters: { input: 'operand' },
    options: { scale: 'operand', bias: 'operand', axes: { convert: sequence(unsignedLong) }, epsilon },
    limits: {
      ...oneInput(floats),
      scale: { types: same('input'), ranks: rank(0, MAX_RANK) },
      bias: { types: same('input'), ranks: rank(0, MAX_RANK) },
    },
    infer(given) {
      const {
        operands: { input },
        values,
      } = given
      values.axes ??= input.shape.map((_, at) => at).slice(1)
      const axes = values.axes as number[]
      checkAxes(given, axes)
      const wanted = axes.map((axis) => input.shape[axis]!)
      for (const name of ['scale', 'bias']) checkShape(given, name, wanted)
      castOptions(given, ['epsilon'])
      return [input]
    },
  },
]
