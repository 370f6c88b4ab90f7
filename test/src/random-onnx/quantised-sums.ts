import { type Attributes, count, type Live, tensorOf } from './maker.js'
import { byteLike, floatLike, limited, type QuantisedMaker, scaleFor, spreads } from './quantised-maker.js'
import {
  convolved,
  dynamicQuantization,
  type Judged,
  type Limits,
  multiplied,
  type Numbers,
  quantize,
  requantized,
  unlimited,
  type Window,
  windowedSize,
} from './scalar.js'

export function conv(q: QuantisedMaker): void {
  const { m } = q
  const x = q.find((shape) => shape.length === 4)
  const [, c, h, w] = x.live.shape as [number, number, number, number]
  const groups = m.pick([1, 1, c])
  const outputs = groups === 1 ? m.int(1, 5) : c
  const side = (size: number) => m.int(1, Math.min(3, size))
  const kernel = [side(h), side(w)] as const
  const dilates = (at: 0 | 1) => (m.chance(0.2) && (kernel[at] - 1) * 2 < [h, w][at]! ? 2 : 1)
  const pads = Array.from({ length: 4 }, (_, at) => (kernel[(at % 2) as 0 | 1] > 1 ? m.int(0, 1) : 0))
  const window: Window = {
    kernel,
    strides: [m.int(1, 2), m.int(1, 2)],
    dilations: [dilates(0), dilates(1)],
    pads: pads as unknown as Window['pads'],
  }
  const shape = [x.live.shape[0]!, outputs, windowedSize(h, 0, window), windowedSize(w, 1, window)]
  const type = q.weightType()
  const filter = q.weights([outputs, c / groups, ...kernel], type)
  const perChannel = m.chance(0.4)
  const scales = Array.from({ length: perChannel ? outputs : 1 }, () => q.scaleNear(0.01 + 0.03 * m.random()))
  const filterZero = type === 'uint8' ? m.int(100, 150) : 0
  const spread = Math.round(74 * spreads[type] * Math.sqrt(count(filter.numbers.shape.slice(1))))
  const to = q.quantization(scaleFor(q, spread * x.by.scale * scales[0]!))
  const bias = m.chance(0.7) ? Array.from({ length: outputs }, () => m.int(-spread, spread)) : undefined
  const biasName = bias && m.constant(tensorOf('int32', [outputs], bias))
  const attributes: Attributes = {
    strides: [...window.strides],
    dilations: [...window.dilations],
    pads,
    group: groups,
    kernel_shape: [...kernel],
  }
  const scaleName = m.constant(tensorOf('float32', perChannel ? [outputs] : [], scales))
  const zeros = new Array<number>(scales.length).fill(filterZero)
  const zeroName = m.constant(tensorOf(type, perChannel ? [outputs] : [], zeros))
  const spelled = m.chance(0.5)
  let [live, limits]: [Live, Limits] = [x.live, unlimited]
  if (spelled) {
    const inputs = [x.live, ...q.scaled(x.by), filter.name, scaleName, zeroName, ...q.scaled(to)]
    live = m.hidden(
      'QLinearConv',
      [...inputs, ...(biasName ? [biasName] : [])],
      byteLike(shape, to.type),
      attributes,
    )
  } else {
    const axis: Attributes = perChannel ? { axis: 0 } : {}
    const weights = m.hidden(
      'DequantizeLinear',
      [filter.name, scaleName, zeroName],
      floatLike(filter.numbers.shape),
      axis,
    )
    const operands = [q.dequantized(x), weights]
    if (biasName) {
      const each = scales.map((scale) => Math.fround(x.by.scale * scale))
      const biasScale = m.constant(tensorOf('float32', perChannel ? [outputs] : [], each))
      operands.push(m.hidden('DequantizeLinear', [biasName, biasScale], floatLike([outputs]), axis))
    }
    const before = limited(q, m.hidden('Conv', operands, floatLike(shape), attributes), to)
    limits = before.limits
    live = q.quantized(before.x, to)
  }
  q.made(spelled ? 'QLinearConv' : 'Conv of floats', live, to, [x], (of) => {
    const { sums, channelOf } = convolved(
      of(x.live.name),
      filter.numbers,
      window,
      groups,
      x.by.zero,
      filterZero,
      bias,
    )
    return requantized(sums, channelOf, x.by, scales, to, limits)
  })
}

