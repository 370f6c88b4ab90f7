import {
  type AttributeValue,
  buildOnnx,
  type Graph,
  type GraphNode,
  loadOnnx,
  saveOnnx,
  type Tensor,
  tensor,
} from '@uaccel/inference'
import { isAccelError } from '@uaccel/uapi'
import { explain, type MLContext, ml } from '@uaccel/webnn'
import fc from 'fast-check'
import t from 'tap'
import { compute, npuContext } from './onnx-contexts.js'
import { randomGraph } from './random-onnx/graph.js'
import { generator } from './random-onnx/maker.js'

t.setTimeout(120_000)

const producer = { name: 'test', version: '1' }
const MEMORY_BYTES = 2 ** 24

/** Nodes that need what a node computes, and itself. */
function after(nodes: readonly GraphNode[], first: GraphNode): GraphNode[] {
  const found = new Set<string>()
  return nodes.filter((node) => {
    const needs = node === first || node.inputs.some((name) => found.has(name))
    if (needs) for (const name of node.outputs) if (name !== '') found.add(name)
    return needs
  })
}

t.test('graphs whose nodes wait for each other', async (t) => {
  const cyclic = fc.property(fc.integer(), fc.integer({ min: 3, max: 20 }), fc.nat(), (seed, length, at) => {
    const { graph } = randomGraph(seed, length)
    const random = generator(at)
    const pick = <T>(of: readonly T[]) => of[Math.floor(random() * of.length)]!
    const reader = pick(graph.nodes.filter(({ inputs }) => inputs.length > 0))
    const last = pick(after(graph.nodes, reader))
    const which = Math.floor(random() * reader.inputs.length)
    const tied = { ...reader, inputs: reader.inputs.with(which, last.outputs.find((name) => name !== '')!) }
    const nodes = graph.nodes.map((node) => (node === reader ? tied : node))
    try {
      loadOnnx(saveOnnx({ ...graph, nodes }, producer))
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_CORRUPT_MODEL')) {
        const { message } = error
        return /wait for each other in a cycle/.test(message) && message.includes(`"${reader.name}"`)
      }
      throw error
    }
    return false
  })
  fc.assert(cyclic, { numRuns: 200 })
  t.pass('each is refused, and says which nodes')
})

/** Numbers that are no sizes, or more than anything holds. */
const extremes = [0, -1, -2, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1, -(2 ** 31), -(2 ** 53) + 1]

/** The graph with one number of an attribute, a constant of integers or an input's shape changed to an extreme one. */
function overflowing(graph: Graph, seed: number): Graph {
  const random = generator(seed)
  const pick = <T>(of: readonly T[]) => of[Math.floor(random() * of.length)]!
  const changes: (() => Graph)[] = []
  for (const [name, constant] of graph.constants) {
    if (!(constant.data instanceof BigInt64Array) || constant.data.length === 0) continue
    changes.push(() => {
      const data = constant.data.slice() as BigInt64Array
      data[Math.floor(random() * data.length)] = BigInt(pick(extremes))
      const changed: Tensor = { ...constant, data }
      return { ...graph, constants: new Map([...graph.constants, [name, changed]]) }
    })
  }
  for (const node of graph.nodes)
    for (const [name, value] of node.attributes) {
      const list = Array.isArray(value) && value.every(Number.isInteger) ? (value as number[]) : undefined
      if (!list?.length && !(Number.isInteger(value) && !/alpha|beta|epsilon|gamma|lambd|bias/.test(name)))
        continue
      changes.push(() => {
        const changed: AttributeValue = list
          ? list.with(Math.floor(random() * list.length), pick(extremes))
          : pick(extremes)
        const tied = { ...node, attributes: new Map([...node.attributes, [name, changed]]) }
        return { ...graph, nodes: graph.nodes.map((each) => (each === node ? tied : each)) }
      })
    }
  graph.inputs.forEach((input, at) => {
    if (!input.shape?.length) return
    changes.push(() => {
      const shape = input.shape!.with(Math.floor(random() * input.shape!.length), pick(extremes))
      return { ...graph, inputs: graph.inputs.with(at, { ...input, shape }) }
    })
  })
  return changes.length === 0 ? graph : pick(changes)()
}

async function refusedOrBuilt(context: MLContext, graph: Graph): Promise<'refused' | 'built'> {
  try {
    const built = await buildOnnx(loadOnnx(saveOnnx(graph, producer)), context, { memoryBytes: MEMORY_BYTES })
    built.graph.destroy()
    return 'built'
  } catch (error) {
    if (isAccelError(error)) return 'refused'
    throw error
  }
}

