import t from 'tap'
import { type MLContext, MLGraphBuilder, type MLTensor, ml } from './index.js'
import { serveNpu } from './wpt/served.test.helper.js'

/* What contexts and tensors refuse, on the CPU and on an NPU behind a node: the error's class, and that nothing has changed. */

const npu = await serveNpu()
t.teardown(() => npu.close())
const devices = { CPU: {}, NPU: { device: npu.node } }

const descriptor = { dataType: 'float32', shape: [2, 2] } as const
const both = { ...descriptor, readable: true, writable: true }
const TYPE = { name: 'TypeError' }
const STATE = { name: 'InvalidStateError' }

const resizable = () => new ArrayBuffer(16, { maxByteLength: 32 })
const growable = () =>
  new (SharedArrayBuffer as unknown as new (length: number, options: object) => SharedArrayBuffer)(16, {
    maxByteLength: 32,
  })
function detached(): Float32Array {
  const view = new Float32Array(4)
  structuredClone(view.buffer, { transfer: [view.buffer] })
  return view
}
const badBuffers: Readonly<Record<string, () => unknown>> = {
  'a list': () => [1, 2, 3, 4],
  nothing: () => undefined,
  null: () => null,
  'too few bytes': () => new Float32Array(3),
  'too many bytes': () => new ArrayBuffer(17),
  'another view': () => new Int32Array(4),
  'bytes with a sign': () => new Int8Array(16),
  'bytes that are clamped': () => new Uint8ClampedArray(16),
  'a DataView': () => new DataView(new ArrayBuffer(16)),
  'a detached one': detached,
  'one that can be resized': resizable,
  'a view of such a one': () => new Float32Array(resizable()),
  'a shared one that can grow': growable,
  'a view that says to be another': () =>
    Object.defineProperty(new Int32Array(4), Symbol.toStringTag, { value: 'Float32Array' }),
}
const goodBuffers: Readonly<Record<string, () => ArrayBufferView | ArrayBuffer | SharedArrayBuffer>> = {
  'its view': () => new Float32Array(4),
  'part of a buffer': () => new Float32Array(new ArrayBuffer(64), 8, 4),
  bytes: () => new Uint8Array(new ArrayBuffer(64), 3, 16),
  'a Buffer of Node': () => Buffer.alloc(16),
  'a buffer': () => new ArrayBuffer(16),
  'a shared one': () => new SharedArrayBuffer(16),
  'a view of a shared one': () => new Float32Array(new SharedArrayBuffer(16)),
}
const badDescriptors: Readonly<Record<string, unknown>> = {
  nothing: undefined,
  'no type': { shape: [1] },
  'no shape': { dataType: 'float32' },
  'a type that there is not': { dataType: 'float64', shape: [1] },
  'a type of 4 bits': { dataType: 'int4', shape: [1] },
  'a shape that is a number': { dataType: 'float32', shape: 4 },
  'a dimension of 0': { dataType: 'float32', shape: [2, 0] },
  'a negative dimension': { dataType: 'float32', shape: [-1] },
  'a dimension that is no number': { dataType: 'float32', shape: [Number.NaN] },
  'a dimension beyond 32 bits': { dataType: 'float32', shape: [2 ** 32] },
  'a dimension beyond 31 bits': { dataType: 'uint8', shape: [2 ** 31] },
  'too many elements': { dataType: 'uint8', shape: [2 ** 16, 2 ** 15] },
  'too many dimensions': { dataType: 'uint8', shape: new Array(9).fill(1) },
}

async function doubling(context: MLContext) {
  const builder = new MLGraphBuilder(context)
  const input = builder.input('x', descriptor)
  return builder.build({ y: builder.add(input, input) })
}

