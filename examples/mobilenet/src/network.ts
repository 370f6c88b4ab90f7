// MobileNetV2 as its paper defines it: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", tables 1 and 2.
import { normal } from '@uaccel/example-transformer'
import { type AttributeValue, type Graph, type GraphNode, type Tensor, tensor } from '@uaccel/inference'

export interface NetworkOptions {
  /** Pixels of a side of the image, a multiple of 32. */
  readonly size: number
  /** The width multiplier: 1 is the network of the paper, of 1280 features. */
  readonly width: number
  /** Of the weights. */
  readonly seed: number
}

/** Table 2: how much a block expands its channels, channels out, how many blocks, and the stride of the first. */
const stages = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const
const firstChannels = 32
const features = 1280
const classes = 1000

/** Channels by the width multiplier: a multiple of 8, and not less by more than a tenth. */
function channelsOf(channels: number, width: number): number {
  const rounded = Math.max(8, Math.floor((channels * width + 4) / 8) * 8)
  return rounded < 0.9 * channels * width ? rounded + 8 : rounded
}

/** A tensor on its way through the network. */
interface Image {
  readonly name: string
  readonly channels: number
}

/** Writes nodes, each with one output of its own name, and their weights. */
class Network {
  readonly nodes: GraphNode[] = []
  readonly constants = new Map<string, Tensor>([
    ['zero', tensor('float32', [], Float32Array.of(0))],
    ['six', tensor('float32', [], Float32Array.of(6))],
  ])
  readonly #random: () => number

  constructor(seed: number) {
    this.#random = normal(seed)
  }

  node(
    name: string,
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): string {
    this.nodes.push({
      ...{ name, op, domain: '', inputs, outputs: [name] },
      attributes: new Map(Object.entries(attributes)),
    })
    return name
  }

  /** A constant of normally distributed elements. */
  weights(name: string, shape: readonly number[], deviation: number): string {
    const length = shape.reduce((all, size) => all * size, 1)
    const data = Float32Array.from({ length }, () => this.#random() * deviation)
    this.constants.set(name, tensor('float32', shape, data))
    return name
  }

  /**
   * A convolution, into which the normalisation of its batch is folded as exporters do it. Magnitudes stay as they are from layer to layer, with ReLU6
   * behind it or without (He et al., "Delving Deep into Rectifiers", 2.2).
   */
  convolution(
    name: string,
    x: Image,
    channels: number,
    { kernel = 1, stride = 1, groups = 1, relu6 = true },
  ): Image {
    const inputs = [kernel * kernel * (x.channels / groups), channels] as const
    const weights = this.weights(
      `${name}.weight`,
      [channels, x.channels / groups, kernel, kernel],
      Math.sqrt((relu6 ? 2 : 1) / inputs[0]),
    )
    const pad = (kernel - 1) / 2
    this.node(name, 'Conv', [x.name, weights, this.weights(`${name}.bias`, [channels], 0.1)], {
      kernel_shape: [kernel, kernel],
      strides: [stride, stride],
      pads: [pad, pad, pad, pad],
      group: groups,
    })
    return { name: relu6 ? this.node(`${name}.relu6`, 'Clip', [name, 'zero', 'six']) : name, channels }
  }

  /** Table 1: expand, filter each channel, project linearly; with a way around where shapes allow it. */
  block(name: string, x: Image, expansion: number, channels: number, stride: number): Image {
    const hidden = x.channels * expansion
    const wide = expansion === 1 ? x : this.convolution(`${name}.expand`, x, hidden, {})
    const filtered = this.convolution(`${name}.depthwise`, wide, hidden, {
      kernel: 3,
      stride,
      groups: hidden,
    })
    const narrow = this.convolution(`${name}.project`, filtered, channels, { relu6: false })
    if (stride !== 1 || x.channels !== channels) return narrow
    return { name: this.node(`${name}.add`, 'Add', [x.name, narrow.name]), channels }
  }
}

/** The network, with one output: the probabilities of 1000 classes. Its input is `image`, float32 [1, 3, size, size]. */
export function mobilenet({ size, width, seed }: NetworkOptions): Graph {
  const network = new Network(seed)
  let x = network.convolution('stem', { name: 'image', channels: 3 }, channelsOf(firstChannels, width), {
    kernel: 3,
    stride: 2,
  })
  let at = 1
  for (const [expansion, channels, count, first] of stages)
    for (let block = 0; block < count; block++)
      x = network.block(`block${at++}`, x, expansion, channelsOf(channels, width), block === 0 ? first : 1)
  // The paper keeps the last layer as wide as it is where the others get narrower.
  x = network.convolution('head', x, channelsOf(features, Math.max(1, width)), {})
  const pooled = network.node('pool', 'GlobalAveragePool', [x.name])
  const flat = network.node('flatten', 'Flatten', [pooled])
  const weights = network.weights('classifier.weight', [classes, x.channels], Math.sqrt(1 / x.channels))
  const bias = network.weights('classifier.bias', [classes], 0.1)
  const scores = network.node('classifier', 'Gemm', [flat, weights, bias], { transB: 1 })
  network.node('softmax', 'Softmax', [scores], { axis: 1 })
  return {
    name: 'mobilenet v2',
    opsets: new Map([['', 17]]),
    inputs: [{ name: 'image', dtype: 'float32', shape: [1, 3, size, size] }],
    outputs: [{ name: 'softmax', dtype: 'float32', shape: [1, classes] }],
    constants: network.constants,
    nodes: network.nodes,
  }
}

/** An image of a seed: noise, of the mean and deviation that networks are trained with. */
export function seededImage({ size, seed }: NetworkOptions): Tensor {
  const random = normal(seed + 1)
  return tensor('float32', [1, 3, size, size], Float32Array.from({ length: 3 * size * size }, random))
}