t.test('shapes that overflow', async (t) => {
  const context = await ml.createContext()
  const counts = { refused: 0, built: 0 }
  const numRuns = Number(process.env.UACCEL_GRAPHS ?? 100)
  const seed = Number(process.env.UACCEL_SEED ?? Date.now() % 2 ** 31)
  let longest = 0
  await fc.assert(
    fc.asyncProperty(fc.integer(), fc.integer({ min: 3, max: 20 }), fc.nat(), async (seed, length, at) => {
      const { graph } = randomGraph(seed, length)
      // What is declared of outputs may be another shape now.
      const outputs = graph.outputs.map((output) => ({ ...output, shape: undefined }))
      const start = performance.now()
      counts[await refusedOrBuilt(context, overflowing({ ...graph, outputs }, at))]++
      longest = Math.max(longest, performance.now() - start)
    }),
    { numRuns, seed },
  )
  t.comment(
    `seed ${seed}: ${counts.refused} refused, ${counts.built} built; the longest took ${longest.toFixed(0)} ms`,
  )
  t.ok(counts.refused > counts.built / 4, 'most of them cannot be')
  const { graph, feeds } = randomGraph(1, 5)
  t.ok((await compute(context, saveOnnx(graph, producer), feeds)).results.size > 0, 'the context goes on')
  context.destroy()
})

const SIZE = 384
const PRODUCTS = 24

/** Products of matrices that keep the model at work for some time. */
function long(): { readonly file: Uint8Array; readonly feeds: Readonly<Record<string, Tensor>> } {
  const shape = [SIZE, SIZE]
  const values = Float32Array.from({ length: SIZE * SIZE }, (_, at) => (at % 7) / SIZE)
  const names = Array.from({ length: PRODUCTS + 1 }, (_, at) => `v${at}`)
  const graph: Graph = {
    name: 'long',
    opsets: new Map([['', 20]]),
    inputs: [{ name: 'v0', dtype: 'float32', shape }],
    outputs: [{ name: names.at(-1)!, dtype: 'float32', shape }],
    constants: new Map([['w', tensor('float32', shape, values)]]),
    nodes: names.slice(1).map((name, at) => ({
      name,
      op: 'MatMul',
      domain: '',
      inputs: [names[at]!, 'w'],
      outputs: [name],
      attributes: new Map(),
    })),
  }
  return { file: saveOnnx(graph, producer), feeds: { v0: tensor('float32', shape, values) } }
}

t.test('a model that is killed while a graph of ONNX is computed', async (t) => {
  const { context, model } = await npuContext(t)
  const { file, feeds } = long()
  const { graph, inputs, outputs } = await buildOnnx(loadOnnx(file), context)
  t.ok(
    explain(graph).operators.every(({ place }) => place === 'device'),
    'it is on the device',
  )
  const [output] = Object.keys(outputs)
  const x = await context.createTensor({ ...inputs.v0!, writable: true })
  const y = await context.createTensor({ ...outputs[output!]!, readable: true })
  context.writeTensor(x, feeds.v0!.data)
  context.dispatch(graph, { v0: x }, { [output!]: y })
  const start = performance.now()
  await context.readTensor(y)
  const took = performance.now() - start
  for (let times = 0; times < 20; times++) context.dispatch(graph, { v0: x }, { [output!]: y })
  let settled = 0
  const other = randomGraph(7, 12)
  const waiting = [
    context.readTensor(y),
    context.readTensor(y, new Float32Array(SIZE * SIZE)),
    context.createTensor(inputs.v0!),
    buildOnnx(loadOnnx(file), context),
    compute(context, saveOnnx(other.graph, producer), other.feeds),
  ]
  for (const each of waiting)
    each.then(
      () => settled++,
      () => settled++,
    )
  await new Promise((resolve) => setTimeout(resolve, took / 2))
  t.equal(settled, 0, 'it is at work')
  model.kill('SIGKILL')
  const killed = performance.now()
  t.match(await context.lost, { message: /./ })
  const results = await Promise.allSettled(waiting)
  const ended = performance.now() - killed
  t.ok(ended < 5000, `all that was asked for ended ${ended.toFixed(0)} ms after the model`)
  for (const each of results.slice(0, 2))
    t.match(each, { status: 'rejected', reason: { name: /^(InvalidStateError|OperationError)$/ } })
  for (const each of results)
    if (each.status === 'rejected')
      t.match(each.reason, { name: /^(InvalidStateError|OperationError|TypeError)$/ })
  t.throws(() => context.dispatch(graph, { v0: x }, { [output!]: y }), { name: 'InvalidStateError' })
  await t.rejects(buildOnnx(loadOnnx(file), context), { name: 'InvalidStateError' })
})
