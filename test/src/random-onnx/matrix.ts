import { broadcast } from './elementwise.js'
import { count, type Live, type Maker, type Step, tensorOf } from './maker.js'

/** What sums of `terms` products make of an operand that is multiplied by numbers up to `by`. */
const sums = (x: Live, terms: number, by = 1) => ({
  bound: x.bound * terms * by,
  error: x.error * terms * by,
  terms,
})

/** Products of whatever two values fit, or of one and a constant, from either side, with batches. */
function matMul(m: Maker): void {
  const a = m.float(undefined, ({ shape }) => shape.length > 0)
  const k = a.shape.at(-1)!
  const partners = m.live.filter(
    ({ type, shape }) =>
      type === 'float32' &&
      shape.length > 1 &&
      a.shape.length > 1 &&
      shape.at(-2) === k &&
      broadcast(a.shape.slice(0, -2), shape.slice(0, -2)) !== undefined,
  )
  if (partners.length > 0 && m.chance(0.6)) {
    const b = m.pick(partners)
    const shape = [
      ...broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2))!,
      a.shape.at(-2)!,
      b.shape.at(-1)!,
    ]
    const error = k * (a.error * b.bound + b.error * a.bound)
    m.node('MatMul', [a, b], { shape, bound: k * a.bound * b.bound, error, terms: k })
    return
  }
  if (m.chance(0.3)) {
    // From the left.
    const k = a.shape.length > 1 ? a.shape.at(-2)! : a.shape[0]!
    const rows = m.int(1, 4)
    const shape = a.shape.length > 1 ? a.shape.with(-2, rows) : [rows]
    m.node('MatMul', [m.floats([rows, k]), a], { shape, ...sums(a, k) })
    return
  }
  if (m.chance(0.2)) m.node('MatMul', [a, m.floats([k])], { shape: a.shape.slice(0, -1), ...sums(a, k) })
  else {
    const n = m.int(1, 6)
    const batches = a.shape.length > 2 && m.chance(0.4) ? a.shape.slice(0, -2) : []
    m.node('MatMul', [a, m.floats([...batches, k, n])], { shape: a.shape.with(-1, n), ...sums(a, k) })
  }
}

function gemm(m: Maker): void {
  const x = m.float(2)
  const [transA, transB] = [m.int(0, 1), m.int(0, 1)]
  const [rows, k] = transA ? [x.shape[1]!, x.shape[0]!] : [x.shape[0]!, x.shape[1]!]
  const n = m.int(1, 6)
  const [alpha, beta] = m.chance(0.5) ? [1, 1] : [0.5, 0.75]
  const c = m.pick([[n], [rows, n], [rows, 1], [1], [], undefined])
  const like = sums(x, k)
  const inputs = [x, m.floats(transB ? [n, k] : [k, n]), ...(c ? [m.floats(c)] : [])]
  m.node(
    'Gemm',
    inputs,
    { ...like, shape: [rows, n], bound: like.bound + 1 },
    { transA, transB, alpha, beta },
  )
}

function einsum(m: Maker): void {
  const x = m.float(undefined, ({ shape }) => shape.length === 2 || shape.length === 3)
  const [j, k] = x.shape.slice(-2) as [number, number]
  const n = m.int(1, 3)
  type Equation = readonly [
    text: string,
    other: readonly number[] | undefined,
    shape: readonly number[],
    terms: number,
  ]
  const equations: readonly Equation[] =
    x.shape.length === 2
      ? [
          ['ij,jk->ki', [k, n], [n, j], k],
          ['ij,ij->j', [j, k], [k], j],
          ['ij->ji', undefined, [k, j], 1],
          ['ij,k->ikj', [n], [j, n, k], 1],
        ]
      : [
          ['bij,bjk->bik', [x.shape[0]!, k, n], [x.shape[0]!, j, n], k],
          ['bij,kj->bki', [n, k], [x.shape[0]!, n, j], k],
          ['bij->bi', undefined, [x.shape[0]!, j], k],
        ]
  const [equation, other, shape, terms] = m.pick(equations)
  m.node('Einsum', other ? [x, m.floats(other)] : [x], { shape, ...sums(x, terms) }, { equation })
}

