import { broadcast } from './elementwise.js'
import { graphOf, type Random } from './graph.js'
import { type Attributes, count } from './maker.js'
import {
  byteLike,
  floatLike,
  type Judgement,
  QuantisedMaker,
  type Step,
  scaleFor,
} from './quantised-maker.js'
import { conv, dynamic, integers, matmul, matmulOfBoth } from './quantised-sums.js'
import { averaged, dequantize, mapped, pooled, quantize, type Window, windowedSize } from './scalar.js'

export interface RandomQuantised extends Random {
  /** Of each value of bytes, in an order in which each can be judged. */
  readonly judgements: readonly Judgement[]
}

const binary =
  (op: 'Add' | 'Mul'): Step =>
  (q) => {
    const { m } = q
    const a = q.find()
    const b = m.pick(q.values.filter(({ live }) => broadcast(live.shape, a.live.shape) !== undefined))
    const shape = broadcast(a.live.shape, b.live.shape)!
    const range = op === 'Add' ? 74 * (a.by.scale + b.by.scale) : 74 * 74 * a.by.scale * b.by.scale
    const to = q.quantization(scaleFor(q, range))
    const spelled = m.chance(0.5)
    const live = spelled
      ? m.hidden(
          `com.microsoft:QLinear${op}`,
          [a, b, undefined].flatMap((each) => (each ? [each.live, ...q.scaled(each.by)] : q.scaled(to))),
          byteLike(shape, to.type),
        )
      : q.quantized(m.hidden(op, [q.dequantized(a), q.dequantized(b)], floatLike(shape)), to)
    q.made(op === 'Add' ? 'Add, QLinearAdd' : 'Mul, QLinearMul', live, to, [a, b], (of) =>
      mapped(
        [a, b].map((each) => ({ numbers: of(each.live.name), by: each.by })),
        shape,
        to,
        op === 'Add' ? (x, y) => x + y : (x, y) => x * y,
      ),
    )
  }

