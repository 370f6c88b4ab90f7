import t, { type Test } from 'tap'
import { MLGraphBuilder, type MLOperand, ml } from '../index.js'

// Compared with the formulas of the specification's emulations, gate by gate on nested arrays, in double precision.
const context = await ml.createContext()
const [STEPS, BATCHES, INPUT, HIDDEN] = [3, 2, 3, 2]
type Vector = number[]
type Matrix = Vector[]
type Gates = Readonly<Record<string, { w: Matrix; r: Matrix; b: Vector; rb: Vector; p?: Vector }>>

/** Numbers from -0.9 to 0.9 that are all different, and the same in each run. */
let next = 0
const number = () => Math.fround(Math.sin(++next * 1.7) * 0.9)
const vector = (size: number): Vector => Array.from({ length: size }, number)
const matrix = (rows: number, columns: number): Matrix => Array.from({ length: rows }, () => vector(columns))
const gatesOf = (letters: string): Gates =>
  Object.fromEntries(
    Array.from(letters, (letter) => [
      letter,
      {
        w: matrix(HIDDEN, INPUT),
        r: matrix(HIDDEN, HIDDEN),
        b: vector(HIDDEN),
        rb: vector(HIDDEN),
        p: vector(HIDDEN),
      },
    ]),
  )

const times = (m: Matrix, v: Vector) => m.map((row) => row.reduce((sum, each, at) => sum + each * v[at]!, 0))
const each = (f: (...x: number[]) => number, ...vs: Vector[]): Vector =>
  vs[0]!.map((_, at) => f(...vs.map((v) => v[at]!)))
const add = (...vs: Vector[]) => each((...x) => x.reduce((sum, one) => sum + one, 0), ...vs)
const mul = (a: Vector, b: Vector) => each((x, y) => x * y, a, b)
const sigmoid = (v: Vector) => each((x) => 1 / (1 + Math.exp(-x)), v)
const tanh = (v: Vector) => each(Math.tanh, v)
const relu = (v: Vector) => each((x) => Math.max(x, 0), v)

function gruCell(g: Gates, x: Vector, h: Vector, resetAfter: boolean): Vector {
  const gate = ({ w, r, b, rb }: Gates[string]) => add(times(w, x), b, times(r, h), rb)
  const [z, r] = [sigmoid(gate(g.z!)), sigmoid(gate(g.r!))]
  const { w, r: rn, b, rb } = g.n!
  const before = resetAfter ? mul(r, add(times(rn, h), rb)) : add(times(rn, mul(r, h)), rb)
  const n = tanh(add(times(w, x), b, before))
  return each((z, h, n) => z * h + (1 - z) * n, z, h, n)
}

function lstmCell(g: Gates, x: Vector, h: Vector, c: Vector, last = tanh): [Vector, Vector] {
  const gate = ({ w, r, b, rb, p }: Gates[string], peeps = true) =>
    add(times(w, x), b, times(r, h), rb, ...(peeps ? [mul(p!, c)] : []))
  const [i, o, f] = [sigmoid(gate(g.i!)), sigmoid(gate(g.o!)), sigmoid(gate(g.f!))]
  const state = add(mul(f, c), mul(i, tanh(gate(g.g!, false))))
  return [mul(o, last(state)), state]
}

/** Runs a graph, and answers the elements of each output. */
async function compute(build: (b: MLGraphBuilder) => readonly MLOperand[]): Promise<number[][]> {
  const builder = new MLGraphBuilder(context)
  const operands = build(builder)
  const graph = await builder.build(Object.fromEntries(operands.map((one, at) => [`y${at}`, one])))
  const tensors = await Promise.all(
    operands.map(({ dataType, shape }) => context.createTensor({ dataType, shape, readable: true })),
  )
  context.dispatch(graph, {}, Object.fromEntries(tensors.map((one, at) => [`y${at}`, one])))
  return Promise.all(tensors.map(async (one) => Array.from(new Float32Array(await context.readTensor(one)))))
}

const constant = (b: MLGraphBuilder, shape: number[], data: number[]) =>
  b.constant({ dataType: 'float32', shape }, new Float32Array(data))
