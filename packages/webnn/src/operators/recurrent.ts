import { isValidDimension } from '../data-type.js'
import { sameShape } from '../shape.js'
import { boolean, enumeration, type Member, sequence, unsignedLong } from '../web-idl.js'
import { floats, type Given, type Limits, type OperatorDefinition, rank, same } from './definition.js'

const activations: Member<unknown> = { convert: sequence(enumeration('relu', 'sigmoid', 'tanh')) }

/** What tells LSTM from GRU: gates, order of their weights, activations. */
interface Kind {
  readonly gates: number
  readonly layout: Member<unknown>
  readonly activations: readonly string[]
}

const gru: Kind = {
  gates: 3,
  layout: { convert: enumeration('zrn', 'rzn'), default: 'zrn' },
  activations: ['sigmoid', 'tanh'],
}
const lstm: Kind = {
  gates: 4,
  layout: { convert: enumeration('iofg', 'ifgo'), default: 'iofg' },
  activations: ['sigmoid', 'tanh', 'tanh'],
}

/** Holds operands that were given to their shapes, and the numbers and activations to what the kind wants. */
function check(
  given: Given,
  { gates, activations }: Kind,
  shapes: Readonly<Record<string, readonly number[]>>,
): void {
  const { operands, values, refuse } = given
  const hiddenSize = values.hiddenSize as number
  // Some platforms have one bias for both: of twice as many elements.
  if (!isValidDimension(hiddenSize * gates * 2))
    refuse(`hiddenSize ${hiddenSize} has to be at least 1, and ${2 * gates} times it a dimension`)
  for (const [name, shape] of Object.entries(shapes)) {
    const found = operands[name]
    if (found && !sameShape(found.shape, shape))
      refuse(`${name} wants the shape [${shape}], found [${found.shape}]`)
  }
  values.activations ??= activations
  const count = (values.activations as unknown[]).length
  if (count !== activations.length)
    refuse(`activations wants ${activations.length} functions, found ${count}`)
}

const limitsOf = (ranks: Readonly<Record<string, number>>): Readonly<Record<string, Limits>> =>
  Object.fromEntries(
    Object.entries(ranks).map(([name, each]) => [
      name,
      { types: name === 'input' ? floats : same('input'), ranks: rank(each) },
    ]),
  )

/** A whole network: steps, directions, and the states of the last step first among the outputs. */
function network(
  name: string,
  kind: Kind,
  states: readonly string[],
  more: Readonly<Record<string, number>>,
): OperatorDefinition {
  const options = {
    bias: 2,
    recurrentBias: 2,
    ...more,
    ...Object.fromEntries(states.map((state) => [state, 3])),
  }
  return {
    name,
    parameters: {
      input: 'operand',
      weight: 'operand',
      recurrentWeight: 'operand',
      steps: unsignedLong,
      hiddenSize: unsignedLong,
    },
    options: {
      ...Object.fromEntries(Object.keys(options).map((each) => [each, 'operand' as const])),
      ...(kind === gru && { resetAfter: { convert: boolean, default: true } }),
      returnSequence: { convert: boolean, default: false },
      direction: { convert: enumeration('forward', 'backward', 'both'), default: 'forward' },
      layout: kind.layout,
      activations,
    },
    many: true,
    limits: {
      ...limitsOf({ input: 3, weight: 3, recurrentWeight: 3, ...options }),
      ...Object.fromEntries(
        Array.from({ length: states.length + 1 }, (_, at) => [
          `output${at}`,
          { types: same('input'), ranks: rank(at === states.length ? 4 : 3) },
        ]),
      ),
    },
    infer(given) {
      const {
        operands: { input },
        values,
        refuse,
      } = given
      const [steps, batches, inputSize] = input.shape as [number, number, number]
      const hiddenSize = values.hiddenSize as number
      const directions = values.direction === 'both' ? 2 : 1
      if (values.steps === 0 || values.steps !== steps)
        refuse(`steps is ${values.steps}, and the input has ${steps}`)
      const all = kind.gates * hiddenSize
      check(given, kind, {
        weight: [directions, all, inputSize],
        recurrentWeight: [directions, all, hiddenSize],
        bias: [directions, all],
        recurrentBias: [directions, all],
        peepholeWeight: [directions, 3 * hiddenSize],
        initialHiddenState: [directions, batches, hiddenSize],
        initialCellState: [directions, batches, hiddenSize],
      })
      const { dataType } = input
      const outputs = states.map(() => ({ dataType, shape: [directions, batches, hiddenSize] }))
      if (values.returnSequence) outputs.push({ dataType, shape: [steps, directions, batches, hiddenSize] })
      return outputs
    },
  }
}

/** One step of one direction. */
function cell(
  name: string,
  kind: Kind,
  states: readonly string[],
  more: Readonly<Record<string, number>>,
): OperatorDefinition {
  const options = { bias: 1, recurrentBias: 1, ...more }
  const operands = ['input', 'weight', 'recurrentWeight', ...states]
  return {
    name,
    parameters: {
      ...Object.fromEntries(operands.map((each) => [each, 'operand' as const])),
      hiddenSize: unsignedLong,
    },
    options: {
      ...Object.fromEntries(Object.keys(options).map((each) => [each, 'operand' as const])),
      ...(kind === gru && { resetAfter: { convert: boolean, default: true } }),
      layout: kind.layout,
      activations,
    },
    many: states.length > 1,
    limits: {
      ...limitsOf({ ...Object.fromEntries(operands.map((each) => [each, 2])), ...options }),
      ...(states.length > 1 ? limitsOutputs(['output0', 'output1']) : limitsOutputs(['output'])),
    },
    infer(given) {
      const {
        operands: { input },
        values,
      } = given
      const [batches, inputSize] = input.shape as [number, number]
      const hiddenSize = values.hiddenSize as number
      const all = kind.gates * hiddenSize
      check(given, kind, {
        weight: [all, inputSize],
        recurrentWeight: [all, hiddenSize],
        hiddenState: [batches, hiddenSize],
        cellState: [batches, hiddenSize],
        bias: [all],
        recurrentBias: [all],
        peepholeWeight: [3 * hiddenSize],
      })
      return states.map(() => ({ dataType: input.dataType, shape: [batches, hiddenSize] }))
    },
  }
}

const limitsOutputs = (names: readonly string[]): Readonly<Record<string, Limits>> =>
  Object.fromEntries(names.map((name) => [name, { types: same('input'), ranks: rank(2) }]))

export const recurrent: readonly OperatorDefinition[] = [
  network('gru', gru, ['initialHiddenState'], {}),
  cell('gruCell', gru, ['hiddenState'], {}),
  network('lstm', lstm, ['initialHiddenState', 'initialCellState'], { peepholeWeight: 2 }),
  cell('lstmCell', lstm, ['hiddenState', 'cellState'], { peepholeWeight: 1 }),
]