for (const [device, options] of Object.entries(devices)) {
  t.test(`${device}: descriptors`, async (t) => {
    const context = await ml.createContext(options)
    const limits = context.opSupportLimits()
    const large = { dataType: 'int64', shape: [Math.floor(limits.maxTensorByteLength / 8) + 1] }
    for (const [what, bad] of Object.entries({ ...badDescriptors, 'too many bytes': large })) {
      const builder = new MLGraphBuilder(context)
      t.throws(() => builder.input('x', bad as never), TYPE, `input: ${what}`)
      t.throws(() => builder.constant(bad as never, new ArrayBuffer(4)), TYPE, `constant: ${what}`)
      await t.rejects(context.createTensor(bad as never), TYPE, `createTensor: ${what}`)
      await t.rejects(
        context.createConstantTensor(bad as never, new ArrayBuffer(4)),
        TYPE,
        `createConstantTensor: ${what}`,
      )
      t.ok(builder.input('x', descriptor), 'the name is free')
    }
    const builder = new MLGraphBuilder(context)
    t.ok(builder.input('largest', { dataType: 'uint8', shape: [limits.maxTensorByteLength] }))
    t.throws(() => builder.input('largest', descriptor), TYPE, 'a name that is taken')
    t.throws(() => builder.input('', descriptor), TYPE, 'a name of nothing')
    for (const dataType of limits.input.dataTypes) {
      const one = await context.createTensor({ dataType, shape: [] })
      t.match(one, { dataType, shape: [], readable: false, writable: false, constant: false })
      one.destroy()
    }
    context.destroy()
  })

  t.test(`${device}: buffers`, async (t) => {
    const context = await ml.createContext(options)
    const tensor = await context.createTensor(both)
    const builder = new MLGraphBuilder(context)
    context.writeTensor(tensor, Float32Array.of(1, 2, 3, 4))
    for (const [what, make] of Object.entries(badBuffers)) {
      t.throws(() => context.writeTensor(tensor, make() as never), TYPE, `writeTensor: ${what}`)
      await t.rejects(context.readTensor(tensor, make() as never), TYPE, `readTensor: ${what}`)
      await t.rejects(
        context.createConstantTensor(descriptor, make() as never),
        TYPE,
        `createConstantTensor: ${what}`,
      )
      t.throws(() => builder.constant(descriptor, make() as never), TYPE, `constant: ${what}`)
    }
    t.same(new Float32Array(await context.readTensor(tensor)), [1, 2, 3, 4], 'all is as it was')
    for (const [what, make] of Object.entries(goodBuffers)) {
      context.writeTensor(tensor, make())
      t.equal(await context.readTensor(tensor, make()), undefined, what)
      t.match(await context.createConstantTensor(descriptor, make()), {
        constant: true,
        readable: false,
        writable: false,
      })
      t.ok(builder.constant(descriptor, make()))
    }
    t.ok(builder.constant('float32', undefined as never), 'a number that is undefined is NaN')
    for (const call of [
      () => builder.constant('float32' as never),
      () => builder.constant('float64' as never, 1),
      () => builder.constant('float32', Symbol('one') as never),
      () => builder.constant(tensor),
      () => builder.constant({} as MLTensor),
    ])
      t.throws(call, TYPE)
    context.destroy()
  })

  t.test(`${device}: dispatches`, async (t) => {
    const [context, other] = [await ml.createContext(options), await ml.createContext(options)]
    const graph = await doubling(context)
    const make = (more: object = {}, of = context) => of.createTensor({ ...both, ...more })
    const [x, y, destroyed, foreign, constant] = [
      await make(),
      await make(),
      await make(),
      await make({}, other),
      await context.createConstantTensor(descriptor, new Float32Array(4)),
    ]
    destroyed.destroy()
    destroyed.destroy()
    const dispatch = (graph_: unknown, inputs: unknown, outputs: unknown) => () =>
      context.dispatch(graph_ as never, inputs as never, outputs as never)
    const refused: Readonly<Record<string, () => void>> = {
      'no graph': dispatch({}, { x }, { y }),
      'a graph of another context': dispatch(await doubling(other), { x }, { y }),
      'no inputs': dispatch(graph, undefined, { y }),
      'no outputs': () => (context.dispatch as (...given: unknown[]) => void)(graph, { x }),
      'a name too few': dispatch(graph, {}, { y }),
      'a name too many': dispatch(graph, { x, z: await make() }, { y }),
      'another name': dispatch(graph, { z: x }, { y }),
      'another name of an output': dispatch(graph, { x }, { z: y }),
      'a value that is no tensor': dispatch(graph, { x: {} }, { y }),
      'one tensor for both': dispatch(graph, { x }, { y: x }),
      'another shape': dispatch(graph, { x: await make({ shape: [4] }) }, { y }),
      'another shape of an output': dispatch(graph, { x }, { y: await make({ shape: [2, 1] }) }),
      'another type': dispatch(graph, { x: await make({ dataType: 'int32' }) }, { y }),
      'a tensor of another context': dispatch(graph, { x: foreign }, { y }),
      'an output of another context': dispatch(graph, { x }, { y: foreign }),
      'a destroyed tensor': dispatch(graph, { x: destroyed }, { y }),
      'a destroyed output': dispatch(graph, { x }, { y: destroyed }),
      'a constant': dispatch(graph, { x: constant }, { y }),
      'a constant output': dispatch(graph, { x }, { y: constant }),
    }
    context.writeTensor(y, Float32Array.of(5, 6, 7, 8))
    for (const [what, call] of Object.entries(refused)) t.throws(call, TYPE, what)
    t.same(new Float32Array(await context.readTensor(y)), [5, 6, 7, 8], 'nothing was run')
    for (const tensor of [foreign, destroyed, constant, await make({ readable: false }), {} as MLTensor])
      await t.rejects(context.readTensor(tensor), TYPE)
    for (const tensor of [foreign, destroyed, constant, await make({ writable: false }), {} as MLTensor])
      t.throws(() => context.writeTensor(tensor, new Float32Array(4)), TYPE)
    const plain = { x: await context.createTensor(descriptor) }
    context.dispatch(graph, plain, { y })
    t.same(
      new Float32Array(await context.readTensor(y)),
      [0, 0, 0, 0],
      'neither needs to be readable or writable',
    )
    graph.destroy()
    graph.destroy()
    t.throws(dispatch(graph, { x }, { y }), STATE)
    t.throws(dispatch(graph, { x, y }, {}), STATE, 'said before tensors are looked at')
    context.destroy()
    other.destroy()
  })

  t.test(`${device}: a context that was destroyed`, async (t) => {
    const context = await ml.createContext(options)
    const graph = await doubling(context)
    const [x, y, constant] = [
      await context.createTensor(both),
      await context.createTensor(both),
      await context.createConstantTensor(descriptor, new Float32Array(4)),
    ]
    const builder = new MLGraphBuilder(context)
    const input = builder.input('x', descriptor)
    const pending: Promise<unknown>[] = [
      context.createTensor(both),
      context.createConstantTensor(descriptor, new Float32Array(4)),
      context.readTensor(x),
      context.readTensor(y, new Float32Array(4)),
      doubling(context),
    ]
    context.dispatch(graph, { x }, { y })
    context.destroy()
    context.destroy()
    for (const [at, each] of pending.entries()) await t.rejects(each, STATE, `pending ${at}`)
    const { message } = await context.lost
    t.match(message, /destroy/)
    await t.rejects(context.createTensor(both), STATE)
    await t.rejects(context.createConstantTensor(descriptor, new Float32Array(4)), STATE)
    await t.rejects(context.readTensor(x), TYPE, 'its tensors are destroyed')
    t.throws(() => context.writeTensor(x, new Float32Array(4)), TYPE)
    t.throws(() => context.dispatch(graph, { x }, { y }), STATE)
    t.throws(() => new MLGraphBuilder(context), STATE)
    t.throws(() => builder.input('z', descriptor), STATE)
    t.throws(() => builder.relu(input), STATE)
    t.throws(() => builder.constant('float32', 1), STATE)
    t.throws(() => builder.constant(descriptor, new Float32Array(4)), STATE)
    t.throws(() => builder.constant(constant), TYPE, 'a constant of it was destroyed')
    await t.rejects(builder.build({ input }), STATE)
    t.match(x, { dataType: 'float32', shape: [2, 2], readable: true, writable: true, constant: false })
    t.ok(context.opSupportLimits())
  })
}