function pool(q: QuantisedMaker): void {
  const { m } = q
  const x = q.find((shape) => shape.length === 4)
  const [n, c, h, w] = x.live.shape as [number, number, number, number]
  const global = m.chance(0.3)
  const window: Window = {
    kernel: global ? [h, w] : [Math.min(h, m.int(1, 3)), Math.min(w, m.int(1, 3))],
    strides: global ? [1, 1] : [m.int(1, 2), m.int(1, 2)],
    dilations: [1, 1],
    pads: [0, 0, 0, 0],
  }
  const shape = [n, c, windowedSize(h, 0, window), windowedSize(w, 1, window)]
  const attributes: Attributes = global
    ? {}
    : { kernel_shape: [...window.kernel], strides: [...window.strides] }
  if (m.chance(0.5)) {
    const direct = m.chance(0.5) && !global
    const live = direct
      ? m.hidden('MaxPool', [x.live], byteLike(shape, x.by.type), attributes)
      : q.quantized(
          m.hidden(global ? 'GlobalMaxPool' : 'MaxPool', [q.dequantized(x)], floatLike(shape), attributes),
          x.by,
        )
    q.made('MaxPool', live, x.by, [x], (of) => {
      const data = pooled(of(x.live.name), window, (values) => Math.max(...values))
      return { data, real: data }
    })
    return
  }
  const to = q.quantization(scaleFor(q, 74 * x.by.scale))
  const op = global ? 'GlobalAveragePool' : 'AveragePool'
  const live = q.quantized(m.hidden(op, [q.dequantized(x)], floatLike(shape), attributes), to)
  q.made('AveragePool', live, to, [x], (of) => averaged(of(x.live.name), window, x.by, to))
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
const leaky = (x: number) => (x < 0 ? Math.fround(x * Math.fround(0.1)) : x)

/** Functions of one value. */
function unary(q: QuantisedMaker): void {
  const { m } = q
  const x = q.find()
  const which = m.pick(['Relu', 'Clip', 'Sigmoid', 'Tanh', 'QLinearSigmoid', 'QLinearLeakyRelu'] as const)
  const bounded = /Sigmoid|Tanh/.test(which)
  // onnxruntime-node 1.30 takes a Relu away that does nothing, and crashes where what was before it is an output.
  const to = q.quantization(bounded ? 1 / 128 : x.by.scale * (0.7 + m.random()), bounded)
  const [low, high] = [Math.fround(-20 * x.by.scale), Math.fround(30 * x.by.scale)]
  const functions: Record<typeof which, (x: number) => number> = {
    Relu: (value) => Math.max(0, value),
    Clip: (value) => Math.min(Math.max(value, low), high),
    Sigmoid: sigmoid,
    QLinearSigmoid: sigmoid,
    Tanh: Math.tanh,
    QLinearLeakyRelu: leaky,
  }
  const spelled = which.startsWith('QLinear')
  const held = which === 'Clip' ? [m.scalar(low), m.scalar(high)] : []
  const attributes: Attributes = which === 'QLinearLeakyRelu' ? { alpha: 0.1 } : {}
  const { shape } = x.live
  const live = spelled
    ? m.hidden(
        `com.microsoft:${which}`,
        [x.live, ...q.scaled(x.by), ...q.scaled(to)],
        byteLike(shape, to.type),
        attributes,
      )
    : q.quantized(m.hidden(which, [q.dequantized(x), ...held], floatLike(shape)), to)
  q.made(bounded || spelled ? 'Sigmoid, Tanh, LeakyRelu' : 'Relu, Clip', live, to, [x], (of) =>
    mapped([{ numbers: of(x.live.name), by: x.by }], shape, to, functions[which]),
  )
}

/** Bytes in another order, as such or between dequantizeLinear and quantizeLinear. */
function moved(q: QuantisedMaker): void {
  const { m } = q
  const x = q.find((shape) => shape.length > 0)
  const { shape } = x.live
  const way = m.pick(['Reshape', 'Transpose', 'Slice', 'Flatten'] as const)
  const perm = m.shuffled(shape.map((_, at) => at))
  const axis = m.int(0, shape.length - 1)
  const start = m.int(0, shape[axis]! - 1)
  const size = count(shape)
  const image = [1, size % 2 === 0 ? 2 : 1, 1, size % 2 === 0 ? size / 2 : size]
  const to = {
    Reshape: m.chance(0.5) ? [shape[0]!, size / shape[0]!] : image,
    Transpose: perm.map((at) => shape[at]!),
    Slice: shape.with(axis, shape[axis]! - start),
    Flatten: [shape[0]!, size / shape[0]!],
  }[way]
  const more =
    way === 'Reshape'
      ? [m.ints(to)]
      : way === 'Slice'
        ? [start, shape[axis]!, axis].map((each) => m.ints([each]))
        : []
  const attributes: Attributes = way === 'Transpose' ? { perm } : way === 'Flatten' ? { axis: 1 } : {}
  const live = m.chance(0.5)
    ? m.hidden(way, [x.live, ...more], byteLike(to, x.by.type), attributes)
    : q.quantized(m.hidden(way, [q.dequantized(x), ...more], floatLike(to), attributes), x.by)
  q.made('Reshape, Transpose, Slice', live, x.by, [x], (of) => {
    const { data } = of(x.live.name)
    const from =
      way === 'Transpose' ? transposed(shape, perm) : way === 'Slice' ? sliced(shape, axis, start) : undefined
    const values = from ? from.map((at) => data[at]!) : data
    return { data: values, real: values }
  })
}

const strides = (shape: readonly number[]) => shape.map((_, at) => count(shape.slice(at + 1)))

/** For each element of a result, where it comes from. */
function transposed(shape: readonly number[], perm: readonly number[]): number[] {
  const from = strides(shape)
  const to = perm.map((at) => shape[at]!)
  const by = strides(to)
  return Array.from({ length: count(shape) }, (_, at) =>
    perm.reduce((place, axis, i) => place + (Math.floor(at / by[i]!) % to[i]!) * from[axis]!, 0),
  )
}

function sliced(shape: readonly number[], axis: number, start: number): number[] {
  const inner = count(shape.slice(axis + 1))
  return Array.from({ length: count(shape) }, (_, at) => at).filter(
    (at) => Math.floor(at / inner) % shape[axis]! >= start,
  )
}

/** Parts of quantizations of their own, brought to one. */
function concat(q: QuantisedMaker): void {
  const { m } = q
  const a = q.find((shape) => shape.length > 0)
  const { shape } = a.live
  const axis = m.int(0, shape.length - 1)
  const fits = q.values.filter(
    ({ live }) =>
      live.shape.length === shape.length && live.shape.every((size, at) => at === axis || size === shape[at]),
  )
  const all = [a, m.pick(fits)]
  const to = q.quantization(Math.max(...all.map(({ by }) => by.scale)) * (0.8 + 0.4 * m.random()))
  const sizes = all.map(({ live }) => live.shape[axis]!)
  const wide = shape.with(axis, sizes[0]! + sizes[1]!)
  const operands = all.map((each) => q.dequantized(each))
  const live = q.quantized(m.hidden('Concat', operands, floatLike(wide), { axis }), to)
  q.made('Concat', live, to, all, (of) => {
    const inner = count(shape.slice(axis + 1))
    const data: number[] = []
    for (let outer = 0; outer < count(shape.slice(0, axis)); outer++)
      all.forEach(({ live, by }, at) => {
        const each = sizes[at]! * inner
        const part = of(live.name).data.slice(outer * each, (outer + 1) * each)
        data.push(...part.map((byte) => quantize(dequantize(byte, by), to)))
      })
    return { data, real: data }
  })
}

const steps: readonly Step[] = [
  conv,
  conv,
  conv,
  matmul,
  matmul,
  matmul,
  matmulOfBoth,
  binary('Add'),
  binary('Mul'),
  pool,
  pool,
  unary,
  moved,
  moved,
  concat,
  integers,
  dynamic,
]

/** An ONNX graph of bytes, in both spellings: operators of quantised tensors, and others between DequantizeLinear and QuantizeLinear. */
export function randomQuantisedGraph(seed: number, length: number): RandomQuantised {
  const q = new QuantisedMaker(seed, 13 + ((Math.imul(seed, 0x9e3779b1) >>> 0) % 9))
  const { m } = q
  const shapes = [
    [m.int(1, 2), m.int(1, 4), m.int(2, 6), m.int(2, 6)],
    [m.int(1, 4), m.int(1, 8)],
    [m.int(1, 2), m.int(1, 4), m.int(1, 6)],
  ]
  for (const shape of shapes) {
    m.input('float32', shape, 4)
    const x = m.inputs.at(-1)!
    const by = q.quantization(8 / 255)
    q.made('QuantizeLinear', q.quantized(x, by), by, [], (of) => {
      const { data } = of(x.name)
      const result = data.map((value) => quantize(value, by))
      return { data: result, real: result }
    })
  }
  for (let tries = 0; q.judgements.length < length + shapes.length && tries < 20 * length; tries++)
    q.step(m.pick(steps))
  // All that is judged is an output.
  const judged = new Set(q.judgements.map(({ name }) => name))
  return { ...graphOf(m, `seed ${seed}`, judged), judgements: q.judgements }
}
