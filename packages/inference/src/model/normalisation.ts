import type { MLOperand } from '@uaccel/webnn'
import type { Mappings, Node } from './node.js'

const from = (axis: number, rank: number) => Array.from({ length: rank - axis }, (_, at) => axis + at)

/** (x - mean) / sqrt(variance + epsilon) over axes. */
function centred(node: Node, x: MLOperand, axes: number[], epsilon: number): MLOperand {
  return node.b.layerNormalization(x, { axes, epsilon })
}

/** A vector for each channel, dimension 1, as it stands beside an operand of that rank. */
const beside = (node: Node, vector: MLOperand, rank: number) =>
  node.b.reshape(vector, [1, vector.shape[0]!, ...new Array<number>(Math.max(0, rank - 2)).fill(1)])

function layerNormalization(node: Node): MLOperand {
  const { length } = node.shape(0)
  const axes = from(node.axis(node.int('axis', -1), length), length)
  if (node.outputs.slice(1).some((name) => name !== ''))
    throw node.unsupported('its outputs Mean and InvStdDev are not computed')
  const x = centred(node, node.operand(0), axes, node.float('epsilon', 1e-5))
  const scaled = node.b.mul(x, node.operand(1))
  return node.has(2) ? node.b.add(scaled, node.operand(2)) : scaled
}

function rms(node: Node, x: MLOperand, scale: MLOperand): MLOperand {
  const { b } = node
  const axes = from(node.axis(node.int('axis', -1), x.shape.length), x.shape.length)
  const mean = b.reduceMean(b.mul(x, x), { axes, keepDimensions: true })
  const root = b.sqrt(b.add(mean, node.scalar(x, node.float('epsilon', 1e-5))))
  return b.mul(b.div(x, root), scale)
}

function batchNormalization(node: Node): MLOperand {
  if (node.int('training_mode', 0) !== 0) throw node.unsupported('training_mode is not supported')
  const [scale, bias, mean, variance] = [1, 2, 3, 4].map((index) => node.operand(index))
  const epsilon = node.float('epsilon', 1e-5)
  return node.b.batchNormalization(node.operand(0), mean!, variance!, { scale, bias, axis: 1, epsilon })
}

function instanceNormalization(node: Node): MLOperand {
  const x = node.operand(0)
  const { length } = x.shape
  const [scale, bias, epsilon] = [node.operand(1), node.operand(2), node.float('epsilon', 1e-5)]
  if (length === 4) return node.b.instanceNormalization(x, { scale, bias, epsilon })
  const normal = centred(node, x, from(2, length), epsilon)
  return node.b.add(node.b.mul(normal, beside(node, scale, length)), beside(node, bias, length))
}

function groupNormalization(node: Node): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const [n, channels, ...rest] = x.shape as [number, number, ...number[]]
  const groups = node.int('num_groups')
  if (groups < 1 || channels % groups !== 0)
    throw node.corrupt(`${channels} channels cannot be shared out among ${groups} groups`)
  const grouped = b.reshape(x, [n, groups, channels / groups, ...rest])
  const normal = b.reshape(
    centred(node, grouped, from(2, grouped.shape.length), node.float('epsilon', 1e-5)),
    [...x.shape],
  )
  // Scale and bias are of a group up to operator set 20, and of a channel from 21 on.
  const each = (vector: MLOperand) => {
    const [size] = vector.shape
    const wide =
      size === channels
        ? vector
        : b.reshape(b.expand(b.reshape(vector, [groups, 1]), [groups, channels / groups]), [channels])
    return beside(node, wide, x.shape.length)
  }
  return b.add(b.mul(normal, each(node.operand(1))), each(node.operand(2)))
}

/** Sums of squares over neighbouring channels: a pool over channels as lines of an image. */
function localResponse(node: Node): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const size = node.int('size')
  const [n, c, ...rest] = x.shape as [number, number, ...number[]]
  const [alpha, beta, bias] = [node.float('alpha', 1e-4), node.float('beta', 0.75), node.float('bias', 1)]
  const squares = b.reshape(b.mul(x, x), [n, 1, c, rest.reduce((all, each) => all * each, 1)])
  const before = Math.floor((size - 1) / 2)
  const padded = b.pad(squares, [0, 0, before, 0], [0, 0, size - 1 - before, 0])
  const mean = b.averagePool2d(padded, { windowDimensions: [size, 1] })
  const base = b.linear(b.reshape(mean, [...x.shape]), { alpha, beta: bias })
  return b.div(x, b.pow(base, node.scalar(x, beta)))
}

function meanVariance(node: Node): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const axes = (node.ints('axes') ?? [0, 2, 3]).map((axis) => node.axis(axis, x.shape.length))
  const over = { axes, keepDimensions: true }
  const shifted = b.sub(x, b.reduceMean(x, over))
  // 1e-9: ONNX, the function body of MeanVarianceNormalization-13.
  const deviation = b.sqrt(b.reduceMean(b.mul(shifted, shifted), over))
  return b.div(shifted, b.add(deviation, node.scalar(x, 1e-9)))
}

/** com.microsoft: the input and what skips a layer, added, and then normalised. The sum is output 3. */
function skip(node: Node, biasAt: number, normalise: (x: MLOperand) => MLOperand) {
  const both = node.b.add(node.operand(0), node.operand(1))
  const all = node.has(biasAt) ? node.b.add(both, node.operand(biasAt)) : both
  if ([1, 2].some((at) => node.outputs[at]))
    throw node.unsupported('its outputs mean and inv_std_var are not computed')
  return [normalise(all), undefined, undefined, all]
}

export const normalisations: Mappings = {
  BatchNormalization: batchNormalization,
  InstanceNormalization: instanceNormalization,
  LayerNormalization: layerNormalization,
  GroupNormalization: groupNormalization,
  RMSNormalization: (node) => rms(node, node.operand(0), node.operand(1)),
  SimplifiedLayerNormalization: (node) => rms(node, node.operand(0), node.operand(1)),
  LRN: localResponse,
  MeanVarianceNormalization: meanVariance,
  'com.microsoft:SkipSimplifiedLayerNormalization': (node) =>
    skip(node, 3, (x) => rms(node, x, node.operand(2))),
  'com.microsoft:SkipLayerNormalization': (node) =>
    skip(node, 4, (x) => {
      const normal = node.b.mul(
        centred(node, x, [x.shape.length - 1], node.float('epsilon', 1e-12)),
        node.operand(2),
      )
      return node.has(3) ? node.b.add(normal, node.operand(3)) : normal
    }),
}