t.test('createContext', async (t) => {
  for (const options of [
    1,
    'cpu',
    { powerPreference: 'fast' },
    { powerPreference: '' },
    { deviceType: 'tpu' },
    { device: {} },
    { device: Symbol('accel0') },
  ])
    await t.rejects(ml.createContext(options as never), TYPE)
  for (const options of [
    undefined,
    null,
    {},
    { accelerated: false },
    { accelerated: 0 },
    { powerPreference: undefined },
    { powerPreference: 'low-power', accelerated: true },
    { powerPreference: 'high-performance', accelerated: false },
  ]) {
    const context = await ml.createContext(options as never)
    t.equal(context.accelerated, false, 'it is the CPU')
    context.destroy()
  }
  const context = await ml.createContext({ device: npu.node })
  t.equal(context.accelerated, true)
  context.destroy()
})

for (const [device, options] of Object.entries(devices)) {
  t.test(`${device}: builds`, async (t) => {
    const context = await ml.createContext(options)
    const builder = new MLGraphBuilder(context)
    const x = builder.input('x', descriptor)
    const y = builder.relu(x)
    const gone = await context.createConstantTensor(descriptor, new Float32Array(4))
    const constant = builder.constant(gone)
    const z = builder.add(x, constant)
    gone.destroy()
    const refused: Readonly<Record<string, unknown>> = {
      nothing: undefined,
      'no output': {},
      'a name of nothing': { '': y },
      'an input': { y, x },
      'a constant': { y: builder.constant('float32', 1) },
      'a constant tensor': { y: constant },
      'what reads a destroyed tensor': { y, z },
      'what is no operand': { y: {} },
      'an operand of another builder': { y: new MLGraphBuilder(context).input('x', descriptor) },
      'a symbol for a name': { [Symbol('y')]: y },
    }
    for (const [what, outputs] of Object.entries(refused))
      await t.rejects(builder.build(outputs as never), TYPE, what)
    const [graph, second] = await Promise.allSettled([builder.build({ y, again: y }), builder.build({ y })])
    t.match([graph, second], [{ status: 'fulfilled' }, { status: 'rejected', reason: STATE }])
    t.throws(() => builder.relu(y), STATE)
    t.throws(() => builder.relu({} as never), TYPE, 'conversions come first')
    await t.rejects(builder.build({}), STATE)

    const uneven = new MLGraphBuilder(context)
    const image = uneven.input('image', { dataType: 'float32', shape: [1, 4, 5, 5] })
    const filter = uneven.input('filter', { dataType: 'float32', shape: [4, 1, 3, 3] })
    await t.rejects(
      uneven.build({ y: uneven.convTranspose2d(image, filter, { groups: 3 }) }),
      { name: 'OperationError' },
      'what the specification takes, and nothing computes',
    )
    context.destroy()
  })
}
