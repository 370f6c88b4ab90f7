import type { Graph, GraphNode, Tensor } from '@uaccel/inference'

/*
 * The network as ONNX defines its operators, one after the other: what devices are compared with. It shares nothing with them but the file.
 */

/** Elements and their dimensions, without those of a batch. */
interface Plane {
  readonly shape: readonly number[]
  readonly data: ArrayLike<number>
}

const { fround } = Math

function roundHalfEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return Math.round(x)
  return floor % 2 === 0 ? floor : floor + 1
}

/** `uint8`, which all activations of the network are. */
const saturate = (x: number) => Math.min(255, Math.max(0, x))

type Read = (index: number) => Tensor
const scalar = (tensor: Tensor) => Number(tensor.data[0])
const ints = ({ attributes }: GraphNode, name: string, otherwise: readonly number[]) =>
  (attributes.get(name) as readonly number[] | undefined) ?? otherwise

/** `saturate(round(sum * xScale * wScale / yScale) + zero)`, by channel, each step a float32. */
const requantiser = (xScale: number, wScales: Tensor, yScale: number, yZero: number) => {
  const multipliers = Array.from(wScales.data as Float32Array, (wScale) =>
    fround(fround(xScale * wScale) / yScale),
  )
  return (sum: number, channel: number) =>
    saturate(roundHalfEven(fround(fround(sum) * multipliers[channel % multipliers.length])) + yZero)
}

const operators: Readonly<Record<string, (x: Plane, node: GraphNode, read: Read) => Plane>> = {
  QuantizeLinear({ shape, data }, _, read) {
    const [scale, zero] = [scalar(read(1)), scalar(read(2))]
    return { shape, data: Uint8Array.from(data, (x) => saturate(roundHalfEven(fround(x / scale)) + zero)) }
  },
  DequantizeLinear({ shape, data }, _, read) {
    const [scale, zero] = [scalar(read(1)), scalar(read(2))]
    return { shape, data: Float32Array.from(data, (q) => fround((q - zero) * scale)) }
  },
  QLinearConv({ shape: [channels, height, width], data }, node, read) {
    const [w, wZeros, bias] = [read(3), read(5).data as Int8Array, read(8).data as Int32Array]
    const [xZero, yZero] = [scalar(read(2)), scalar(read(7))]
    const requantise = requantiser(scalar(read(1)), read(4), scalar(read(6)), yZero)
    const [outputs, , kh, kw] = w.shape
    const [top, left, bottom, right] = ints(node, 'pads', [0, 0, 0, 0])
    const [rows, columns] = [height + top + bottom - kh + 1, width + left + right - kw + 1]
    const weights = w.data as Int8Array
    const result = new Uint8Array(outputs * rows * columns)
    for (let to = 0, o = 0; o < outputs; o++)
      for (let y = 0; y < rows; y++)
        for (let x = 0; x < columns; x++, to++) {
          let sum = bias[o]
          for (let c = 0; c < channels; c++)
            for (let i = Math.max(0, top - y); i < Math.min(kh, height + top - y); i++)
              for (let j = Math.max(0, left - x); j < Math.min(kw, width + left - x); j++)
                sum +=
                  (data[(c * height + y + i - top) * width + x + j - left] - xZero) *
                  (weights[((o * channels + c) * kh + i) * kw + j] - wZeros[o % wZeros.length])
          result[to] = requantise(sum, o)
        }
    return { shape: [outputs, rows, columns], data: result }
  },
  MaxPool({ shape: [channels, height, width], data }, node) {
    const [kh, kw] = ints(node, 'kernel_shape', [])
    const [sh, sw] = ints(node, 'strides', [1, 1])
    const [rows, columns] = [Math.floor((height - kh) / sh) + 1, Math.floor((width - kw) / sw) + 1]
    const result = new Uint8Array(channels * rows * columns)
    for (let to = 0, c = 0; c < channels; c++)
      for (let y = 0; y < rows; y++)
        for (let x = 0; x < columns; x++, to++)
          for (let i = 0; i < kh; i++)
            for (let j = 0; j < kw; j++)
              result[to] = Math.max(result[to], data[(c * height + y * sh + i) * width + x * sw + j])
    return { shape: [channels, rows, columns], data: result }
  },
  Reshape: ({ data }) => ({ shape: [data.length], data }),
  QLinearMatMul({ data }, _, read) {
    const [w, wZeros] = [read(3), read(5).data as Int8Array]
    const requantise = requantiser(scalar(read(1)), read(4), scalar(read(6)), scalar(read(7)))
    const [rows, columns] = w.shape
    const [weights, xZero] = [w.data as Int8Array, scalar(read(2))]
    const result = Uint8Array.from({ length: columns }, (_, column) => {
      let sum = 0
      for (let row = 0; row < rows; row++)
        sum += (data[row] - xZero) * (weights[row * columns + column] - wZeros[column % wZeros.length])
      return requantise(sum, column)
    })
    return { shape: [columns], data: result }
  },
}

/** Ten scores for an image, whose pixels are in 0..1. */
export function referenceScores({ nodes, constants }: Graph, pixels: Float32Array): Float32Array {
  const values = new Map<string, Plane>([['image', { shape: [1, 28, 28], data: pixels }]])
  for (const node of nodes) {
    const operator = operators[node.op]
    if (operator === undefined) throw new Error(`${node.name}: the reference has no ${node.op}`)
    const read: Read = (index) => constants.get(node.inputs[index])!
    values.set(node.outputs[0], operator(values.get(node.inputs[0])!, node, read))
  }
  return values.get('logits')!.data as Float32Array
}
