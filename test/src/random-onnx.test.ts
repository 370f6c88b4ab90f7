import { onnxOperators, saveOnnx } from '@uaccel/inference'
import { type MLContext, ml } from '@uaccel/webnn'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { held } from './nodes.js'
import { type Computed, compute, npuContext } from './onnx-contexts.js'
import { onnxruntime } from './onnxruntime.js'
import { randomGraph } from './random-onnx/graph.js'
import { keyOf } from './random-onnx/maker.js'

const numRuns = Number(process.env.UACCEL_GRAPHS ?? 25)
const seed = Number(process.env.UACCEL_SEED ?? Date.now() % 2 ** 31)
t.setTimeout(60_000 + numRuns * 2000)

const ort = onnxruntime()

/** From so many graphs on each operator comes up. */
const ENOUGH = 500

/** The greatest difference from what is wanted. Throws what is more than `error`, or of another shape. */
function difference(
  found: Computed,
  { data, dims }: { data: Computed['data']; dims: readonly number[] },
  error: number,
): number {
  if (found.shape.join() !== dims.join()) throw new Error(`the shape is [${found.shape}], wanted [${dims}]`)
  let greatest = 0
  for (let at = 0; at < data.length; at++) {
    const [a, b] = [Number(found.data[at]), Number(data[at])]
    if (Object.is(a, b) || a === b) continue
    if (!(Math.abs(a - b) <= error))
      throw new Error(`element ${at} is ${a}, wanted ${b}, at most ${error} apart`)
    greatest = Math.max(greatest, Math.abs(a - b))
  }
  return greatest
}

/** Compares graphs on a context with onnxruntime. */
async function agree(t: Test, context: MLContext) {
  const operators = new Map<string, number>()
  const places = new Map<string, number>()
  const ranks = new Map<number, number>()
  const allowed: { readonly error: number; readonly found: number }[] = []
  let [values, exact] = [0, 0]
  const count = <K>(of: Map<K, number>, key: K) => of.set(key, (of.get(key) ?? 0) + 1)
  const run = fc.asyncProperty(fc.integer(), fc.integer({ min: 3, max: 20 }), async (at, length) => {
    const { graph, feeds, errors } = randomGraph(at, length)
    const file = saveOnnx(graph, { name: 'test', version: '1' })
    const session = await ort.InferenceSession.create(file, {
      graphOptimizationLevel: 'disabled',
      intraOpNumThreads: 1,
      logSeverityLevel: 3,
    })
    const tensors = Object.entries(feeds).map(([name, { dtype, data, shape }]) => [
      name,
      new ort.Tensor(dtype, data as Float32Array, shape),
    ])
    const wanted = await session.run(Object.fromEntries(tensors))
    await session.release()
    const { results, operators: reports } = await compute(context, file, feeds)
    for (const [name, tensor] of Object.entries(wanted)) {
      const error = errors.get(name)!
      try {
        const found = difference(results.get(name)!, tensor, error)
        if (error > 0) allowed.push({ error, found })
      } catch (cause) {
        const node = graph.nodes.find(({ outputs }) => outputs.includes(name))
        throw new Error(`${name} (${node?.op}, operator set ${graph.opsets.get('')}): ${cause}`, { cause })
      }
      values += tensor.data.length
      if (error === 0) exact += tensor.data.length
      count(ranks, tensor.dims.length)
    }
    for (const node of graph.nodes) count(operators, keyOf(node))
    for (const { place } of reports) count(places, place)
  })
  await fc.assert(run, { numRuns, seed })
  const listed = (of: Map<string | number, number>) =>
    [...of]
      .sort()
      .map((each) => each.join(' '))
      .join(', ')
  t.comment(`${numRuns} graphs of seed ${seed}: ${values} values, ${exact} of them to the bit`)
  const median = allowed.map(({ error }) => error).sort((a, b) => a - b)[allowed.length >> 1] ?? 0
  const most = Math.max(...allowed.map(({ error, found }) => found / error))
  t.comment(
    `the others may differ by ${median.toExponential(1)} (median); at most ${(100 * most).toFixed(0)} % of that did`,
  )
  t.comment(`operators: ${listed(operators)}`)
  t.comment(`outputs by rank: ${listed(ranks)}`)
  t.comment(`places: ${listed(places)}`)
  const supported = Object.keys(onnxOperators).filter((name) => !/Q|quant|Integer/.test(name))
  const missing = supported.filter((name) => !operators.has(name))
  if (numRuns >= ENOUGH) {
    t.same(missing, [], 'each operator came up')
    t.same([...ranks.keys()].sort(), [0, 1, 2, 3, 4, 5], 'outputs of each rank')
  } else t.ok(operators.size > supported.length / 2, `${operators.size} operators of ${supported.length}`)
  return places
}

t.test('random graphs compute what onnxruntime does on the CPU', async (t) => {
  const context = await ml.createContext()
  await agree(t, context)
  context.destroy()
})

t.test('and on an NPU over vfio-user', async (t) => {
  const { context, model, server } = await npuContext(t)
  const { graph, feeds } = randomGraph(1, 5)
  await compute(context, saveOnnx(graph, { name: 'test', version: '1' }), feeds)
  const processes = [process, model, server]
  const descriptors = () => processes.map(({ pid }) => held(pid!).fds)
  const before = descriptors()
  const places = await agree(t, context)
  t.same(descriptors(), before, 'graphs that are destroyed leave no descriptors')
  const [device = 0, cpu = 0] = [places.get('device'), places.get('cpu')]
  t.ok(device > 4 * cpu, `${device} operators on the device, ${cpu} on the CPU`)
})