export function matmul(q: QuantisedMaker): void {
  const { m } = q
  const a = q.find((shape) => shape.length === 2 || shape.length === 3)
  const k = a.live.shape.at(-1)!
  const n = m.int(1, 6)
  const type = q.weightType()
  const b = q.weights([k, n], type)
  const spelled = m.chance(0.5)
  const perColumn = spelled && m.chance(0.4)
  const scales = Array.from({ length: perColumn ? n : 1 }, () => q.scaleNear(0.01 + 0.03 * m.random()))
  const zeros = scales.map(() => (type === 'uint8' ? m.int(100, 150) : 0))
  const shape = a.live.shape.with(-1, n)
  const spread = Math.round(74 * spreads[type] * Math.sqrt(k))
  const to = q.quantization(scaleFor(q, spread * a.by.scale * scales[0]!))
  const scaleName = m.constant(tensorOf('float32', perColumn ? [n] : [], scales))
  const zeroName = m.constant(tensorOf(type, perColumn ? [n] : [], zeros))
  const gemm = !spelled && shape.length === 2 && m.chance(0.5)
  const bias = gemm && m.chance(0.7) ? Array.from({ length: n }, () => m.int(-spread, spread)) : undefined
  let [live, limits]: [Live, Limits] = [a.live, unlimited]
  if (spelled) {
    const inputs = [a.live, ...q.scaled(a.by), b.name, scaleName, zeroName, ...q.scaled(to)]
    live = m.hidden('QLinearMatMul', inputs, byteLike(shape, to.type))
  } else {
    const weights = m.hidden('DequantizeLinear', [b.name, scaleName, zeroName], floatLike([k, n]))
    const operands = [q.dequantized(a), weights]
    if (bias) {
      const biasScale = m.scalar(Math.fround(a.by.scale * scales[0]!))
      const biasName = m.constant(tensorOf('int32', [n], bias))
      operands.push(m.hidden('DequantizeLinear', [biasName, biasScale], floatLike([n])))
    }
    const before = limited(q, m.hidden(gemm ? 'Gemm' : 'MatMul', operands, floatLike(shape)), to)
    limits = before.limits
    live = q.quantized(before.x, to)
  }
  q.made(spelled ? 'QLinearMatMul' : 'MatMul, Gemm of floats', live, to, [a], (of) =>
    requantized(
      multiplied(of(a.live.name), b.numbers, a.by.zero, zeros, bias),
      (at) => at % n,
      a.by,
      scales,
      to,
      limits,
    ),
  )
}

/** The product of two values that are both computed. */
export function matmulOfBoth(q: QuantisedMaker): void {
  const { m } = q
  const a = q.find((shape) => shape.length === 2 || shape.length === 3)
  const [batches, [rows, k]] = [a.live.shape.slice(0, -2), a.live.shape.slice(-2) as [number, number]]
  const turned = q.m.hidden('Transpose', [a.live], byteLike([...batches, k, rows], a.by.type), {
    perm: batches.length > 0 ? [0, 2, 1] : [1, 0],
  })
  const to = q.quantization(scaleFor(q, 74 * 74 * Math.sqrt(k) * a.by.scale ** 2))
  const inputs = [a.live, ...q.scaled(a.by), turned, ...q.scaled(a.by), ...q.scaled(to)]
  const live = m.hidden('QLinearMatMul', inputs, byteLike([...batches, rows, rows], to.type))
  q.made('QLinearMatMul', live, to, [a], (of) => {
    const numbers = of(a.live.name)
    const data = Array.from({ length: numbers.data.length }, (_, at) => {
      const [batch, place] = [Math.floor(at / (rows * k)), at % (rows * k)]
      return numbers.data[batch * rows * k + (place % rows) * k + Math.floor(place / rows)]!
    })
    const sums = multiplied(numbers, { shape: [...batches, k, rows], data }, a.by.zero, [a.by.zero])
    return requantized(sums, () => 0, a.by, [a.by.scale], to)
  })
}