/** A network over time: its results are bounded, its slopes not steep while weights are small. */
const recurrent =
  (op: 'LSTM' | 'GRU', gates: number): Step =>
  (m) => {
    const x = m.float(3, ({ shape, bound }) => shape[0]! <= 5 && bound <= 20)
    const [steps, batch, size] = x.shape as [number, number, number]
    const hidden = m.int(1, 4)
    const direction = m.pick(['forward', 'reverse', 'bidirectional'])
    const d = direction === 'bidirectional' ? 2 : 1
    const small = (shape: readonly number[]) => m.floats(shape, -0.3, 0.3)
    const bias = m.chance(0.7) ? [small([d, 2 * gates * hidden])] : []
    const states = [small([d, batch, hidden]), ...(op === 'LSTM' ? [small([d, batch, hidden])] : [])]
    const more = bias.length > 0 && m.chance(0.5) ? ['', ...states] : []
    const inputs = [x, small([d, gates * hidden, size]), small([d, gates * hidden, hidden]), ...bias, ...more]
    const like = {
      bound: 1,
      error: 2 * steps * size * x.error,
      terms: steps * (size + hidden),
      magnitude: Math.max(1, x.bound),
    }
    const last = { ...like, shape: [d, batch, hidden] }
    const cell = { ...last, bound: steps + 1 }
    const all = m.chance(0.6) ? { ...like, shape: [steps, d, batch, hidden] } : undefined
    const attributes = { hidden_size: hidden, direction }
    if (op === 'LSTM') m.nodeOf(op, inputs, [all, last, cell], attributes)
    else m.nodeOf(op, inputs, [all, last], { ...attributes, linear_before_reset: m.int(0, 1) })
  }

export const matrices: readonly Step[] = [matMul, gemm, einsum, recurrent('LSTM', 4), recurrent('GRU', 3)]

/** Windows along one axis: what onnxruntime and WebNN count alike. */
interface Along {
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly pads: readonly [number, number]
  readonly out: number
}

function along(m: Maker, size: number, most: number, dilates: boolean): Along {
  const [kernel, stride] = [m.int(1, Math.min(most, size)), m.int(1, 2)]
  const dilation = dilates && kernel > 1 && (kernel - 1) * 2 + 1 <= size && m.chance(0.3) ? 2 : 1
  const reach = (kernel - 1) * dilation + 1
  const side = () => (kernel > 1 && m.chance(0.5) ? m.int(0, kernel - 1) : 0)
  const pads = [side(), side()] as const
  return { kernel, stride, dilation, pads, out: Math.floor((size + pads[0] + pads[1] - reach) / stride) + 1 }
}

const attributesOf = (windows: readonly Along[]) => ({
  kernel_shape: windows.map(({ kernel }) => kernel),
  strides: windows.map(({ stride }) => stride),
  dilations: windows.map(({ dilation }) => dilation),
  pads: [...windows.map(({ pads }) => pads[0]), ...windows.map(({ pads }) => pads[1])],
})

/** An image of one dimension or two. */
const image = (m: Maker) => m.float(undefined, ({ shape }) => shape.length === 3 || shape.length === 4)

function conv(m: Maker): void {
  const x = image(m)
  const [n, c, ...sizes] = x.shape as [number, number, ...number[]]
  const groups = m.pick([1, 1, c, ...(c % 2 === 0 ? [2] : [])])
  const out = groups * m.int(1, groups === 1 ? 4 : 2)
  const windows = sizes.map((size) => along(m, size, 3, true))
  const { kernel_shape, ...rest } = attributesOf(windows)
  const filter = [out, c / groups, ...kernel_shape]
  const inputs = [x, m.floats(filter), ...(m.chance(0.7) ? [m.floats([out])] : [])]
  const like = sums(x, count(filter.slice(1)))
  const same = m.chance(0.2)
  const shape = [
    n,
    out,
    ...windows.map(({ out }, at) => (same ? Math.ceil(sizes[at]! / windows[at]!.stride) : out)),
  ]
  const { pads: _, ...unpadded } = rest
  const attributes = same ? { ...unpadded, auto_pad: m.pick(['SAME_UPPER', 'SAME_LOWER']) } : rest
  m.want(!same || windows.every(({ dilation }) => dilation === 1))
  m.node('Conv', inputs, { ...like, shape, bound: like.bound + 1 }, { ...attributes, group: groups })
}

