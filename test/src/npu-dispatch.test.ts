import { execFile, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openDevice } from '@uaccel/core'
import { Npu } from '@uaccel/driver-npu'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import { connectVfioUser } from '@uaccel/vfio-user'
import { type MLContext, MLGraphBuilder, ml } from '@uaccel/webnn'
import t, { type Test } from 'tap'

t.setTimeout(120_000)

const programOf = (name: string) => fileURLToPath(new URL(`./${name}.js`, import.meta.url))
/** Of a dispatch with its readTensor, where the device has to be woken, too. */
const MAX_BYTES = 8000
const descriptor = { dataType: 'float32', shape: [64] } as const

/** A model in a process of its own. */
async function serveModel(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  const path = join(folder, 'npu.sock')
  const model = fork(programOf('npu.process'), [path])
  t.teardown(async () => {
    model.kill()
    if (model.exitCode === null && model.signalCode === null) await once(model, 'exit')
    rmSync(folder, { recursive: true })
  })
  await Promise.race([once(model, 'message'), once(model, 'exit')])
  return { path, model }
}

/** x + addend, to be run again and again. */
async function adder(context: MLContext, addend: number) {
  const builder = new MLGraphBuilder(context)
  const x = builder.input('x', descriptor)
  const graph = await builder.build({ y: builder.add(x, builder.constant('float32', addend)) })
  const input = await context.createTensor({ ...descriptor, writable: true })
  const output = await context.createTensor({ ...descriptor, readable: true })
  const into = new Float32Array(64)
  return {
    async run(value: number): Promise<boolean> {
      context.writeTensor(input, new Float32Array(64).fill(value))
      context.dispatch(graph, { x: input }, { y: output })
      await context.readTensor(output, into)
      return into.every((found) => found === value + addend)
    },
  }
}

async function drive(t: Test, path: string) {
  const transport = await connectVfioUser(path)
  const device = openDevice(transport)
  t.teardown(async () => {
    await device.release()
    await transport.close()
  })
  return Npu.start(device)
}

t.test('a dispatch allocates nothing that grows with the graph', async (t) => {
  const { path } = await serveModel(t)
  const { NODE_OPTIONS: _, ...env } = process.env
  for (const [how, spinUs] of [
    ['its end is looked for', 50],
    ['its end is an interrupt', 0],
  ] as const) {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        '--expose-gc',
        '--max-semi-space-size=64',
        '--min-semi-space-size=64',
        programOf('npu-dispatch.program'),
        path,
        `${spinUs}`,
      ],
      { env },
    )
    const { one, few, many } = JSON.parse(stdout) as { one: number; few: number; many: number }
    t.comment(`${how}: ${one} bytes for a graph of one operator, ${few} of 110, ${many} of 330`)
    t.ok(one > 0 && one < MAX_BYTES, `${how}: ${one} bytes`)
    // Of one it is another way to wait: the end of the others comes in a later turn of the event loop.
    t.ok(many < few + 8 * 220, `${how}: less than a word for each operator more`)
  }
})

t.test('many contexts at once, and the event loop goes on', async (t) => {
  const { path } = await serveModel(t)
  const npu = await drive(t, path)
  const contexts = await Promise.all(
    [50, 50, 0].map(async (spinUs) =>
      ml.createContext({ device: await openNpuAccelerator(npu, { spinUs }) }),
    ),
  )
  let ticks = 0
  const ticking = setInterval(() => ticks++, 1)
  let wrong = 0
  await Promise.all(
    contexts.map(async (context, at) => {
      const { run } = await adder(context, at + 1)
      for (let i = 0; i < 300; i++) if (!(await run(i))) wrong++
    }),
  )
  const { run } = await adder(contexts[0]!, 7)
  ticks = 0
  // 100 ms, where nothing else runs on this machine.
  for (const end = performance.now() + 5000; ticks <= 10 && performance.now() < end; )
    if (!(await run(1))) wrong++
  clearInterval(ticking)
  t.equal(wrong, 0)
  t.ok(ticks > 10, `a timer fired ${ticks} times in 5 s of dispatches that were spun for`)
  for (const context of contexts) context.destroy()
})

t.test('a model that dies while its work is looked for', async (t) => {
  const { path, model } = await serveModel(t)
  const npu = await drive(t, path)
  const context = await ml.createContext({ device: await openNpuAccelerator(npu, { spinUs: 50 }) })
  const builder = new MLGraphBuilder(context)
  const square = { dataType: 'float32', shape: [256, 256] } as const
  const x = builder.input('x', square)
  const graph = await builder.build({ y: builder.matmul(x, x) })
  const input = await context.createTensor(square)
  const output = await context.createTensor({ ...square, readable: true })
  const read = () => context.readTensor(output)
  context.dispatch(graph, { x: input }, { y: output })
  t.equal((await read()).byteLength, 4 * 256 * 256)
  const readings: Promise<unknown>[] = []
  for (let at = 0; at < 20; at++) {
    context.dispatch(graph, { x: input }, { y: output })
    readings.push(read())
  }
  model.kill('SIGKILL')
  const ends = await Promise.allSettled(readings)
  const failures = ends.filter((end) => end.status === 'rejected')
  t.ok(failures.length > 0)
  for (const { reason } of failures) t.match(reason, { name: 'InvalidStateError' })
  t.match(await context.lost, { message: /.+/ })
  await t.rejects(read(), { name: 'TypeError' }, 'the tensor went with the context')
})
