import t from 'tap'
import { MLGraphBuilder, ml } from './index.js'
import { TestAccelerator } from './plan/accelerator.test.helper.js'

const descriptor = { dataType: 'float32', shape: [2, 2] } as const
const both = { ...descriptor, readable: true, writable: true }

async function doubling(context: Awaited<ReturnType<typeof ml.createContext>>) {
  const builder = new MLGraphBuilder(context)
  const input = builder.input('x', descriptor)
  return builder.build({ y: builder.add(input, input) })
}

t.test('what is asked for is done in that order', async (t) => {
  const context = await ml.createContext({ accelerated: false })
  const graph = await doubling(context)
  const [x, y] = [await context.createTensor(both), await context.createTensor(both)]
  const data = new Float32Array([1, 2, 3, 4])
  context.writeTensor(x, data)
  data.fill(9)
  context.dispatch(graph, { x }, { y })
  context.writeTensor(x, new Float32Array(4))
  t.strictSame(
    new Float32Array(await context.readTensor(y)),
    new Float32Array([2, 4, 6, 8]),
    'with what was written before',
  )
  const into = new Float32Array(4)
  t.equal(await context.readTensor(x, into), undefined)
  t.strictSame(into, new Float32Array(4))
  const chain = await doubling(context)
  context.writeTensor(x, new Float32Array([1, 1, 1, 1]))
  context.dispatch(graph, { x }, { y })
  context.dispatch(chain, { x: y }, { y: x })
  t.strictSame(
    new Float32Array(await context.readTensor(x)),
    new Float32Array([4, 4, 4, 4]),
    'an output is an input of the next',
  )
})

t.test('what is written behind something that takes its time is as it was in the call', async (t) => {
  const context = await ml.createContext({ device: new TestAccelerator() })
  const graph = await doubling(context)
  const [x, y] = [await context.createTensor(both), await context.createTensor(both)]
  const data = new Float32Array([1, 2, 3, 4])
  context.writeTensor(x, data)
  context.dispatch(graph, { x }, { y })
  context.writeTensor(x, data.subarray().fill(5))
  data.fill(9)
  const first = context.readTensor(y)
  context.dispatch(graph, { x }, { y })
  const second = context.readTensor(y)
  t.strictSame(new Float32Array(await first), new Float32Array([2, 4, 6, 8]))
  t.strictSame(new Float32Array(await second), new Float32Array([10, 10, 10, 10]))
  context.destroy()
})

t.test('constants, also of a tensor', async (t) => {
  const context = await ml.createContext()
  const weights = await context.createConstantTensor(descriptor, new Float32Array([1, 2, 3, 4]))
  t.ok(weights.constant)
  const builder = new MLGraphBuilder(context)
  const x = builder.input('x', descriptor)
  const graph = await builder.build({
    y: builder.mul(builder.add(x, builder.constant(weights)), builder.constant('float32', 2)),
  })
  const [input, output] = [await context.createTensor(both), await context.createTensor(both)]
  context.dispatch(graph, { x: input }, { y: output })
  t.strictSame(new Float32Array(await context.readTensor(output)), new Float32Array([2, 4, 6, 8]))
  await t.rejects(context.readTensor(weights), { name: 'TypeError' })
  weights.destroy()
  t.throws(() => new MLGraphBuilder(context).constant(weights), { name: 'TypeError', message: /destroyed/ })
})

t.test('tensors that do not fit are refused', async (t) => {
  const [context, other] = [await ml.createContext(), await ml.createContext()]
  const graph = await doubling(context)
  const [x, y] = [await context.createTensor(both), await context.createTensor(both)]
  const refused = (inputs: Record<string, typeof x>, outputs: Record<string, typeof x>, says: RegExp) =>
    t.throws(() => context.dispatch(graph, inputs, outputs), { name: 'TypeError', message: says })
  refused({ x }, { y: x }, /given twice/)
  refused({}, { y }, /wants 1 tensors, found 0/)
  refused({ z: x }, { y }, /inputs.z is not in the graph/)
  refused({ x: await other.createTensor(both) }, { y }, /another context/)
  refused(
    { x: await context.createTensor({ ...both, shape: [4] }) },
    { y },
    /wants float32 \[2,2\], found float32 \[4\]/,
  )
  t.throws(() => other.dispatch(graph, {}, {}), { name: 'TypeError', message: /another context/ })
  t.throws(() => context.writeTensor(x, new Float32Array(3)), { name: 'TypeError' })
  const plain = await context.createTensor(descriptor)
  t.throws(() => context.writeTensor(plain, new Float32Array(4)), { name: 'TypeError', message: /writable/ })
  await t.rejects(context.readTensor(plain), { name: 'TypeError', message: /readable/ })
  await t.rejects(context.createTensor({ dataType: 'float32', shape: [0] }), { name: 'TypeError' })
  graph.destroy()
  t.throws(() => context.dispatch(graph, { x }, { y }), { name: 'InvalidStateError' })
})

t.test('a buffer that changes while it is to be read into', async (t) => {
  const context = await ml.createContext()
  const tensor = await context.createTensor(both)
  const gone = new Float32Array(4)
  const detached = context.readTensor(tensor, gone)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  await t.rejects(detached, { name: 'TypeError', message: /outputData was detached/ })
})

t.test('whatever ends, every promise settles', async (t) => {
  const context = await ml.createContext()
  const graph = await doubling(context)
  const [x, y] = [await context.createTensor(both), await context.createTensor(both)]
  context.dispatch(graph, { x }, { y })
  const reading = context.readTensor(y)
  y.destroy()
  await t.rejects(reading, { name: 'InvalidStateError' })
  await t.rejects(context.readTensor(y), { name: 'TypeError' })
  const [late, creating] = [context.readTensor(x), context.createTensor(both)]
  const builder = new MLGraphBuilder(context)
  const building = builder.build({ out: builder.relu(builder.input('x', descriptor)) })
  context.destroy()
  await t.rejects(late, { name: 'InvalidStateError' })
  await t.rejects(creating, { name: 'InvalidStateError' })
  await t.rejects(building, { name: 'InvalidStateError' })
  t.match(await context.lost, { message: /destroy/ })
  await t.rejects(context.createTensor(both), { name: 'InvalidStateError' })
  context.destroy()
})
