import { onnxOperators, saveOnnx } from '@uaccel/inference'
import { ml } from '@uaccel/webnn'
import fc from 'fast-check'
import t from 'tap'
import { type Computed, compute, npuContext } from './onnx-contexts.js'
import { onnxruntime } from './onnxruntime.js'
import { keyOf } from './random-onnx/maker.js'
import { randomQuantisedGraph } from './random-onnx/quantised.js'
import { type Agreement, agreements, type Judgement } from './random-onnx/quantised-maker.js'
import { isRounding, type Judged } from './random-onnx/scalar.js'

const numRuns = Number(process.env.UACCEL_GRAPHS ?? 25)
const seed = Number(process.env.UACCEL_SEED ?? Date.now() % 2 ** 31)
t.setTimeout(60_000 + numRuns * 2000)

const ort = onnxruntime()
/** From so many graphs on each operator comes up. */
const ENOUGH = 500

/** The first element that is not as judged; `ties` counts those that are the other one of two. */
function wrong(
  { name, type }: Judgement,
  { data, real }: Judged,
  found: ArrayLike<number | bigint>,
  agreement: Agreement,
  ties: { count: number },
): string | undefined {
  for (let at = 0; at < data.length; at++) {
    if (Number(found[at]) === data[at]) continue
    const tie = agreement === 'tie' && (type === 'uint8' || type === 'int8')
    if (!tie || !isRounding(Number(found[at]), real[at]!, type))
      return `${name}[${at}] is ${found[at]}, wanted ${data[at]} (${real[at]})`
    ties.count++
  }
  return data.length === found.length
    ? undefined
    : `${name} has ${found.length} elements, wanted ${data.length}`
}

t.test('random graphs of bytes compute what onnxruntime does, to the bit', async (t) => {
  const cpu = await ml.createContext()
  t.teardown(() => cpu.destroy())
  const { context: npu } = await npuContext(t)
  const operators = new Map<string, number>()
  const places = new Map<string, number>()
  const kinds = new Map<string, { values: number; ours: { count: number }; onnxruntime: { count: number } }>()
  let [values, unequal] = [0, 0]
  const count = (of: Map<string, number>, key: string) => of.set(key, (of.get(key) ?? 0) + 1)
  const run = fc.asyncProperty(fc.integer(), fc.integer({ min: 3, max: 20 }), async (at, length) => {
    const { graph, feeds, judgements } = randomQuantisedGraph(at, length)
    const file = saveOnnx(graph, { name: 'test', version: '1' })
    // Quantised patterns become operators of integers there as well.
    const session = await ort.InferenceSession.create(file, {
      graphOptimizationLevel: 'all',
      intraOpNumThreads: 1,
      logSeverityLevel: 3,
    })
    const tensors = Object.entries(feeds).map(([name, { dtype, data, shape }]) => [
      name,
      new ort.Tensor(dtype, data as Float32Array, shape),
    ])
    const theirs = await session.run(Object.fromEntries(tensors))
    await session.release()
    const { results } = await compute(cpu, file, feeds)
    const { results: device, operators: reports } = await compute(npu, file, feeds)
    const numbers = new Map(
      Object.entries(feeds).map(([name, { shape, data }]) => [
        name,
        { shape, data: Array.from(data as Float32Array) },
      ]),
    )
    // What onnxruntime computed of other bytes cannot be compared.
    const others = new Set<string>()
    for (const judgement of judgements) {
      const { kind, name, from } = judgement
      const ours = results.get(name)!
      const judged = judgement.judge((each) => numbers.get(each)!)
      if (!kinds.has(kind)) kinds.set(kind, { values: 0, ours: { count: 0 }, onnxruntime: { count: 0 } })
      const counted = kinds.get(kind)!
      counted.values += judged.data.length
      const fail = (who: string, why: string) => {
        throw new Error(`${who}, ${kind}: ${why}`)
      }
      const onCpu = wrong(judgement, judged, ours.data, agreements[kind].ours, counted.ours)
      if (onCpu) fail('CPU', onCpu)
      if (!same(ours, device.get(name)!)) fail('NPU', `${name} differs from the CPU`)
      numbers.set(name, { shape: ours.shape, data: Array.from(ours.data as ArrayLike<number>, Number) })
      const { data } = theirs[name]!
      if (from.some((each) => others.has(each))) {
        others.add(name)
        unequal += data.length
        continue
      }
      const their = wrong(judgement, judged, data, agreements[kind].onnxruntime, counted.onnxruntime)
      if (their) fail('onnxruntime', their)
      if (!same(ours, { shape: ours.shape, data })) others.add(name)
      values += data.length
    }
    for (const node of graph.nodes) count(operators, keyOf(node))
    for (const { place } of reports) count(places, place)
  })
  await fc.assert(run, { numRuns, seed })
  t.comment(
    `${numRuns} graphs of seed ${seed}: ${values} values as onnxruntime's, ${unequal} of others than its`,
  )
  for (const [kind, { values, ours, onnxruntime }] of kinds)
    t.comment(
      `${kind}: ${values} values, the other one of two: ${ours.count} of ours, ${onnxruntime.count} of onnxruntime's`,
    )
  const listed = (of: Map<string, number>) =>
    [...of]
      .sort()
      .map((each) => each.join(' '))
      .join(', ')
  t.comment(`operators: ${listed(operators)}`)
  t.comment(`places: ${listed(places)}`)
  const supported = Object.keys(onnxOperators).filter((name) => /Q|quant|Integer/.test(name))
  const missing = supported.filter((name) => name !== 'com.microsoft:QuickGelu' && !operators.has(name))
  if (numRuns >= ENOUGH) t.same(missing, [], 'each operator came up')
  const [device = 0, host = 0] = [places.get('device'), places.get('cpu')]
  t.ok(device > 9 * host, `${device} operators on the device, ${host} on the CPU`)
})

const same = (a: Computed, b: Computed): boolean =>
  a.data.length === b.data.length &&
  Array.from(a.data as ArrayLike<number>).every((value, at) => Object.is(value, b.data[at]))
