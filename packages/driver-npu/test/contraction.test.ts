import fc from 'fast-check'
import t, { type Test as T } from 'tap'
import { contract } from '../model/tensor/contract.js'
import type { TensorParams, Window } from '../model/tensor/params.js'

const RUNS = Number(process.env.UACCEL_CONTRACTIONS ?? 400)
const CONTRACT = 0x21
const FLOAT32 = 4
const TRANSPOSED = 1

/** One dimension of a contraction; the last ones, `inner` of them, are added up. */
interface Contraction {
  readonly dims: readonly number[]
  readonly inner: number
  readonly a: readonly number[]
  readonly b: readonly number[]
  readonly d: readonly number[]
  readonly windows?: readonly Window[]
  readonly transposed?: boolean
}

/** First and last element that an operand has, relative to that of index 0. */
function range(c: Contraction, strides: readonly number[], windows: readonly Window[]): [number, number] {
  const reach = strides.map((stride, r) => {
    const window = windows.find(({ out }) => out === r)
    return stride * ((window?.size ?? c.dims[r]) - 1)
  })
  const sum = (side: (value: number) => number) => reach.reduce((all, value) => all + side(value), 0)
  return [sum((v) => Math.min(v, 0)), sum((v) => Math.max(v, 0))]
}

function* indices(dims: readonly number[]): Generator<number[]> {
  const at = dims.map(() => 0)
  for (;;) {
    yield at
    let r = dims.length - 1
    for (; r >= 0 && ++at[r] === dims[r]; r--) at[r] = 0
    if (r < 0) return
  }
}

const dot = (index: readonly number[], strides: readonly number[]) =>
  index.reduce((sum, i, r) => sum + i * strides[r], 0)

/** What the specification says, one multiplication after the other. */
function expected(c: Contraction, a: (at: number) => number, b: (at: number) => number): Map<number, number> {
  const sums = new Map<number, number>()
  for (const index of indices(c.dims)) {
    const inA = [...index]
    let outside = false
    for (const w of c.windows ?? []) {
      const [out, kernel] = [index[w.out], index[w.kernel]]
      const place = c.transposed
        ? (out + w.pad - kernel * w.dilation) / w.stride
        : out * w.stride + kernel * w.dilation - w.pad
      outside ||= !Number.isInteger(place) || place < 0 || place >= w.size
      inA[w.out] = place
    }
    const to = dot(index, c.d)
    const product = outside ? 0 : a(dot(inA, c.a)) * b(dot(index, c.b))
    sums.set(to, (sums.get(to) ?? 0) + product)
  }
  return sums
}

/** Runs it on small whole numbers, whose sums float32 holds exactly, between elements that nothing may touch. */
function check(c: Contraction, t: T): void {
  const windows = c.windows ?? []
  const view = (strides: readonly number[], slides: readonly Window[]) => {
    const [low, high] = range(c, strides, slides)
    return { type: FLOAT32, strides, before: -low, after: high + 1 }
  }
  const views = { a: view(c.a, windows), b: view(c.b, []), d: view(c.d, []) }
  const memory = (v: { before: number; after: number }, seed: number) => {
    const data = new Float32Array(v.before + v.after + 4)
    for (let at = 0; at < data.length; at++) data[at] = ((at * 7919 + seed) % 17) - 8
    return { data, base: v.before + 2 }
  }
  const [a, b] = [memory(views.a, 3), memory(views.b, 5)]
  const d = memory(views.d, 1)
  const params: TensorParams = {
    opcode: CONTRACT,
    rank: c.dims.length,
    inner: c.inner,
    fn: 0,
    flags: c.transposed ? TRANSPOSED : 0,
    compute: FLOAT32,
    dims: c.dims,
    ...views,
    c: undefined,
    stages: [],
    windows,
    indices: undefined,
    axes: undefined,
    epsilon: 0,
  }
  const wanted = d.data.slice()
  const sums = expected(
    c,
    (at) => a.data[a.base + at],
    (at) => b.data[b.base + at],
  )
  for (const [at, sum] of sums) wanted[d.base + at] = sum
  contract(params, { a, b, c: undefined }, d)
  const wrong = wanted.findIndex((value, at) => value !== d.data[at])
  if (wrong !== -1) t.match(d.data[wrong], wanted[wrong], `element ${wrong - d.base} of ${JSON.stringify(c)}`)
}

