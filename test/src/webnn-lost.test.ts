import { join } from 'node:path'
import { openBuffers } from '@uaccel/client'
import { openNpuQueue } from '@uaccel/driver-npu/queue'
import { channelTable, npuUapi } from '@uaccel/driver-npu/uapi'
import { explain, MLGraphBuilder, ml, registerAccelerator } from '@uaccel/webnn'
import t from 'tap'
import { ended, forked } from './faults/bench.js'
import { nodeFolder, startProcess } from './nodes.js'

t.setTimeout(60_000)

/** Rows of a product that takes the model some 10 ms. */
const ROWS = 200
const PRODUCTS = 500
const MEMORY_BYTES = 1 << 20

/** An accelerator on a queue of the node, whose relu is a long time of other work: what counts is that the device is at it. */
registerAccelerator('npu', {
  uapi: npuUapi,
  async open(node) {
    const memory = await openBuffers(node).create(MEMORY_BYTES)
    const { context } = await openNpuQueue(node, { memory, ringEntries: 1024 })
    const tensor = () => ({ at: { buffer: context.allocate(ROWS * ROWS) }, type: 'uint8' }) as const
    const channels = {
      buffer: context.allocateFrom(
        channelTable(new Array<number>(ROWS).fill(0), new Array<number>(ROWS).fill(1)),
      ),
    }
    const [m, k, n] = [ROWS, ROWS, ROWS]
    const product = { op: 'matmul', m, k, n, a: tensor(), b: tensor(), channels, y: tensor() } as const
    const job = context.encode(new Array<typeof product>(PRODUCTS).fill(product))
    return {
      name: 'npu',
      operators: { relu: { types: {}, lower: () => [{}] } },
      allocate: (sizeBytes) => ({ bytes: new Uint8Array(sizeBytes), free() {} }),
      prepare: () => ({
        bind() {},
        submit(done) {
          context.run(job, { timeoutMs: 30_000 }).then(
            () => done(undefined, undefined),
            (error) => done(error, undefined),
          )
        },
        free() {},
      }),
      lost: node.lost.then(({ message }) => message),
      close: () => node.close(),
    }
  },
})

t.test('a model that is killed in the middle of a dispatch', async (t) => {
  const folder = nodeFolder(t)
  const socket = join(folder, 'npu.sock')
  const model = await forked('model', 'npu', socket)
  t.teardown(() => ended(model))
  const { said } = await startProcess(t, './queues.server.js', [socket, folder])
  t.match(said, { served: true })

  const context = await ml.createContext({ device: join(folder, 'accel0') })
  const descriptor = { dataType: 'float32', shape: [4] } as const
  const [x, y] = [
    await context.createTensor(descriptor),
    await context.createTensor({ ...descriptor, readable: true }),
  ]
  const builder = new MLGraphBuilder(context)
  const graph = await builder.build({ output: builder.relu(builder.input('x', descriptor)) })
  t.match(explain(graph), { device: 'npu', operators: [{ name: 'relu', place: 'device' }] })
  context.dispatch(graph, { x }, { output: y })
  const other = new MLGraphBuilder(context)
  const waiting: Promise<unknown>[] = [
    context.readTensor(y),
    context.createTensor(descriptor),
    other.build({ output: other.relu(other.input('x', descriptor)) }),
  ]
  for (const each of waiting) each.catch(() => {})
  let settled = false
  void Promise.allSettled(waiting).then(() => {
    settled = true
  })
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.notOk(settled, 'it is at work')
  model.kill('SIGKILL')
  const start = performance.now()
  t.match(await context.lost, { message: /./ })
  // What the dispatch leaves is not known. The others may come before the loss is known: then they are destroyed with the context.
  const [read, ...others] = await Promise.allSettled(waiting)
  t.match(read, { status: 'rejected', reason: { name: /^(InvalidStateError|OperationError)$/ } })
  for (const each of others)
    if (each.status === 'rejected') t.match(each.reason, { name: /^(InvalidStateError|OperationError)$/ })
  const took = performance.now() - start
  t.ok(took < 5000, `all that was asked for ended ${took.toFixed(0)} ms after the model`)
  t.throws(() => context.dispatch(graph, { x }, { output: y }), { name: 'InvalidStateError' })
  await t.rejects(context.createTensor(descriptor), { name: 'InvalidStateError' })
})
