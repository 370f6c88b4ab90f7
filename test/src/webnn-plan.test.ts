import { Accel } from '@uaccel/accel'
import type { Npu } from '@uaccel/driver-npu'
import { npuDriver } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import { loopback } from '@uaccel/model'
import { explain, type MLContext, MLGraphBuilder, type MLOperand, type MLTensor, ml } from '@uaccel/webnn'
import fc from 'fast-check'
import t from 'tap'

/** The model of the NPU, its driver, and a context on it. */
async function open() {
  const npus: Npu[] = []
  const accel = new Accel()
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  const transport = loopback(npuModel)
  await accel.add(transport)
  const context = await ml.createContext({ device: await openNpuAccelerator(npus[0]) })
  return { accel, transport, context }
}

const descriptor = { dataType: 'float32', shape: [3, 4] } as const

/** Operators whose results are exact, so that the device and the CPU agree in each bit; the fifth goes by way of a type that the NPU has not. */
const makers: readonly ((builder: MLGraphBuilder, a: MLOperand, b: MLOperand) => MLOperand)[] = [
  (builder, a) => builder.neg(a),
  (builder, a, b) => builder.max(a, builder.abs(b)),
  (builder, a, b) => builder.sub(a, b),
  (builder, a) => builder.transpose(builder.reshape(a, [4, 3])),
  (builder, a) => builder.cast(builder.cast(a, 'int64'), 'float32'),
  (builder, a, b) => builder.slice(builder.concat([a, b], 0), [2, 0], [3, 4]),
  (builder, a, b) => builder.where(builder.greater(a, b), a, builder.relu(b)),
  (builder, a) => builder.expand(builder.reduceMax(a, { axes: [1], keepDimensions: true }), [3, 4]),
]
const seeds = fc.array(fc.tuple(fc.nat(makers.length - 1), fc.nat(1000), fc.nat(1000)), {
  minLength: 2,
  maxLength: 20,
})

async function run(context: MLContext, steps: readonly (readonly [number, number, number])[]) {
  const builder = new MLGraphBuilder(context)
  const [x, z] = [builder.input('x', descriptor), builder.input('z', descriptor)]
  const values = [builder.add(x, z), x, z]
  const wanted: Record<string, MLOperand> = { sum: values[0] }
  for (const [at, [maker, a, b]] of steps.entries()) {
    const made = makers[maker](builder, values.at(-1 - (a % 3))!, values[b % values.length])
    values.push(made)
    if (a % 4 === 0 || at === steps.length - 1) wanted[`y${at}`] = made
  }
  const graph = await builder.build(wanted)
  const tensor = (seed: number) =>
    context.createTensor({ ...descriptor, writable: true, readable: true }).then((made) => {
      context.writeTensor(
        made,
        Float32Array.from({ length: 12 }, (_, at) => ((at * seed) % 13) - 6),
      )
      return made
    })
  const inputs = { x: await tensor(5), z: await tensor(7) }
  const outputs: Record<string, MLTensor> = {}
  for (const name of Object.keys(wanted)) outputs[name] = await tensor(1)
  // Twice, with the inputs exchanged: lists are patched, and what the first has left is not seen.
  context.dispatch(graph, { x: inputs.z, z: inputs.x }, outputs)
  context.dispatch(graph, inputs, outputs)
  const found: number[][] = []
  for (const each of Object.values(outputs))
    found.push([...new Float32Array(await context.readTensor(each))].map((value) => value + 0))
  const report = explain(graph)
  graph.destroy()
  for (const each of [...Object.values(inputs), ...Object.values(outputs)]) each.destroy()
  return { found, report }
}

t.test('random graphs: the NPU and the CPU together answer what the CPU answers', async (t) => {
  const { accel, transport, context } = await open()
  const cpu = await ml.createContext()
  let [changes, onDevice] = [0, 0]
  await fc.assert(
    fc.asyncProperty(seeds, async (steps) => {
      const [wanted, { found, report }] = [await run(cpu, steps), await run(context, steps)]
      changes += report.stretches.length - 1
      onDevice += report.operators.filter(({ place }) => place === 'device').length
      t.strictSame(found, wanted.found)
    }),
    { numRuns: Number(process.env.UACCEL_RUNS ?? 40) },
  )
  t.ok(changes > 20, `${changes} changes of place`)
  t.ok(onDevice > 100, `${onDevice} operators on the NPU`)
  transport.assertClean()
  context.destroy()
  await accel[Symbol.asyncDispose]()
})

t.test('an NPU that is removed in the middle of a dispatch: all that waits settles', async (t) => {
  const { accel, context } = await open()
  const builder = new MLGraphBuilder(context)
  const wide = { dataType: 'float32', shape: [64, 64] } as const
  const x = builder.input('x', wide)
  let y: MLOperand = x
  for (let at = 0; at < 60; at++) y = builder.matmul(y, x)
  const graph = await builder.build({ y })
  t.match(explain(graph), { device: 'npu', doorbells: 1, commands: 60 })
  const [input, output] = [
    await context.createTensor({ ...wide, writable: true }),
    await context.createTensor({ ...wide, readable: true }),
  ]
  context.dispatch(graph, { x: input }, { y: output })
  const waiting = [context.readTensor(output), context.createTensor(wide)] as Promise<unknown>[]
  const settled = Promise.all(waiting.map((each) => t.rejects(each, { name: 'InvalidStateError' })))
  await new Promise((resolve) => setImmediate(resolve))
  await accel.remove('accel0')
  await settled
  t.match(await context.lost, { message: /accel0/ })
  t.throws(() => context.dispatch(graph, { x: input }, { y: output }))
  await accel[Symbol.asyncDispose]()
})