/** Weights and biases, packed in the order of a layout; of a network with one direction more in front. */
const packed = (b: MLGraphBuilder, ways: readonly Gates[], layout: string, network: boolean) => {
  const letters = Array.from(layout)
  const pack = (part: 'w' | 'r' | 'b' | 'rb', ...shape: number[]) =>
    constant(
      b,
      [...(network ? [ways.length] : []), letters.length * HIDDEN, ...shape],
      ways.flatMap((gates) => letters.flatMap((letter) => gates[letter]![part].flat())),
    )
  return {
    weight: pack('w', INPUT),
    recurrentWeight: pack('r', HIDDEN),
    bias: pack('b'),
    recurrentBias: pack('rb'),
    /** Of the input, output and forget gate, whatever the layout. */
    peepholeWeight: () =>
      constant(
        b,
        [...(network ? [ways.length] : []), 3 * HIDDEN],
        ways.flatMap((gates) => ['i', 'o', 'f'].flatMap((letter) => gates[letter]!.p!)),
      ),
  }
}

const near = (t: Test, found: number[], wanted: number[], what: string) =>
  t.ok(found.length === wanted.length && found.every((x, at) => Math.abs(x - wanted[at]!) < 1e-6), what, {
    found,
    wanted,
  })

const xs = Array.from({ length: STEPS }, () => matrix(BATCHES, INPUT))
const [h0, c0] = [0, 1].map(() => Array.from({ length: 2 }, () => matrix(BATCHES, HIDDEN)))

for (const layout of ['zrn', 'rzn'] as const)
  for (const resetAfter of [true, false])
    t.test(`gruCell, ${layout}, resetAfter ${resetAfter}`, async (t) => {
      const gates = gatesOf('zrn')
      const [found] = await compute((b) => {
        const { weight, recurrentWeight, bias, recurrentBias } = packed(b, [gates], layout, false)
        const x = constant(b, [BATCHES, INPUT], xs[0]!.flat())
        const h = constant(b, [BATCHES, HIDDEN], h0![0]!.flat())
        return [b.gruCell(x, weight, recurrentWeight, h, HIDDEN, { bias, recurrentBias, resetAfter, layout })]
      })
      near(
        t,
        found!,
        xs[0]!.flatMap((x, at) => gruCell(gates, x, h0![0]![at]!, resetAfter)),
        'hidden state',
      )
    })

for (const layout of ['iofg', 'ifgo'] as const)
  t.test(`lstmCell, ${layout}, with peepholes`, async (t) => {
    const gates = gatesOf('iofg')
    const [hidden, cell] = await compute((b) => {
      const { weight, recurrentWeight, bias, recurrentBias, peepholeWeight } = packed(
        b,
        [gates],
        layout,
        false,
      )
      const x = constant(b, [BATCHES, INPUT], xs[0]!.flat())
      const [h, c] = [h0!, c0!].map((state) => constant(b, [BATCHES, HIDDEN], state[0]!.flat()))
      return b.lstmCell(x, weight, recurrentWeight, h!, c!, HIDDEN, {
        bias,
        recurrentBias,
        peepholeWeight: peepholeWeight(),
        layout,
        activations: ['sigmoid', 'tanh', 'relu'],
      })
    })
    const wanted = xs[0]!.map((x, at) => lstmCell(gates, x, h0![0]![at]!, c0![0]![at]!, relu))
    near(
      t,
      hidden!,
      wanted.flatMap(([h]) => h),
      'hidden state',
    )
    near(
      t,
      cell!,
      wanted.flatMap(([, c]) => c),
      'cell state',
    )
  })