/** Strides of a dense tensor whose dimensions are stored in that order, some of them from the end. */
function dense(dims: readonly number[], order: readonly number[], reversed: readonly boolean[]): number[] {
  const strides = dims.map(() => 0)
  let step = 1
  for (const r of order) {
    strides[r] = reversed[r] ? -step : step
    step *= dims[r]
  }
  return strides
}

const order = (count: number) =>
  fc.shuffledSubarray(
    Array.from({ length: count }, (_, r) => r),
    { minLength: count },
  )
const flags = (count: number) => fc.array(fc.boolean(), { minLength: count, maxLength: count })

t.test('contractions of any shape, with any strides', async (t) => {
  const dimension = fc.record({
    size: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 5, max: 20 })),
    of: fc.constantFrom('a', 'b', 'both', 'inner', 'inner only a', 'neither'),
  })
  const cases = fc.array(dimension, { minLength: 1, maxLength: 5 }).chain((some) => {
    const isInner = ({ of }: { of: string }) => of.startsWith('inner')
    const all = [...some.filter((d) => !isInner(d)), ...some.filter(isInner)]
    const dims = all.map(({ size }) => size)
    const strides = fc.tuple(order(dims.length), flags(dims.length)).map(([o, r]) => dense(dims, o, r))
    return fc.tuple(strides, strides, strides).map(([a, b, d]): Contraction => {
      const keep = (strides: number[], ...kinds: string[]) =>
        strides.map((stride, r) => (kinds.includes(all[r].of) ? stride : 0))
      return {
        dims,
        inner: all.filter(isInner).length,
        a: keep(a, 'a', 'both', 'inner', 'inner only a'),
        b: keep(b, 'b', 'both', 'inner'),
        d: keep(d, 'a', 'b', 'both', 'neither'),
      }
    })
  })
  const small = cases.filter(({ dims }) => dims.reduce((product, size) => product * size, 1) <= 20_000)
  fc.assert(
    fc.property(small, (c) => check(c, t)),
    { numRuns: RUNS },
  )
})

/** A convolution of images: dimensions N, G, O, OH, OW; C, KH, KW. */
interface Convolution {
  readonly n: number
  readonly groups: number
  readonly o: number
  readonly c: number
  readonly size: readonly [number, number]
  readonly kernel: readonly [number, number]
  readonly stride: readonly [number, number]
  readonly dilation: readonly [number, number]
  readonly pad: readonly [number, number]
  /** Output places along both sides: what is computed need not end where the image ends. */
  readonly out: readonly [number, number]
  readonly transposed: boolean
}

function convolution(
  g: Convolution,
  last: boolean,
  orders: readonly (readonly number[])[],
  reversed: readonly boolean[],
): Contraction {
  const dims = [g.n, g.groups, g.o, ...g.out, g.c, ...g.kernel]
  const [N, G, O, OH, OW, C, KH, KW] = [0, 1, 2, 3, 4, 5, 6, 7]
  // Dense tensors of these dimensions, in an order of each, or in that of NHWC.
  const lay = (own: readonly number[], sizes: readonly number[], order: readonly number[]) => {
    const ranked = last ? own : own.map((_, at) => own[order[at]])
    return dense(
      sizes,
      ranked,
      reversed.map((r, at) => r && own.includes(at)),
    )
  }
  const image = dims.map((size, r) => (r === OH ? g.size[0] : r === OW ? g.size[1] : size))
  const window = (at: 0 | 1) => ({
    size: g.size[at],
    out: [OH, OW][at],
    kernel: [KH, KW][at],
    stride: g.stride[at],
    dilation: g.dilation[at],
    pad: g.pad[at],
  })
  return {
    dims,
    inner: 3,
    a: lay([C, G, OW, OH, N], image, orders[0]),
    b: lay([KW, KH, C, O, G], dims, orders[1]),
    d: lay([O, G, OW, OH, N], dims, orders[2]),
    windows: [window(0), window(1)],
    transposed: g.transposed,
  }
}

