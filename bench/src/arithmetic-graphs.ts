import {
  type AttributeValue,
  type DataType,
  type GraphNode,
  saveOnnx,
  type Tensor,
  tensor,
} from '@uaccel/inference'

/** A graph that both sides run: x gives y. */
export interface InferenceGraph {
  readonly name: string
  readonly x: Tensor
  readonly y: { readonly dtype: DataType; readonly shape: readonly number[] }
  readonly file: Uint8Array
  /** How often it is run for a figure. */
  readonly operations: number
}

const OPSET = 13
const ZERO = 125
/** Scales of quantised tensors: results of a sum of a hundred products use most of their range. */
const SCALES = { x: 0.02, w: 0.02, y: 0.9 }

const countOf = (shape: readonly number[]) => shape.reduce((count, size) => count * size, 1)
const pattern = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, at) => (at * 7919 + seed) % 251)
const floats = (shape: readonly number[], seed: number) =>
  tensor(
    'float32',
    shape,
    Float32Array.from(pattern(countOf(shape), seed), (value) => (value - 125) / 512),
  )
const bytes = (shape: readonly number[], seed: number) =>
  tensor('uint8', shape, pattern(countOf(shape), seed))

/** Nodes one after the other, each with the result of the one before as its first input. */
class Chain {
  readonly #x: Tensor
  readonly #nodes: GraphNode[] = []
  readonly #constants = new Map<string, Tensor>()
  #shape: readonly number[]

  constructor(x: Tensor) {
    this.#x = x
    this.#shape = x.shape
  }

  add(
    op: string,
    shape: readonly number[],
    constants: readonly Tensor[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): this {
    const name = `n${this.#nodes.length}`
    const names = constants.map((value, at) => {
      this.#constants.set(`${name}_${at}`, value)
      return `${name}_${at}`
    })
    const inputs = [this.#nodes.length === 0 ? 'x' : this.#nodes[this.#nodes.length - 1].outputs[0], ...names]
    this.#nodes.push({
      name,
      op,
      domain: '',
      inputs,
      outputs: [name],
      attributes: new Map(Object.entries(attributes)),
    })
    this.#shape = shape
    return this
  }

  /** A convolution that keeps its places, or every second one, and of `float32` its results within 0 and 6. */
  conv(channels: number, kernel: number, { stride = 1, groups = 1 } = {}): this {
    const [n, c, h, w] = this.#shape
    const pad = (kernel - 1) / 2
    const shape = [n, channels, Math.ceil(h / stride), Math.ceil(w / stride)]
    const attributes = {
      group: groups,
      pads: [pad, pad, pad, pad],
      strides: [stride, stride],
      kernel_shape: [kernel, kernel],
    }
    const weights = [channels, c / groups, kernel, kernel]
    if (this.#x.dtype === 'uint8')
      return this.add('QLinearConv', shape, quantised(bytes(weights, channels)), attributes)
    return this.add('Conv', shape, [floats(weights, channels), floats([channels], 3)], attributes).add(
      'Clip',
      shape,
      [tensor('float32', [], Float32Array.of(0)), tensor('float32', [], Float32Array.of(6))],
    )
  }

  done(name: string, operations: number): InferenceGraph {
    const { dtype } = this.#x
    const nodes = this.#nodes.map((node, at) =>
      at === this.#nodes.length - 1 ? { ...node, outputs: ['y'] } : node,
    )
    const y = { dtype, shape: this.#shape }
    const file = saveOnnx(
      {
        name: 'graph',
        opsets: new Map([['', OPSET]]),
        inputs: [{ name: 'x', dtype, shape: this.#x.shape }],
        outputs: [{ name: 'y', ...y }],
        constants: this.#constants,
        nodes,
      },
      { name: 'uaccel', version: '0' },
    )
    return { name: `${dtype} ${name}`, x: this.#x, y, file, operations }
  }
}

/** Inputs of quantised operators in the order of ONNX, after x. */
function quantised(w: Tensor): readonly Tensor[] {
  const scale = (value: number) => tensor('float32', [], Float32Array.of(value))
  const zero = tensor('uint8', [], Uint8Array.of(ZERO))
  return [scale(SCALES.x), zero, w, scale(SCALES.w), zero, scale(SCALES.y), zero]
}

const image = (dtype: 'float32' | 'uint8', channels: number, size: number) =>
  dtype === 'float32' ? floats([1, channels, size, size], 1) : bytes([1, channels, size, size], 1)

const product = (dtype: 'float32' | 'uint8', n: number, operations: number) =>
  dtype === 'float32'
    ? new Chain(floats([n, n], 1))
        .add('MatMul', [n, n], [floats([n, n], 2)])
        .done(`product of ${n} x ${n} matrices`, operations)
    : new Chain(bytes([n, n], 1))
        .add('QLinearMatMul', [n, n], quantised(bytes([n, n], 2)))
        .done(`product of ${n} x ${n} matrices`, operations)

/** A stem, and three blocks of a depthwise convolution and one of 1 x 1, as MobileNet has them. */
const network = (dtype: 'float32' | 'uint8') =>
  new Chain(image(dtype, 3, 112))
    .conv(16, 3, { stride: 2 })
    .conv(16, 3, { groups: 16 })
    .conv(32, 1)
    .conv(32, 3, { groups: 32, stride: 2 })
    .conv(64, 1)
    .conv(64, 3, { groups: 64, stride: 2 })
    .conv(128, 1)
    .done('network of three depthwise-separable blocks, 112 x 112', 10)

const types = ['float32', 'uint8'] as const

/** The graphs of the table, those of one operator first. */
export const graphs: readonly InferenceGraph[] = [
  ...types.map((dtype) =>
    new Chain(image(dtype, 64, 56)).conv(64, 1).done('convolution 1 x 1, 56 x 56, 64 channels', 20),
  ),
  ...types.map((dtype) =>
    new Chain(image(dtype, 64, 56)).conv(64, 3).done('convolution 3 x 3, 56 x 56, 64 channels', 5),
  ),
  ...types.map((dtype) =>
    new Chain(image(dtype, 64, 56))
      .conv(64, 3, { groups: 64 })
      .done('depthwise convolution 3 x 3, 56 x 56, 64 channels', 20),
  ),
  ...types.flatMap((dtype) => [product(dtype, 32, 100), product(dtype, 256, 20), product(dtype, 512, 5)]),
  new Chain(image('float32', 64, 56))
    .add('MaxPool', [1, 64, 28, 28], [], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] })
    .done('largest of 3 x 3, every second place, 56 x 56, 64 channels', 20),
  new Chain(floats([256, 256], 1))
    .add('Softmax', [256, 256], [], { axis: -1 })
    .done('softmax, 256 x 256', 20),
  ...types.map(network),
]