/** The states of a network after each step: `[direction][step][batch]`, steps where they belong in the sequence. */
function states<S>(
  direction: 'forward' | 'backward' | 'both',
  first: (way: number, batch: number) => S,
  step: (way: number, x: Vector, state: S) => S,
): S[][][] {
  const ways = direction === 'both' ? 2 : 1
  return Array.from({ length: ways }, (_, way) => {
    const backward = direction === 'backward' || way === 1
    const found: S[][] = []
    let now = xs[0]!.map((_, batch) => first(way, batch))
    for (let turn = 0; turn < STEPS; turn++) {
      const at = backward ? STEPS - 1 - turn : turn
      now = now.map((state, batch) => step(way, xs[at]![batch]!, state))
      found[at] = now
    }
    return found
  })
}
const lastOf = <S>(direction: string, all: S[][][]): S[] =>
  all.flatMap((steps, way) => (direction === 'backward' || way === 1 ? steps[0]! : steps.at(-1)!))
/** `[step][direction][batch]`. */
const inSequence = <S>(all: S[][][]): S[] => xs.flatMap((_, at) => all.flatMap((steps) => steps[at]!))

for (const direction of ['forward', 'backward', 'both'] as const) {
  const ways = direction === 'both' ? 2 : 1
  const x = (b: MLGraphBuilder) => constant(b, [STEPS, BATCHES, INPUT], xs.flat(2))
  const state = (b: MLGraphBuilder, from: Matrix[]) =>
    constant(b, [ways, BATCHES, HIDDEN], from.slice(0, ways).flat(2))

  t.test(`gru, ${direction}`, async (t) => {
    const gates = Array.from({ length: ways }, () => gatesOf('zrn'))
    const [hidden, sequence] = await compute((b) => {
      const { weight, recurrentWeight, bias, recurrentBias } = packed(b, gates, 'zrn', true)
      return b.gru(x(b), weight, recurrentWeight, STEPS, HIDDEN, {
        bias,
        recurrentBias,
        direction,
        initialHiddenState: state(b, h0!),
        returnSequence: true,
      })
    })
    const all = states(
      direction,
      (way, batch) => h0![way]![batch]!,
      (way, x, h) => gruCell(gates[way]!, x, h, true),
    )
    near(t, hidden!, lastOf(direction, all).flat(), 'last state')
    near(t, sequence!, inSequence(all).flat(), 'sequence')
  })

  t.test(`lstm, ${direction}`, async (t) => {
    const gates = Array.from({ length: ways }, () => gatesOf('iofg'))
    const [hidden, cell, sequence] = await compute((b) => {
      const { weight, recurrentWeight, bias, recurrentBias, peepholeWeight } = packed(b, gates, 'iofg', true)
      return b.lstm(x(b), weight, recurrentWeight, STEPS, HIDDEN, {
        bias,
        recurrentBias,
        peepholeWeight: peepholeWeight(),
        direction,
        initialHiddenState: state(b, h0!),
        initialCellState: state(b, c0!),
        returnSequence: true,
      })
    })
    const all = states<[Vector, Vector]>(
      direction,
      (way, batch) => [h0![way]![batch]!, c0![way]![batch]!],
      (way, x, [h, c]) => lstmCell(gates[way]!, x, h, c),
    )
    near(
      t,
      hidden!,
      lastOf(direction, all).flatMap(([h]) => h),
      'last hidden state',
    )
    near(
      t,
      cell!,
      lastOf(direction, all).flatMap(([, c]) => c),
      'last cell state',
    )
    near(
      t,
      sequence!,
      inSequence(all).flatMap(([h]) => h),
      'sequence',
    )
  })
}

t.test('states begin at zero, in each run', async (t) => {
  const gates = gatesOf('zrn')
  const builder = new MLGraphBuilder(context)
  const { weight, recurrentWeight } = packed(builder, [gates], 'zrn', true)
  const [last] = builder.gru(
    constant(builder, [STEPS, BATCHES, INPUT], xs.flat(2)),
    weight,
    recurrentWeight,
    STEPS,
    HIDDEN,
  )
  const graph = await builder.build({ last: last! })
  const output = await context.createTensor({ dataType: 'float32', shape: last!.shape, readable: true })
  const runs: number[][] = []
  for (let run = 0; run < 2; run++) {
    context.dispatch(graph, {}, { last: output })
    runs.push(Array.from(new Float32Array(await context.readTensor(output))))
  }
  t.same(runs[0], runs[1])
  t.not(runs[0]![0], 0)
})