t.test(
  'convolutions with groups, strides, dilations and pads, and transposed ones, in any layout',
  async (t) => {
    const up = (max: number, min = 1) => fc.integer({ min, max })
    const pair = (max: number, min = 1) => fc.tuple(up(max, min), up(max, min))
    const shape = fc.record({
      n: up(2),
      groups: up(3),
      o: up(9),
      c: up(3),
      size: pair(9),
      kernel: pair(3),
      stride: pair(3),
      dilation: pair(3),
      pad: pair(4, 0),
      out: pair(12),
      transposed: fc.boolean(),
    })
    const cases = fc
      .tuple(shape, fc.boolean(), fc.tuple(order(5), order(5), order(5)), flags(8))
      .map(([g, last, orders, reversed]) => convolution(g, last, orders, reversed))
    fc.assert(
      fc.property(cases, (c) => check(c, t)),
      { numRuns: RUNS },
    )
  },
)

t.test('what is more than one block', async (t) => {
  const shapes = [
    { m: 3, n: 5, k: 2500 },
    { m: 600, n: 500, k: 3 },
    { m: 5, n: 300, k: 1030 },
    { m: 300, n: 5, k: 1030 },
    { m: 1, n: 3000, k: 70 },
    { m: 3000, n: 1, k: 70 },
  ]
  for (const { m, n, k } of shapes) {
    check({ dims: [m, n, k], inner: 1, a: [k, 0, 1], b: [0, 1, n], d: [n, 1, 0] }, t)
    check({ dims: [m, n, k], inner: 1, a: [1, 0, m], b: [0, k, 1], d: [1, m, 0] }, t)
  }
  t.pass('all are right')
})

t.test('windows may look far away', async (t) => {
  const far = 65535
  const window = { size: 1, out: 0, kernel: 1, stride: far, dilation: far, pad: far }
  for (const transposed of [false, true]) {
    check({ dims: [70, 70], inner: 1, a: [1, 0], b: [0, 1], d: [1, 0], windows: [window], transposed }, t)
  }
  // One element at the only place that is inside, with a stride that would leave 32 bits at any other.
  check({ dims: [9, 9], inner: 1, a: [2 ** 31 - 1, 0], b: [0, 1], d: [1, 0], windows: [window] }, t)
  t.pass('all are right')
})

t.test('results pass through stages, with C and indices, row by row and lane by lane', async (t) => {
  const [m, n, k] = [13, 11, 3]
  const strided = (strides: readonly number[], type = FLOAT32) => ({ type, strides, before: 0, after: m * n })
  const a = { data: new Float32Array(m * k).map((_, at) => (at % 5) - 2), base: 0 }
  const b = { data: new Float32Array(k * n).map((_, at) => (at % 7) - 3), base: 0 }
  const c = { data: new Int32Array(n).map((_, at) => 10 * at - 40), base: 0 }
  const [ADD, SUB, MUL, LINEAR] = [0x40, 0x41, 0x42, 0x18]
  const [RESULT, C, ALPHA, INDEX] = [0, 3, 4, 8]
  const stage = (fn: number, x: number, y: number, alpha = 0, beta = 0) => ({ fn, x, y, z: 0, alpha, beta })
  // Rows are lanes where the results of A lie side by side, and the other way round.
  for (const [rowStep, columnStep] of [
    [n, 1],
    [1, m],
  ]) {
    const d = { data: new Int8Array(m * n), base: 0 }
    const p: TensorParams = {
      opcode: CONTRACT,
      rank: 3,
      inner: 1,
      fn: 0,
      flags: 0,
      compute: FLOAT32,
      dims: [m, n, k],
      a: strided([k, 0, 1]),
      b: strided([0, 1, n]),
      c: strided([0, 1, 0], 3),
      d: strided([rowStep, columnStep, 0], 2),
      stages: [
        stage(ADD, RESULT, C),
        stage(SUB, RESULT, INDEX),
        stage(ADD, INDEX + 1, RESULT),
        stage(MUL, ALPHA, RESULT, 2),
        stage(LINEAR, RESULT, 0, 1.25, 0.5),
      ],
      windows: [],
      indices: undefined,
      axes: undefined,
      epsilon: 0,
    }
    contract(p, { a, b, c }, d)
    const wanted = new Int8Array(m * n)
    for (const [row, column] of indices([m, n])) {
      let sum = c.data[column] - row + column
      for (let i = 0; i < k; i++) sum += a.data[row * k + i] * b.data[i * n + column]
      wanted[row * rowStep + column * columnStep] = Math.max(-128, Math.min(127, 2.5 * sum + 0.5))
    }
    t.strictSame(d.data, wanted)
  }
})
