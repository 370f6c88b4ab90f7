import type { MLOperand } from '@uaccel/webnn'
import { elementCount, given, type Mappings, type Node } from './node.js'

/** A product of matrices; an operand of one dimension is a row, or a column, that goes away again. */
export function multiply(node: Node, a: MLOperand, b: MLOperand): MLOperand {
  const row = a.shape.length === 1 ? node.b.reshape(a, [1, a.shape[0]!]) : a
  const column = b.shape.length === 1 ? node.b.reshape(b, [b.shape[0]!, 1]) : b
  const product = node.b.matmul(row, column)
  if (row === a && column === b) return product
  const rank = product.shape.length
  return node.b.reshape(
    product,
    product.shape.filter((_, at) => !(row !== a && at === rank - 2) && !(column !== b && at === rank - 1)),
  )
}

function gemm(node: Node): MLOperand {
  return node.b.gemm(
    node.operand(0),
    node.operand(1),
    given({
      c: node.optional(2),
      alpha: node.float('alpha', 1),
      beta: node.float('beta', 1),
      aTranspose: node.int('transA', 0) === 1,
      bTranspose: node.int('transB', 0) === 1,
    }),
  )
}

interface Term {
  readonly labels: readonly string[]
  readonly x: MLOperand
}

/** Sums over what nothing else needs, and brings the rest into that order. */
function arrange(node: Node, { labels, x }: Term, order: readonly string[]): MLOperand {
  const axes = labels.map((_, at) => at).filter((at) => !order.includes(labels[at]!))
  const left = labels.filter((label) => order.includes(label))
  const summed = axes.length > 0 ? node.b.reduceSum(x, { axes }) : x
  const permutation = order.map((label) => left.indexOf(label))
  return permutation.every((from, at) => from === at) ? summed : node.b.transpose(summed, { permutation })
}

/** Two terms as one product of matrices: what both have and is kept are batches, what both have and is not is summed over. */
function contract(node: Node, a: Term, b: Term, kept: ReadonlySet<string>): Term {
  const both = a.labels.filter((label) => b.labels.includes(label))
  const [batch, inner] = [both.filter((label) => kept.has(label)), both.filter((label) => !kept.has(label))]
  const [rows, columns] = [a, b].map(({ labels }) =>
    labels.filter((each) => !both.includes(each) && kept.has(each)),
  )
  const size = (term: Term, labels: readonly string[]) =>
    labels.map((each) => term.x.shape[term.labels.indexOf(each)]!)
  const batches = size(a, batch)
  const flat = (labels: readonly string[], term: Term) => elementCount(size(term, labels))
  const left = node.b.reshape(arrange(node, a, [...batch, ...rows!, ...inner]), [
    ...batches,
    flat(rows!, a),
    flat(inner, a),
  ])
  const right = node.b.reshape(arrange(node, b, [...batch, ...inner, ...columns!]), [
    ...batches,
    flat(inner, b),
    flat(columns!, b),
  ])
  const product = node.b.matmul(left, right)
  return {
    labels: [...batch, ...rows!, ...columns!],
    x: node.b.reshape(product, [...batches, ...size(a, rows!), ...size(b, columns!)]),
  }
}

function einsum(node: Node): MLOperand {
  const equation = node.text('equation', '').replaceAll(' ', '')
  const [left, right] = equation.split('->')
  const inputs = left!.split(',')
  if (
    !/^[A-Za-z,]*(->[A-Za-z]*)?$/.test(equation) ||
    inputs.some((each) => new Set(each).size !== each.length)
  )
    throw node.unsupported(`equation "${equation}": letters alone, each once in a term, are supported`)
  if (inputs.length !== node.count) throw node.corrupt(`equation "${equation}" for ${node.count} inputs`)
  const once = [...left!.replaceAll(',', '')].filter(
    (each, _, all) => all.indexOf(each) === all.lastIndexOf(each),
  )
  const output = right === undefined ? once.sort() : [...right]
  const terms = inputs.map((labels, at): Term => ({ labels: [...labels], x: node.operand(at) }))
  terms.forEach(({ labels, x }) => {
    if (labels.length !== x.shape.length)
      throw node.corrupt(`"${labels.join('')}" for the shape [${x.shape}]`)
  })
  let [all, ...rest] = terms as [Term, ...Term[]]
  while (rest.length > 0) {
    const [next, ...later] = rest as [Term, ...Term[]]
    all = contract(node, all, next, new Set([...output, ...later.flatMap(({ labels }) => labels)]))
    rest = later
  }
  if (!output.every((label) => all.labels.includes(label))) throw node.corrupt(`equation "${equation}"`)
  return node.b.identity(arrange(node, all, output))
}

const activationNames: Readonly<Record<string, 'relu' | 'sigmoid' | 'tanh'>> = {
  relu: 'relu',
  sigmoid: 'sigmoid',
  tanh: 'tanh',
}
const directions = { forward: 'forward', reverse: 'backward', bidirectional: 'both' } as const

/** What LSTM and GRU have in common. */
function network(node: Node, gates: number, functions: number) {
  const [steps] = node.shape(0)
  const named = node.text('direction', 'forward') as keyof typeof directions
  const direction = directions[named]
  if (direction === undefined) throw node.corrupt(`direction "${named}"`)
  if (node.attribute('clip') !== undefined) throw node.unsupported('clip is not supported')
  if (node.int('layout', 0) !== 0) throw node.unsupported('layout 1 (batches first) is not supported')
  if (node.has(4) && node.numbers(4)!.some((length) => length !== steps))
    throw node.unsupported('sequences that are shorter than the input are not supported')
  const names = node.texts('activations')?.map((name) => {
    const known = activationNames[name.toLowerCase()]
    if (known === undefined) throw node.unsupported(`activation "${name}" is not supported`)
    return known
  })
  if (names?.some((name, at) => name !== names[at % functions]))
    throw node.unsupported('activations that differ between directions are not supported')
  const [w, r] = [node.operand(1), node.operand(2)]
  const hidden = r.shape[2] ?? 0
  const [bias, recurrentBias] = node.has(3)
    ? node.b.split(node.operand(3), [gates * hidden, gates * hidden], { axis: 1 })
    : []
  const activations = names?.slice(0, functions)
  const options = {
    bias,
    recurrentBias,
    initialHiddenState: node.optional(5),
    direction,
    activations,
    returnSequence: true,
  }
  return { x: node.operand(0), w, r, steps: steps!, hidden, options }
}

function lstm(node: Node) {
  if (node.int('input_forget', 0) !== 0) throw node.unsupported('input_forget is not supported')
  // The output gate of ONNX's looks at the new cell, that of WebNN's at the one before.
  if (node.has(7)) throw node.unsupported('peepholes are not supported')
  const { x, w, r, steps, hidden, options } = network(node, 4, 3)
  const more = {
    initialCellState: node.optional(6),
    layout: 'iofg',
  } as const
  const [h, c, all] = node.b.lstm(x, w, r, steps, hidden, given({ ...options, ...more }))
  return [all, h, c]
}

function gru(node: Node) {
  const { x, w, r, steps, hidden, options } = network(node, 3, 2)
  const resetAfter = node.int('linear_before_reset', 0) !== 0
  const [h, all] = node.b.gru(
    x,
    w,
    r,
    steps,
    hidden,
    given({ ...options, resetAfter, layout: 'zrn' as const }),
  )
  return [all, h]
}

export const matrix: Mappings = {
  MatMul: (node) => multiply(node, node.operand(0), node.operand(1)),
  Gemm: gemm,
  Einsum: einsum,
  LSTM: lstm,
  GRU: gru,
}
