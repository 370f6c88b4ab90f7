import { sigmoid } from './functions.js'
import { type Kernel, type KernelNode, numbers, type Operand } from './kernel.js'

const functions: Readonly<Record<string, (x: number) => number>> = {
  relu: (x) => Math.max(0, x),
  sigmoid,
  tanh: Math.tanh,
}

/** Weights and biases of one direction, and where each gate's begin. */
interface Cell {
  readonly inputSize: number
  readonly hiddenSize: number
  readonly weight: Float32Array
  readonly recurrentWeight: Float32Array
  readonly bias: Float32Array | undefined
  readonly recurrentBias: Float32Array | undefined
  readonly peephole: Float32Array | undefined
  readonly gate: Readonly<Record<string, number>>
  readonly activations: readonly ((x: number) => number)[]
  readonly resetAfter: boolean
}

/** The part of an operand that belongs to a direction. */
const part = (
  operand: Operand | undefined,
  direction: number,
  directions: number,
): Float32Array | undefined => {
  if (operand === undefined) return undefined
  const all = numbers(operand)
  const size = all.length / directions
  return all.subarray(direction * size, (direction + 1) * size)
}

function cellOf({ inputs, attributes }: KernelNode, direction: number, directions: number): Cell {
  const hiddenSize = attributes.hiddenSize as number
  return {
    inputSize: inputs.input.shape.at(-1)!,
    hiddenSize,
    weight: part(inputs.weight, direction, directions)!,
    recurrentWeight: part(inputs.recurrentWeight, direction, directions)!,
    bias: part(inputs.bias, direction, directions),
    recurrentBias: part(inputs.recurrentBias, direction, directions),
    peephole: part(inputs.peepholeWeight, direction, directions),
    gate: Object.fromEntries(
      Array.from(attributes.layout as string, (letter, at) => [letter, at * hiddenSize]),
    ),
    activations: (attributes.activations as string[]).map((name) => functions[name]),
    resetAfter: attributes.resetAfter as boolean,
  }
}

const dot = (a: Float32Array, atA: number, b: Float32Array, atB: number, size: number): number => {
  let sum = 0
  for (let i = 0; i < size; i++) sum += a[atA + i] * b[atB + i]
  return sum
}

/** Computes the states after a step, for one batch, into `next`; `hidden` and `next` may be one. */
type Step = (
  x: Float32Array,
  atX: number,
  hidden: Float32Array,
  at: number,
  cell: Float32Array | undefined,
) => void

function gruStep(c: Cell): Step {
  const { hiddenSize: h, inputSize, gate } = c
  const [f, g] = c.activations
  const [update, reset, fresh] = [new Float32Array(h), new Float32Array(h), new Float32Array(h)]
  const gated = new Float32Array(h)
  const input = (x: Float32Array, atX: number, row: number) =>
    dot(x, atX, c.weight, row * inputSize, inputSize) + (c.bias ? c.bias[row] : 0)
  const recurrent = (hidden: Float32Array, at: number, row: number) =>
    dot(hidden, at, c.recurrentWeight, row * h, h)
  const more = (row: number) => (c.recurrentBias ? c.recurrentBias[row] : 0)
  return (x, atX, hidden, at) => {
    for (let i = 0; i < h; i++) {
      const [z, r] = [gate.z + i, gate.r + i]
      update[i] = f(input(x, atX, z) + recurrent(hidden, at, z) + more(z))
      reset[i] = f(input(x, atX, r) + recurrent(hidden, at, r) + more(r))
    }
    for (let i = 0; i < h; i++) gated[i] = reset[i] * hidden[at + i]
    for (let i = 0; i < h; i++) {
      const n = gate.n + i
      const before = c.resetAfter
        ? reset[i] * (recurrent(hidden, at, n) + more(n))
        : recurrent(gated, 0, n) + more(n)
      fresh[i] = g(input(x, atX, n) + before)
    }
    for (let i = 0; i < h; i++) hidden[at + i] = update[i] * hidden[at + i] + (1 - update[i]) * fresh[i]
  }
}

