import {
  broadcastOffsets,
  type Kernel,
  type KernelNode,
  numbers,
  type Operand,
  offsetsOf,
  stridesOf,
} from './kernel.js'

/** A matrix in memory: where it begins, and the steps to the next row and column. */
interface Matrix {
  readonly data: Float32Array
  readonly row: number
  readonly column: number
}

/** `rows` x `inner` times `inner` x `columns`, sums in double precision; `put` gets each. */
function multiply(
  a: Matrix,
  atA: number,
  b: Matrix,
  atB: number,
  [rows, inner, columns]: readonly [number, number, number],
  put: (row: number, column: number, sum: number) => void,
): void {
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0
      for (let i = 0; i < inner; i++)
        sum += a.data[atA + row * a.row + i * a.column] * b.data[atB + i * b.row + column * b.column]
      put(row, column, sum)
    }
  }
}

const matmul: Kernel = ({ inputs: { a, b }, outputs: [output] }) => {
  const [rows, inner] = a.shape.slice(-2)
  const columns = b.shape.at(-1)!
  const batches = output.shape.slice(0, -2)
  const starts = (operand: Operand) => {
    const own = operand.shape.slice(0, -2)
    const offsets = broadcastOffsets(own, batches) ?? offsetsOf(batches, stridesOf(batches))
    const size = operand.shape.at(-1)! * operand.shape.at(-2)!
    return offsets.map((offset) => offset * size)
  }
  const [startsA, startsB] = [starts(a), starts(b)]
  const left = { data: numbers(a), row: inner, column: 1 }
  const right = { data: numbers(b), row: columns, column: 1 }
  const to = numbers(output)
  let base = 0
  const put = (row: number, column: number, sum: number) => {
    to[base + row * columns + column] = sum
  }
  return () => {
    for (let batch = 0; batch < startsA.length; batch++) {
      base = batch * rows * columns
      multiply(left, startsA[batch], right, startsB[batch], [rows, inner, columns], put)
    }
  }
}

const gemm: Kernel = ({ inputs: { a, b, c }, attributes, outputs: [output] }) => {
  const { alpha, beta, aTranspose, bTranspose } = attributes as {
    alpha: number
    beta: number
    aTranspose: boolean
    bTranspose: boolean
  }
  const [rows, columns] = output.shape
  const inner = a.shape[aTranspose ? 0 : 1]
  const matrix = (operand: Operand, transposed: boolean): Matrix => {
    const width = operand.shape[1]
    return { data: numbers(operand), row: transposed ? 1 : width, column: transposed ? width : 1 }
  }
  const [left, right, to] = [matrix(a, aTranspose), matrix(b, bTranspose), numbers(output)]
  const [more, at] = [c && numbers(c), c && broadcastOffsets(c.shape, output.shape)]
  const put = (row: number, column: number, sum: number) => {
    const i = row * columns + column
    to[i] = alpha * sum + (more ? beta * more[at ? at[i] : i] : 0)
  }
  return () => multiply(left, 0, right, 0, [rows, inner, columns], put)
}

/** The place of a channel's number for each element. */
function alongAxis(shape: readonly number[], axis: number): Int32Array {
  return offsetsOf(
    shape,
    shape.map((_, at) => (at === axis ? 1 : 0)),
  )
}

const batchNormalization: Kernel = ({
  inputs: { input, mean, variance, scale, bias },
  attributes,
  outputs: [output],
}) => {
  const at = alongAxis(input.shape, attributes.axis as number)
  const epsilon = attributes.epsilon as number
  const [from, to, means, variances] = [numbers(input), numbers(output), numbers(mean), numbers(variance)]
  const [scales, biases] = [scale && numbers(scale), bias && numbers(bias)]
  return () => {
    for (let i = 0; i < to.length; i++) {
      const c = at[i]
      to[i] =
        ((from[i] - means[c]) / Math.sqrt(variances[c] + epsilon)) * (scales ? scales[c] : 1) +
        (biases ? biases[c] : 0)
    }
  }
}

/** Brings each group of elements to mean 0 and variance 1, then scales it; `places` has that of the scale and bias of each element. */
function normalise(node: KernelNode, axes: readonly number[], places: Int32Array): () => void {
  const {
    inputs: { input, scale, bias },
    attributes,
    outputs: [output],
  } = node
  const strides = stridesOf(input.shape)
  const of = (chosen: readonly number[]) =>
    offsetsOf(
      chosen.map((at) => input.shape[at]),
      chosen.map((at) => strides[at]),
    )
  const starts = of(input.shape.map((_, at) => at).filter((at) => !axes.includes(at)))
  const steps = of(axes)
  const epsilon = attributes.epsilon as number
  const [from, to] = [numbers(input), numbers(output)]
  const [scales, biases] = [scale && numbers(scale), bias && numbers(bias)]
  return () => {
    for (const start of starts) {
      let sum = 0
      for (const step of steps) sum += from[start + step]
      const mean = sum / steps.length
      let squares = 0
      for (const step of steps) squares += (from[start + step] - mean) ** 2
      const root = Math.sqrt(squares / steps.length + epsilon)
      for (const step of steps) {
        const at = start + step
        const place = places[at]
        to[at] = ((from[at] - mean) / root) * (scales ? scales[place] : 1) + (biases ? biases[place] : 0)
      }
    }
  }
}

const instanceNormalization: Kernel = (node) => {
  const nchw = node.attributes.layout === 'nchw'
  const { shape } = node.inputs.input
  return normalise(node, nchw ? [2, 3] : [1, 2], alongAxis(shape, nchw ? 1 : 3))
}

const layerNormalization: Kernel = (node) => {
  const { shape } = node.inputs.input
  const axes = node.attributes.axes as number[]
  const wanted = axes.map((axis) => shape[axis])
  const own = stridesOf(wanted)
  return normalise(
    node,
    axes,
    offsetsOf(
      shape,
      shape.map((_, at) => (axes.includes(at) ? own[axes.indexOf(at)] : 0)),
    ),
  )
}

export const matrix: Readonly<Record<string, Kernel>> = {
  matmul,
  gemm,
  batchNormalization,
  instanceNormalization,
  layerNormalization,
}
