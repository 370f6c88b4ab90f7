import type { Graph, GraphNode, Tensor } from '@uaccel/inference'
import { tensor } from '@uaccel/inference'
import type { Digits } from '../idx.js'
import { imageOf } from './fit.js'
import type { DigitNetwork } from './network.js'

/** Real number = (q - zeroPoint) * scale. */
interface Quantisation {
  readonly scale: number
  readonly zeroPoint: number
}

/** Calibration keeps this share of the activations and lets the rest saturate. */
const keptShare = 0.9999

/** Weights int8 with a scale for each output channel, symmetric; rows are output channels. */
function quantiseWeights(weights: Float32Array, channels: number): { data: Int8Array; scales: Float32Array } {
  const perChannel = weights.length / channels
  const scales = new Float32Array(channels)
  const data = new Int8Array(weights.length)
  for (let channel = 0; channel < channels; channel++) {
    const row = weights.subarray(channel * perChannel, (channel + 1) * perChannel)
    scales[channel] = row.reduce((largest, weight) => Math.max(largest, Math.abs(weight)), 1e-8) / 127
    row.forEach((weight, i) => {
      data[channel * perChannel + i] = Math.round(weight / scales[channel])
    })
  }
  return { data, scales }
}

/** Activations uint8 with one scale: 0 is exact, the calibrated range fills the type. */
function quantiseRange(values: Float32Array): Quantisation {
  const sorted = values.slice().sort()
  const high = Math.max(0, sorted[Math.floor((sorted.length - 1) * keptShare)])
  const low = Math.min(0, sorted[Math.ceil((sorted.length - 1) * (1 - keptShare))])
  const scale = Math.fround((high - low) / 255)
  return { scale, zeroPoint: Math.round(-low / scale) }
}

/** The activations behind conv1, conv2, hidden and logits for the first `images` of a set, all in one array each. */
function observe(network: DigitNetwork, digits: Digits, images: number): Float32Array[] {
  const layers = [network.conv1, network.conv2, network.hidden, network.logits]
  const seen = layers.map(({ output }) => new Float32Array(output.length * images))
  const image = new Float32Array(digits.rows * digits.columns)
  for (let i = 0; i < images; i++) {
    imageOf(digits, i, image)
    network.forward(image)
    layers.forEach(({ output }, layer) => {
      seen[layer].set(output, i * output.length)
    })
  }
  return seen
}

const float = (value: number) => tensor('float32', [], Float32Array.of(value))
const byte = (value: number) => tensor('uint8', [], Uint8Array.of(value))

/**
 * Post-training quantisation: the network as an ONNX graph of QLinearConv, MaxPool, Reshape and QLinearMatMul, with
 * ranges from the first `images` training digits. ReLU is the lower limit of uint8, as its zero point is 0 there.
 */
export function quantiseNetwork(network: DigitNetwork, training: Digits, images: number): Graph {
  const [first, second, third, scores] = observe(network, training, images).map(quantiseRange)
  const constants = new Map<string, Tensor>()
  const nodes: GraphNode[] = []
  const node = (
    op: string,
    name: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, number | readonly number[]>> = {},
  ) => {
    nodes.push({
      op,
      name,
      domain: '',
      inputs,
      outputs: [name],
      attributes: new Map(Object.entries(attributes)),
    })
    return name
  }
  const constant = (name: string, value: Tensor) => {
    constants.set(name, value)
    return name
  }
  const quantisation = (name: string, { scale, zeroPoint }: Quantisation) => [
    constant(`${name}_scale`, float(scale)),
    constant(`${name}_zero_point`, byte(zeroPoint)),
  ]

  const conv = (
    name: string,
    input: string,
    inputNames: readonly string[],
    inputScale: number,
    parameters: { weights: Float32Array; bias: Float32Array; shape: readonly number[]; pad: number },
    output: Quantisation,
  ) => {
    const { weights, bias, shape, pad } = parameters
    const { data, scales } = quantiseWeights(weights, shape[0])
    const integerBias = Int32Array.from(bias, (value, i) => Math.round(value / (inputScale * scales[i])))
    const outputNames = quantisation(name, output)
    const inputs = [
      input,
      ...inputNames,
      constant(`${name}_weight`, tensor('int8', shape, data)),
      constant(`${name}_weight_scale`, tensor('float32', [shape[0]], scales)),
      constant(`${name}_weight_zero_point`, tensor('int8', [shape[0]], new Int8Array(shape[0]))),
      ...outputNames,
      constant(`${name}_bias`, tensor('int32', [shape[0]], integerBias)),
    ]
    node('QLinearConv', name, inputs, { kernel_shape: shape.slice(2), pads: [pad, pad, pad, pad] })
    return outputNames
  }
  const pool = (name: string, input: string) =>
    node('MaxPool', name, [input], { kernel_shape: [2, 2], strides: [2, 2] })

  const pixel = { scale: Math.fround(1 / 255), zeroPoint: 0 }
  const pixelNames = quantisation('pixels', pixel)
  node('QuantizeLinear', 'pixels', ['image', ...pixelNames])
  const { conv1, conv2, hidden, logits } = network
  const conv1Names = conv(
    'conv1',
    'pixels',
    pixelNames,
    pixel.scale,
    { weights: conv1.weights.value, bias: conv1.bias.value, shape: [conv1.outputs, 1, 3, 3], pad: 1 },
    first,
  )
  pool('pool1', 'conv1')
  const conv2Names = conv(
    'conv2',
    'pool1',
    conv1Names,
    first.scale,
    {
      weights: conv2.weights.value,
      bias: conv2.bias.value,
      shape: [conv2.outputs, conv1.outputs, 3, 3],
      pad: 1,
    },
    second,
  )
  pool('pool2', 'conv2')
  // A dense layer over an image is a convolution whose kernel covers it: so it gets its bias and scales per channel.
  const hiddenNames = conv(
    'hidden',
    'pool2',
    conv2Names,
    second.scale,
    {
      weights: hidden.weights.value,
      bias: hidden.bias!.value,
      shape: [hidden.outputs, conv2.outputs, 7, 7],
      pad: 0,
    },
    third,
  )
  constant('features_shape', tensor('int64', [2], BigInt64Array.of(0n, -1n)))
  node('Reshape', 'features', ['hidden', 'features_shape'])

  const { data, scales } = quantiseWeights(logits.weights.value, logits.outputs)
  const transposed = new Int8Array(data.length)
  data.forEach((weight, i) => {
    const [output, input] = [Math.floor(i / logits.inputs), i % logits.inputs]
    transposed[input * logits.outputs + output] = weight
  })
  const scoreNames = quantisation('scores', scores)
  node('QLinearMatMul', 'scores', [
    'features',
    ...hiddenNames,
    constant('scores_weight', tensor('int8', [logits.inputs, logits.outputs], transposed)),
    constant('scores_weight_scale', tensor('float32', [logits.outputs], scales)),
    constant('scores_weight_zero_point', tensor('int8', [logits.outputs], new Int8Array(logits.outputs))),
    ...scoreNames,
  ])
  node('DequantizeLinear', 'logits', ['scores', ...scoreNames])
  return {
    name: 'digits',
    opsets: new Map([['', 13]]),
    inputs: [{ name: 'image', dtype: 'float32', shape: ['N', 1, 28, 28] }],
    outputs: [{ name: 'logits', dtype: 'float32', shape: ['N', 10] }],
    constants,
    nodes,
  }
}
