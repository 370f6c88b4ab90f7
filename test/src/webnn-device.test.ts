import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { explain, MLGraphBuilder, ml, registerAccelerator } from '@uaccel/webnn'
import type { Accelerator } from '@uaccel/webnn/accelerator'
import t from 'tap'
import { eventually, nodeFolder, startServer } from './nodes.js'

/** An accelerator that takes relu and never ends it, and goes when told. */
function idle() {
  let lose!: (reason: string) => void
  const lost = new Promise<string>((resolve) => {
    lose = resolve
  })
  let [closed, submitted] = [0, 0]
  const accelerator: Accelerator = {
    name: 'idle',
    operators: { relu: { types: {}, lower: () => [{}] } },
    allocate: (sizeBytes) => ({ bytes: new Uint8Array(sizeBytes), free() {} }),
    prepare: () => ({
      bind() {},
      submit() {
        submitted++
      },
      free() {},
    }),
    lost,
    async close() {
      closed++
    },
  }
  return { accelerator, lose, closed: () => closed, submitted: () => submitted }
}

const refusal = (name: string, says: RegExp, code?: string) => ({
  name,
  message: says,
  ...(code === undefined ? {} : { cause: { code } }),
})

t.test('options that cannot be', async (t) => {
  const { accelerator } = idle()
  const refused = (options: object, expected: ReturnType<typeof refusal>) =>
    t.rejects(ml.createContext(options), expected, JSON.stringify(options))
  const contradicts = refusal('TypeError', /contradicts/)
  await refused({ accelerated: false, device: 'accel0' }, contradicts)
  await refused({ accelerated: false, device: accelerator }, contradicts)
  await refused({ deviceType: 'cpu', device: 'accel0' }, contradicts)
  await refused({ deviceType: 'gpu', device: accelerator }, contradicts)
  await refused({ deviceType: 'npu', accelerated: false }, contradicts)
  await refused({ deviceType: 'tpu' }, refusal('TypeError', /one of cpu, gpu, npu is wanted, found tpu/))
  await refused({ device: { name: 'x' } }, refusal('TypeError', /without allocate/))
  await refused({ deviceType: 'gpu' }, refusal('NotSupportedError', /GPU/))
  await refused({ powerPreference: 'high' }, refusal('TypeError', /default, high-performance, low-power/))
  const cpu = await ml.createContext({ powerPreference: 'high-performance', accelerated: false })
  t.equal(cpu.accelerated, false, 'a preference is none that contradicts')
  t.equal((await ml.createContext({ deviceType: 'cpu' })).accelerated, false)
})

t.test('nodes by their name', async (t) => {
  const folder = nodeFolder(t)
  const own = join(folder, 'uaccel')
  mkdirSync(own)
  const before = process.env.XDG_RUNTIME_DIR
  process.env.XDG_RUNTIME_DIR = folder
  t.teardown(() => {
    if (before === undefined) delete process.env.XDG_RUNTIME_DIR
    else process.env.XDG_RUNTIME_DIR = before
  })
  const none = refusal('NotSupportedError', /No node .*accel7; there: none/, 'ERR_ACCEL_NOT_FOUND')
  await t.rejects(ml.createContext({ device: join(own, 'accel7') }), none)
  await t.rejects(
    ml.createContext({ device: 'accel7' }),
    refusal('NotSupportedError', /No node/, 'ERR_ACCEL_NOT_FOUND'),
  )
  await t.rejects(
    ml.createContext({ deviceType: 'npu' }),
    refusal(
      'NotSupportedError',
      /No node of an accelerator for graphs is there: is a server running/,
      'ERR_ACCEL_NOT_FOUND',
    ),
  )

  const { said } = await startServer(t, 'edu', { folder: own })
  t.same(said, { served: ['accel0'] })
  const without = /accel0 is driven by edu, which has no accelerator for graphs; there are those of npu/
  await t.rejects(
    ml.createContext({ device: 'accel0' }),
    refusal('NotSupportedError', without, 'ERR_ACCEL_UNSUPPORTED'),
  )
  await t.rejects(
    ml.createContext({ deviceType: 'npu' }),
    refusal('NotSupportedError', without, 'ERR_ACCEL_NOT_FOUND'),
    'which of the nodes are none, and why',
  )

  const { accelerator, lose, closed } = idle()
  registerAccelerator('edu', {
    uapi: eduUapi,
    async open(node) {
      t.equal((await node.call('factorial', { n: 5 })).value, 120, 'it speaks the uAPI of the driver')
      void node.lost.then(({ message }) => lose(message))
      return accelerator
    },
  })
  const context = await ml.createContext({ device: 'accel0' })
  t.equal(context.accelerated, true)
  const found = await ml.createContext({ deviceType: 'npu' })
  found.destroy()
  t.match(await found.lost, { message: /destroy/ })
  await found.createTensor({ dataType: 'float32', shape: [1] }).catch(() => {})
  t.equal(closed(), 0, 'contexts on one node share its accelerator')
  context.destroy()
  t.match(await context.lost, { message: /destroy/ })
  t.ok(await eventually(() => closed() === 1), 'the last one closes it')

  registerAccelerator('edu', {
    uapi: eduUapi,
    async open() {
      throw Object.assign(new Error('never'), { code: 'X' })
    },
  })
  await t.rejects(ml.createContext({ device: 'accel0' }), { message: 'never' }, 'a defect is told as it is')
})

t.test('a device that goes in the middle of a dispatch', async (t) => {
  const { accelerator, lose, closed, submitted } = idle()
  const context = await ml.createContext({ device: accelerator })
  const descriptor = { dataType: 'float32', shape: [4] } as const
  const [x, y] = [
    await context.createTensor({ ...descriptor, writable: true }),
    await context.createTensor({ ...descriptor, readable: true }),
  ]
  const build = () => {
    const builder = new MLGraphBuilder(context)
    return builder.build({ output: builder.relu(builder.input('x', descriptor)) })
  }
  const graph = await build()
  t.match(explain(graph), { operators: [{ name: 'relu', place: 'device' }] })
  context.writeTensor(x, new Float32Array(4))
  context.dispatch(graph, { x }, { output: y })
  context.dispatch(graph, { x }, { output: y })
  const waiting: Promise<unknown>[] = [
    context.readTensor(y),
    context.readTensor(y, new Float32Array(4)),
    context.createTensor(descriptor),
    context.createConstantTensor(descriptor, new Float32Array(4)),
    build(),
  ]
  t.ok(await eventually(() => submitted() === 1), 'it is at work')
  lose('the cable was pulled')
  t.same(await context.lost, { message: 'the cable was pulled' })
  for (const each of waiting) await t.rejects(each, { name: 'InvalidStateError' })
  t.equal(submitted(), 1, 'nothing more is asked of it')
  t.throws(() => context.dispatch(graph, { x }, { output: y }), { name: 'InvalidStateError' })
  t.throws(() => new MLGraphBuilder(context), { name: 'InvalidStateError' })
  await t.rejects(context.createTensor(descriptor), { name: 'InvalidStateError' })
  await t.rejects(context.readTensor(y), { name: 'TypeError', message: /destroyed/ })
  t.ok(await eventually(() => closed() === 1), 'it is closed once')
})
