import type { MLOperand } from '@uaccel/webnn'
import { ints64, type Mapping, type Mappings, type Node, operandOf } from './node.js'

type Reduction =
  | 'reduceL1'
  | 'reduceL2'
  | 'reduceLogSum'
  | 'reduceLogSumExp'
  | 'reduceMax'
  | 'reduceMean'
  | 'reduceMin'
  | 'reduceProduct'
  | 'reduceSum'
  | 'reduceSumSquare'

/** Axes are an attribute, and from an operator set on an input: 13 of ReduceSum, 18 of the others. */
const reduce =
  (name: Reduction, inputFrom = 18): Mapping =>
  (node) => {
    const { length } = node.shape(0)
    const given = node.axes(length, inputFrom)
    const none = given === undefined || given.length === 0
    // Over no axis each element is reduced alone: a square root of its square is its magnitude.
    const all = none && node.int('noop_with_empty_axes', 0) !== 1
    const axes = all ? Array.from({ length }, (_, at) => at) : (given ?? [])
    return node.b[name](node.operand(0), { axes, keepDimensions: node.int('keepdims', 1) === 1 })
  }

const argument =
  (name: 'argMax' | 'argMin'): Mapping =>
  (node) => {
    const axis = node.axis(node.int('axis', 0), node.shape(0).length)
    const options = { keepDimensions: node.int('keepdims', 1) === 1, outputDataType: 'int64' } as const
    if (node.int('select_last_index', 0) === 0) return node.b[name](node.operand(0), axis, options)
    const last = node.scalar({ dataType: 'int64' }, node.shape(0)[axis]! - 1)
    return node.b.sub(last, node.b[name](node.b.reverse(node.operand(0), { axes: [axis] }), axis, options))
  }

const softmaxAxis = (node: Node) => node.axis(node.int('axis', -1), node.shape(0).length)

function logSoftmax(node: Node): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const over = { axes: [softmaxAxis(node)], keepDimensions: true }
  const shifted = b.sub(x, b.reduceMax(x, over))
  return b.sub(shifted, b.reduceLogSumExp(shifted, over))
}

function hardmax(node: Node): MLOperand {
  const { b } = node
  const x = node.operand(0)
  const axis = softmaxAxis(node)
  const places = ints64(
    node.places(x.shape[axis]!),
    x.shape.map((size, at) => (at === axis ? size : 1)),
  )
  const most = b.argMax(x, axis, { keepDimensions: true, outputDataType: 'int64' })
  return b.cast(b.equal(most, operandOf(b, places)), x.dataType)
}

export const reductions: Mappings = {
  ReduceL1: reduce('reduceL1'),
  ReduceL2: reduce('reduceL2'),
  ReduceLogSum: reduce('reduceLogSum'),
  ReduceLogSumExp: reduce('reduceLogSumExp'),
  ReduceMax: reduce('reduceMax'),
  ReduceMean: reduce('reduceMean'),
  ReduceMin: reduce('reduceMin'),
  ReduceProd: reduce('reduceProduct'),
  ReduceSum: reduce('reduceSum', 13),
  ReduceSumSquare: reduce('reduceSumSquare'),
  ArgMax: argument('argMax'),
  ArgMin: argument('argMin'),
  CumSum: (node) =>
    node.b.cumulativeSum(node.operand(0), node.axis(node.number(1, 0), node.shape(0).length), {
      exclusive: node.int('exclusive', 0) === 1,
      reversed: node.int('reverse', 0) === 1,
    }),
  Softmax: (node) => node.b.softmax(node.operand(0), softmaxAxis(node)),
  LogSoftmax: logSoftmax,
  Hardmax: hardmax,
  LpNormalization: (node) => {
    const x = node.operand(0)
    const over = { axes: [softmaxAxis(node)], keepDimensions: true }
    return node.b.div(x, node.int('p', 2) === 1 ? node.b.reduceL1(x, over) : node.b.reduceL2(x, over))
  },
}