/** Sums as they are, of int32. */
export function integers(q: QuantisedMaker): void {
  const { m } = q
  const image = m.chance(0.5)
  const x = q.find((shape) => (image ? shape.length === 4 : shape.length === 2 || shape.length === 3))
  const type = q.weightType()
  const zero = type === 'uint8' ? m.int(100, 150) : 0
  const whole = (shape: readonly number[]) => ({ shape, type: 'int32', bound: 1e9, error: 0 }) as const
  const judged = (data: readonly number[]): Judged => ({ data, real: data })
  if (image) {
    const [n, c, h, w] = x.live.shape as [number, number, number, number]
    const window: Window = {
      kernel: [Math.min(h, 2), Math.min(w, 3)],
      strides: [1, 1],
      dilations: [1, 1],
      pads: [1, 1, 1, 1],
    }
    const filter = q.weights([m.int(1, 3), c, ...window.kernel], type)
    const shape = [n, filter.numbers.shape[0]!, windowedSize(h, 0, window), windowedSize(w, 1, window)]
    const inputs = [x.live, filter.name, q.zero(x.by), m.scalar(zero, type)]
    const live = m.hidden('ConvInteger', inputs, whole(shape), { pads: [...window.pads] })
    q.judgements.push({
      kind: 'ConvInteger, MatMulInteger',
      name: live.name,
      type: 'int32',
      from: [x.live.name],
      judge: (of) => judged(convolved(of(x.live.name), filter.numbers, window, 1, x.by.zero, zero).sums),
    })
    return
  }
  const [k, n] = [x.live.shape.at(-1)!, m.int(1, 5)]
  const b = q.weights([k, n], type)
  const zeros = m.chance(0.5)
    ? [zero]
    : Array.from({ length: n }, () => (type === 'uint8' ? m.int(100, 150) : 0))
  const zeroName = m.constant(tensorOf(type, zeros.length === 1 ? [] : [n], zeros))
  const live = m.hidden(
    'MatMulInteger',
    [x.live, b.name, q.zero(x.by), zeroName],
    whole(x.live.shape.with(-1, n)),
  )
  q.judgements.push({
    kind: 'ConvInteger, MatMulInteger',
    name: live.name,
    type: 'int32',
    from: [x.live.name],
    judge: (of) => judged(multiplied(of(x.live.name), b.numbers, x.by.zero, zeros)),
  })
}

/** A scale that depends on the values. */
export function dynamic(q: QuantisedMaker): void {
  const { m } = q
  const x = m.pick(m.inputs.filter(({ type, shape }) => type === 'float32' && shape.length === 2))
  const one = { shape: [], bound: 255, error: 0 } as const
  const likes = [byteLike(x.shape, 'uint8'), one, { ...one, type: 'uint8' as const }]
  const [y, scale, zero] = m.hiddenOf('DynamicQuantizeLinear', [x], likes, {}) as [Live, Live, Live]
  const n = m.int(1, 4)
  const b = q.weights([x.shape[1]!, n], 'uint8')
  const sums = m.hidden('MatMulInteger', [y, b.name, zero, m.scalar(128, 'uint8')], {
    shape: [x.shape[0]!, n],
    type: 'int32',
    bound: 1e9,
    error: 0,
  })
  const judgement = (live: Live, judge: (x: Numbers) => readonly number[]) =>
    q.judgements.push({
      kind: 'DynamicQuantizeLinear',
      name: live.name,
      type: live.type as 'int32',
      from: [],
      judge: (of) => {
        const data = judge(of(x.name))
        return { data, real: data }
      },
    })
  const all = ({ data }: Numbers) => data.map((value) => quantize(value, dynamicQuantization(data)))
  judgement(scale, ({ data }) => [dynamicQuantization(data).scale])
  judgement(sums, (numbers) =>
    multiplied({ ...numbers, data: all(numbers) }, b.numbers, dynamicQuantization(numbers.data).zero, [128]),
  )
  judgement(y, all)
}