function lstmStep(c: Cell): Step {
  const { hiddenSize: h, inputSize, gate } = c
  const [f, g, last] = c.activations
  const values = new Float32Array(4 * h)
  const sum = (x: Float32Array, atX: number, hidden: Float32Array, at: number, row: number) =>
    dot(x, atX, c.weight, row * inputSize, inputSize) +
    dot(hidden, at, c.recurrentWeight, row * h, h) +
    (c.bias ? c.bias[row] : 0) +
    (c.recurrentBias ? c.recurrentBias[row] : 0)
  // Peepholes are of the input, output and forget gate, in that order.
  const peep = (place: number, i: number, cell: Float32Array, at: number) =>
    c.peephole ? c.peephole[place * h + i] * cell[at + i] : 0
  return (x, atX, hidden, at, cell) => {
    for (let row = 0; row < 4 * h; row++) values[row] = sum(x, atX, hidden, at, row)
    for (let i = 0; i < h; i++) {
      const before = cell![at + i]
      const enter = f(values[gate.i + i] + peep(0, i, cell!, at))
      const forget = f(values[gate.f + i] + peep(2, i, cell!, at))
      const fresh = g(values[gate.g + i])
      const leave = f(values[gate.o + i] + (c.peephole ? c.peephole[h + i] * before : 0))
      cell![at + i] = forget * before + enter * fresh
      hidden[at + i] = leave * last(cell![at + i])
    }
  }
}

const cell =
  (step: (c: Cell) => Step): Kernel =>
  (node) => {
    const {
      inputs: { input, hiddenState, cellState },
      outputs: [output, cellOutput],
    } = node
    const c = cellOf(node, 0, 1)
    const next = step(c)
    const [x, hidden, from] = [numbers(input), numbers(output), numbers(hiddenState)]
    const state = cellOutput && numbers(cellOutput)
    return () => {
      hidden.set(from)
      if (state) state.set(numbers(cellState))
      for (let batch = 0; batch < input.shape[0]; batch++)
        next(x, batch * c.inputSize, hidden, batch * c.hiddenSize, state)
    }
  }

const network =
  (step: (c: Cell) => Step, hasCell: boolean): Kernel =>
  (node) => {
    const {
      inputs: { input, initialHiddenState, initialCellState },
      attributes,
      outputs,
    } = node
    const [steps, batches, inputSize] = input.shape
    const directions = attributes.direction === 'both' ? 2 : 1
    const hiddenSize = attributes.hiddenSize as number
    const ways = Array.from({ length: directions }, (_, at) => step(cellOf(node, at, directions)))
    const backward = (direction: number) => attributes.direction === 'backward' || direction === 1
    const x = numbers(input)
    const hidden = numbers(outputs[0])
    const state = hasCell ? numbers(outputs[1]) : undefined
    const sequence = attributes.returnSequence ? numbers(outputs[hasCell ? 2 : 1]) : undefined
    const size = batches * hiddenSize
    return () => {
      if (initialHiddenState) hidden.set(numbers(initialHiddenState))
      else hidden.fill(0)
      if (state && initialCellState) state.set(numbers(initialCellState))
      else state?.fill(0)
      for (let direction = 0; direction < directions; direction++) {
        for (let turn = 0; turn < steps; turn++) {
          const at = backward(direction) ? steps - 1 - turn : turn
          for (let batch = 0; batch < batches; batch++)
            ways[direction](
              x,
              (at * batches + batch) * inputSize,
              hidden,
              direction * size + batch * hiddenSize,
              state,
            )
          sequence?.set(
            hidden.subarray(direction * size, (direction + 1) * size),
            (at * directions + direction) * size,
          )
        }
      }
    }
  }

export const recurrent: Readonly<Record<string, Kernel>> = {
  gru: network(gruStep, false),
  gruCell: cell(gruStep),
  lstm: network(lstmStep, true),
  lstmCell: cell(lstmStep),
}