function convTranspose(m: Maker): void {
  const x = image(m)
  const [n, c, ...sizes] = x.shape as [number, number, ...number[]]
  const groups = c % 2 === 0 && m.chance(0.4) ? 2 : 1
  const each = m.int(1, 2)
  const windows = sizes.map((size) => {
    const [kernel, stride] = [m.int(1, 3), m.int(1, 2)]
    const pads = [0, 0].map(() => (kernel > 1 && size > 1 ? m.int(0, 1) : 0)) as [number, number]
    const more = stride > 1 ? m.int(0, 1) : 0
    return { kernel, stride, pads, more, out: (size - 1) * stride + more + kernel - pads[0] - pads[1] }
  })
  const filter = [c, each, ...windows.map(({ kernel }) => kernel)]
  const inputs = [x, m.floats(filter), ...(m.chance(0.5) ? [m.floats([each * groups])] : [])]
  const like = sums(x, (c / groups) * count(filter.slice(2)))
  const { strides, pads } = attributesOf(windows.map((window) => ({ ...window, dilation: 1 })))
  const attributes = { strides, pads, group: groups, output_padding: windows.map(({ more }) => more) }
  const shape = [n, each * groups, ...windows.map(({ out }) => out)]
  m.node('ConvTranspose', inputs, { ...like, shape, bound: like.bound + 1 }, attributes)
}

const pool =
  (op: 'MaxPool' | 'AveragePool' | 'LpPool'): Step =>
  (m) => {
    const x = image(m)
    const [n, c, ...sizes] = x.shape as [number, number, ...number[]]
    const dilates = op === 'MaxPool' || m.opset >= (op === 'LpPool' ? 18 : 19)
    const windows = sizes.map((size) => along(m, size, 3, dilates))
    const { dilations, ...rest } = attributesOf(windows)
    const ceil = m.opset >= (op === 'LpPool' ? 18 : 13) && op !== 'LpPool' ? m.int(0, 1) : 0
    const outs = windows.map(({ kernel, stride, dilation, pads, out }, at) => {
      if (!ceil) return out
      const size = sizes[at]! + pads[0]
      const last = Math.ceil((size + pads[1] - ((kernel - 1) * dilation + 1)) / stride)
      // A window that begins behind the image is none, though ONNX's own inference of shapes counts it up to operator set 21.
      m.want(last * stride < size)
      return last + 1
    })
    const area = count(windows.map(({ kernel }) => kernel))
    const like =
      op === 'LpPool'
        ? { bound: Math.sqrt(area) * x.bound, error: Math.sqrt(area) * x.error }
        : { bound: x.bound, error: x.error }
    const attributes = {
      ...rest,
      ...(dilates ? { dilations } : {}),
      ...(op === 'LpPool' ? { p: 2 } : { ceil_mode: ceil }),
      ...(op === 'AveragePool' ? { count_include_pad: m.int(0, 1) } : {}),
    }
    m.node(op, [x], { shape: [n, c, ...outs], ...like, terms: area }, attributes)
  }

const globalPool =
  (op: string): Step =>
  (m) => {
    // onnxruntime has no GlobalLpPool of operator set 22.
    m.want(op !== 'GlobalLpPool' || m.opset < 22)
    const x = image(m)
    const area = count(x.shape.slice(2))
    const by = op === 'GlobalLpPool' ? Math.sqrt(area) : 1
    const shape = x.shape.map((size, at) => (at < 2 ? size : 1))
    m.node(op, [x], { shape, bound: by * x.bound, error: by * x.error, terms: area })
  }

function resize(m: Maker): void {
  const x = m.float(4, ({ shape }) => count(shape) < 500)
  const mode = m.pick(['nearest', 'linear', 'cubic'])
  const whole = m.chance(0.5)
  const sizes = x.shape.map((size, at) => (at < 2 ? size : whole ? size * 2 : m.int(1, 2 * size)))
  // Where a place falls between two elements, float32 and double may choose differently: nearest is asked for whole scales.
  m.want(whole || mode !== 'nearest')
  const coordinates = m.pick(
    mode === 'nearest'
      ? ['asymmetric', 'half_pixel']
      : ['half_pixel', 'align_corners', 'asymmetric', 'pytorch_half_pixel'],
  )
  const doubled = m.constant(tensorOf('float32', [4], [1, 1, 2, 2]))
  const by = whole && m.chance(0.5) ? [doubled] : ['', m.ints(sizes)]
  const more = mode === 'cubic' ? 2.5 : 1
  const like = { shape: sizes, bound: more * x.bound, error: more * x.error }
  const nearest =
    mode === 'nearest' ? { nearest_mode: coordinates === 'asymmetric' ? 'floor' : 'round_prefer_floor' } : {}
  m.node('Resize', [x, '', ...by], mode === 'nearest' ? { ...x, shape: sizes } : like, {
    mode,
    coordinate_transformation_mode: coordinates,
    ...nearest,
  })
}

export const images: readonly Step[] = [
  conv,
  convTranspose,
  pool('MaxPool'),
  pool('AveragePool'),
  pool('LpPool'),
  ...['GlobalAveragePool', 'GlobalMaxPool', 'GlobalLpPool'].map(globalPool),
  resize,
]
