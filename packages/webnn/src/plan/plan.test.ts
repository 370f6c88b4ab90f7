import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import t from 'tap'
import type { Accelerator, Placement } from '../accelerator.js'
import {
  explain,
  type Graph,
  type MLContext,
  MLGraphBuilder,
  type MLOperand,
  type MLTensor,
  ml,
  type Operator,
  profile,
  type Value,
} from '../index.js'
import { TestAccelerator, type TestAcceleratorOptions } from './accelerator.test.helper.js'
import { compile } from './compile.js'

const on = async (options?: TestAcceleratorOptions) => {
  const device = new TestAccelerator(options)
  return { device, context: await ml.createContext({ device }) }
}

const vector = (length: number) => ({ dataType: 'float32', shape: [length] }) as const
const both = { readable: true, writable: true }

const floats = async (context: MLContext, tensor: MLTensor) => [
  ...new Float32Array(await context.readTensor(tensor)),
]

/** Tensors of a vector each, the first ones written. */
async function tensors(context: MLContext, length: number, ...contents: (readonly number[] | undefined)[]) {
  return Promise.all(
    contents.map(async (content) => {
      const tensor = await context.createTensor({ ...vector(length), ...both })
      if (content) context.writeTensor(tensor, new Float32Array(content))
      return tensor
    }),
  )
}

t.test('each operator has its place, and a reason where that is not the device', async (t) => {
  const { context, device } = await on({
    does: (name) => name !== 'tanh',
    refuses: ({ name }) => (name === 'cos' ? 'cosines are too round' : undefined),
    types: { a: ['float32'], inputs: ['float32'] },
  })
  const builder = new MLGraphBuilder(context)
  const x = builder.input('x', vector(4))
  const n = builder.cast(x, 'int32')
  const graph = await builder.build({
    a: builder.cos(builder.tanh(x, { label: 'first' })),
    b: builder.add(n, n),
    c: builder.concat([n, n], 0),
    d: builder.add(x, x),
  })
  const { operators, device: name } = explain(graph)
  t.equal(name, 'test')
  t.strictSame(operators.map(({ name, label, place, reason }) => [name, label, place, reason]).sort(), [
    ['add', '', 'cpu', 'a is int32: test takes float32'],
    ['add', '', 'device', undefined],
    ['cast', '', 'device', undefined],
    ['concat', '', 'cpu', 'inputs is int32: test takes float32'],
    ['cos', '', 'cpu', 'cosines are too round'],
    ['tanh', 'first', 'cpu', 'test has no tanh'],
  ])
  context.destroy()
  await context.lost
  const cpu = await ml.createContext()
  const other = new MLGraphBuilder(cpu)
  const plain = explain(await other.build({ y: other.relu(other.input('x', vector(4))) }))
  t.match(plain, { operators: [{ place: 'cpu', reason: 'the context has no accelerator' }], doorbells: 0 })
  t.notOk('device' in plain)
  t.equal(device.doorbells, 0)
})

t.test('places change as seldom as they can', async (t) => {
  const { context, device } = await on({ does: (name) => name !== 'tanh' })
  const builder = new MLGraphBuilder(context)
  // Eight branches, each device, CPU, device: in the order of the graph that would be sixteen changes.
  const x = builder.input('x', vector(4))
  const branches = Array.from({ length: 8 }, (_, at) =>
    builder.neg(builder.tanh(builder.add(x, builder.constant('float32', at)))),
  )
  const graph = await builder.build({ y: branches.reduce((sum, each) => builder.add(sum, each)) })
  const { stretches, doorbells, sharedBytes, copiedBytes } = explain(graph)
  t.strictSame(
    stretches.map(({ place, operators }) => [place, operators.length]),
    [
      ['device', 8],
      ['cpu', 8],
      ['device', 15],
    ],
  )
  t.equal(doorbells, 2)
  t.equal(sharedBytes, 16 * 16, 'of eight values to the CPU, and eight back')
  t.equal(copiedBytes, 0)
  const [input, output] = await tensors(context, 4, [1, 2, 3, 4], undefined)
  context.dispatch(graph, { x: input }, { y: output })
  const wanted = [1, 2, 3, 4].map((value) => {
    let sum = 0
    for (let at = 0; at < 8; at++) sum = Math.fround(sum - Math.fround(Math.tanh(value + at)))
    return sum
  })
  t.strictSame(await floats(context, output), wanted)
  t.equal(device.doorbells, 2, 'one for each list')
  context.destroy()
})

t.test('what alone reads a result goes with it, where the device says so', async (t) => {
  const simple = ['relu', 'add', 'neg']
  const { context } = await on({ follows: (group, { name }) => group.length < 3 && simple.includes(name) })
  const builder = new MLGraphBuilder(context)
  const [x, z] = [builder.input('x', vector(4)), builder.input('z', vector(4))]
  const first = builder.relu(builder.mul(x, x))
  const second = builder.abs(z)
  // The other operand of `add` is computed later than the group begins.
  const sum = builder.add(first, second)
  const twice = builder.neg(sum)
  const graph = await builder.build({
    y: builder.mul(twice, twice),
    sum2: builder.neg(builder.reshape(twice, [2, 2])),
  })
  const { operators, commands } = explain(graph)
  const group = (name: string, at = 0) => operators.filter((each) => each.name === name)[at].group
  t.equal(group('mul'), group('relu'))
  t.equal(group('mul'), group('add'))
  t.not(group('neg'), group('add'), 'a group that is full')
  t.not(group('neg', 0), group('neg', 1), 'a value that is read with another shape has memory')
  t.equal(commands, 5)
  const [a, b, y] = await tensors(context, 4, [1, 2, 3, 4], [-1, -1, -1, -1], undefined)
  const sum2 = await context.createTensor({ dataType: 'float32', shape: [2, 2], ...both })
  context.dispatch(graph, { x: a, z: b }, { y, sum2 })
  t.strictSame(await floats(context, y), [4, 25, 100, 289])
  t.strictSame(await floats(context, sum2), [2, 5, 10, 17])
  context.destroy()
})

t.test('what changes a shape alone costs nothing; an output is copied where it has to be', async (t) => {
  for (const does of [() => true, () => false]) {
    const { context } = await on({ does })
    const builder = new MLGraphBuilder(context)
    const x = builder.input('x', vector(4))
    const one = builder.constant(vector(4), new Float32Array([1, 2, 3, 4]))
    const y = builder.add(
      builder.transpose(builder.reshape(x, [1, 4, 1]), { permutation: [0, 2, 1] }),
      builder.reshape(one, [1, 1, 4]),
    )
    const graph = await builder.build({
      flat: builder.reshape(builder.neg(y), [4]),
      y,
      again: y,
      seen: builder.reshape(y, [4]),
      copy: builder.reshape(x, [2, 2]),
      constant: builder.identity(one),
    })
    const free = explain(graph).operators.filter(({ place }) => place === 'free')
    t.strictSame(free.map(({ name }) => name).sort(), ['reshape', 'reshape', 'reshape', 'transpose'])
    const made: Record<string, MLTensor> = {}
    for (const [name, shape] of Object.entries({
      flat: [4],
      y: [1, 1, 4],
      again: [1, 1, 4],
      seen: [4],
      copy: [2, 2],
      constant: [4],
    }))
      made[name] = await context.createTensor({ dataType: 'float32', shape, ...both })
    const [input] = await tensors(context, 4, [10, 20, 30, 40])
    context.dispatch(graph, { x: input }, made)
    const sum = [11, 22, 33, 44]
    t.strictSame(await floats(context, made.flat), [-11, -22, -33, -44])
    for (const name of ['y', 'again', 'seen']) t.strictSame(await floats(context, made[name]), sum, name)
    t.strictSame(await floats(context, made.copy), [10, 20, 30, 40])
    t.strictSame(await floats(context, made.constant), [1, 2, 3, 4])
    context.destroy()
  }
})

t.test('constants are in the device once, and those of the CPU alone not at all', async (t) => {
  const { context } = await on({ does: (name) => name !== 'tanh' })
  const builder = new MLGraphBuilder(context)
  const data = new Float32Array(1000).fill(0.5)
  const weights = () => builder.constant(vector(1000), data)
  const tensor = await context.createConstantTensor(vector(1000), data)
  const sum = builder.add(builder.add(builder.input('x', vector(1000)), weights()), weights())
  const graph = await builder.build({
    y: builder.add(sum, builder.constant(tensor)),
    z: builder.tanh(builder.constant(vector(1000), new Float32Array(1000).fill(2))),
  })
  // The device keeps the name of the operator besides.
  t.equal(explain(graph).constantBytes, 4032 + 64)
  tensor.destroy()
  const [x, y, z] = await tensors(context, 1000, new Array(1000).fill(1), undefined, undefined)
  context.dispatch(graph, { x }, { y, z })
  t.equal((await floats(context, y))[999], 2.5)
  t.equal((await floats(context, z))[999], Math.fround(Math.tanh(2)))
  context.destroy()
})

t.test('a dispatch patches what changed, and nothing else', async (t) => {
  const { context, device } = await on()
  const builder = new MLGraphBuilder(context)
  const graph = await builder.build({ y: builder.neg(builder.input('x', vector(4))) })
  const [a, b, c] = await tensors(context, 4, [1, 1, 1, 1], [2, 2, 2, 2], undefined)
  for (const [x, binds] of [
    [a, 2],
    [a, 2],
    [b, 3],
    [a, 4],
  ] as const) {
    context.dispatch(graph, { x }, { y: c })
    t.equal((await floats(context, c))[0], x === a ? -1 : -2)
    t.equal(device.binds, binds)
  }
  context.destroy()
})

t.test('an error of a list is the outputs, and the context goes on', async (t) => {
  const { context, device } = await on({ does: (name) => name !== 'tanh' })
  const build = (of: (builder: MLGraphBuilder, x: MLOperand) => MLOperand) => {
    const builder = new MLGraphBuilder(context)
    return builder.build({ y: of(builder, builder.input('x', vector(4))) })
  }
  const graph = await build((builder, x) => builder.neg(builder.tanh(builder.neg(x))))
  const next = await build((builder, x) => builder.neg(x))
  const [x, y, z] = await tensors(context, 4, [1, 1, 1, 1], undefined, undefined)
  device.failure = new Error('the multiplier is on fire')
  context.dispatch(graph, { x }, { y })
  context.dispatch(next, { x: y }, { y: z })
  for (const tensor of [y, z])
    await t.rejects(context.readTensor(tensor), {
      name: 'OperationError',
      message: /the multiplier is on fire/,
      cause: { message: 'the multiplier is on fire' },
    })
  t.equal((await floats(context, x))[0], 1)
  t.equal(device.doorbells, 1, 'the second list was not started, nor what was to read its output')
  context.dispatch(graph, { x }, { y })
  t.equal((await floats(context, y))[0], Math.fround(Math.tanh(1)))
  context.writeTensor(z, new Float32Array(4))
  t.equal((await floats(context, z))[0], 0, 'what was written anew is known again')
  device.failure = new Error('again')
  await t.rejects(profile(graph, { x }, { y }), { name: 'OperationError' })
  await t.rejects(context.readTensor(y), { name: 'OperationError' })
  context.destroy()
})

t.test('a device that does not let itself be closed is a warning', async (t) => {
  const accelerator = new TestAccelerator()
  accelerator.close = () => Promise.reject(new Error('it is stuck'))
  const context = await ml.createContext({ device: accelerator })
  const warned = new Promise((resolve) => process.once('warning', resolve))
  context.destroy()
  t.match(await context.lost, { message: /destroy/ })
  t.match(await warned, { message: 'it is stuck' })
})

t.test('a device that is lost in the middle settles all', async (t) => {
  const { context, device } = await on()
  const builder = new MLGraphBuilder(context)
  const graph = await builder.build({ y: builder.neg(builder.input('x', vector(4))) })
  const [x, y] = await tensors(context, 4, [1, 1, 1, 1], undefined)
  device.hangs = true
  context.dispatch(graph, { x }, { y })
  const waiting = [context.readTensor(y), context.readTensor(x), context.createTensor(vector(2))]
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(device.doorbells, 1)
  device.lose('the cable was pulled')
  for (const each of waiting) await t.rejects(each as Promise<unknown>, { name: 'InvalidStateError' })
  t.match(await context.lost, { message: /the cable was pulled/ })
  t.throws(() => context.dispatch(graph, { x }, { y }))
})

t.test('all that was taken is given back', async (t) => {
  const { context, device } = await on()
  const build = () => {
    const builder = new MLGraphBuilder(context)
    const x = builder.input('x', vector(4))
    return builder.build({ y: builder.add(builder.neg(x), builder.softmax(builder.reshape(x, [1, 4]), 1)) })
  }
  const [x] = await tensors(context, 4, [1, 2, 3, 4])
  const y = await context.createTensor({ dataType: 'float32', shape: [1, 4], ...both })
  const [graph, other] = [await build(), await build()]
  context.dispatch(graph, { x }, { y })
  await profile(other, { x }, { y })
  const { parts, micros } = await profile(graph, { x }, { y })
  t.equal(parts.length, 3)
  t.ok(parts.every((part) => part.place === 'device' && part.deviceMicros === 5 && part.micros > 0))
  t.ok(micros >= parts.reduce((sum, part) => sum + part.micros, 0))
  t.equal(device.lists, 8)
  graph.destroy()
  await context.readTensor(x)
  t.equal(device.lists, 4)
  t.equal(device.memories.size, 4, 'two tensors, an arena and constants')
  context.destroy()
  await new Promise((resolve) => setImmediate(resolve))
  t.equal(device.lists, 0)
  t.equal(device.memories.size, 0)
  t.ok(device.closed)
})

t.test('a graph that cannot be made ready takes nothing', async (t) => {
  const { context, device } = await on()
  device.prepare = () => {
    throw new Error('no room for lists')
  }
  const builder = new MLGraphBuilder(context)
  await t.rejects(builder.build({ y: builder.neg(builder.input('x', vector(4))) }), {
    name: 'OperationError',
    message: /no room for lists/,
  })
  t.equal(device.memories.size, 0)
  context.destroy()
})

/** A chain of so many operators: the first half is the device's, the other the CPU's. */
function chain(length: number): Graph {
  const descriptor = { dataType: 'int8', shape: [16] } as const
  const operators: Operator[] = []
  const input: Value = { descriptor, source: { kind: 'input', name: 'x' } }
  let last = input
  for (let at = 0; at < length; at++) {
    const name = at < length / 2 ? 'neg' : 'abs'
    const operator: Operator = { name, label: '', inputs: { input: last }, attributes: {}, outputs: [] }
    last = { descriptor, source: { kind: 'operator', operator, output: 0 } }
    operator.outputs.push(last)
    operators.push(operator)
  }
  return { inputs: new Map([['x', input]]), outputs: new Map([['y', last]]), operators }
}

t.test('a dispatch allocates nothing that grows with the graph', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  /** Bytes of the heap that a run takes, with a device that takes none. */
  const measure = async (length: number): Promise<number> => {
    const device = new TestAccelerator({ does: (name) => name !== 'abs' })
    let doorbells = 0
    let done: (error: undefined, micros: undefined) => void
    device.prepare = () => ({
      bind() {},
      submit(told) {
        doorbells++
        done = told
      },
      free() {},
    })
    const executor = compile(chain(length), device)
    t.strictSame(
      executor.report.stretches.map(({ place, operators }) => [place, operators.length]),
      [
        ['device', length / 2],
        ['cpu', length / 2],
      ],
    )
    const [inputs, outputs] = [[device.allocate(16)], [device.allocate(16)]]
    let runs = 0
    const ended = (error: Error | undefined) => {
      if (error === undefined) runs++
    }
    const run = (times: number) => {
      for (let at = 0; at < times; at++) {
        executor.run(inputs, outputs, ended)
        done(undefined, undefined)
      }
    }
    run(3000)
    const growths: number[] = []
    for (let round = 0; round < 9; round++) {
      collect()
      const before = process.memoryUsage().heapUsed
      run(100)
      growths.push((process.memoryUsage().heapUsed - before) / 100)
    }
    t.strictSame([doorbells, runs], [3900, 3900], 'one doorbell each')
    return Math.min(...growths.filter((bytes) => bytes > 0)) // Less where memory was collected meanwhile, more where code was compiled.
  }
  const [small, large] = [await measure(10), await measure(300)]
  t.comment(`${small} bytes of a graph of 10 operators, ${large} of one of 300`)
  t.ok(small > 0 && small < 3000)
  t.ok(large < small + 8 * 290, 'less than a word for each operator')
})

t.test('constants of a graph that is ready are where they are used, and nowhere else', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  // Commands that name places and nothing of the graph.
  const device: Accelerator = Object.assign(new TestAccelerator(), {
    operators: {
      neg: {
        types: {},
        lower: ({ inputs }: Operator, _: unknown, placement: Placement) => [placement.at(inputs.input)],
      },
    },
    prepare: () => ({ bind() {}, submit() {}, free() {} }),
  })
  const make = () => {
    const graph = chain(10)
    const bytes = new Uint8Array(16)
    const [first] = graph.operators
    const descriptor = { dataType: 'int8', shape: [16] } as const
    // In place of the first operator's input: a constant, which the device has from then on.
    Object.assign(first.inputs, { input: { descriptor, source: { kind: 'constant', bytes } } })
    return { executor: compile(graph, device), content: new WeakRef(bytes) }
  }
  const { executor, content } = make()
  await new Promise((resolve) => setImmediate(resolve))
  collect()
  t.equal(content.deref(), undefined)
  t.equal(executor.report.constantBytes, 64)
  executor.destroy()
})

/** Graphs of what a seed says: each operator takes any values that are there. */
const seeds = fc.array(fc.tuple(fc.nat(6), fc.nat(1000), fc.nat(1000)), { minLength: 1, maxLength: 24 })

t.test('whatever the device does, results are those of the CPU', async (t) => {
  const names = ['neg', 'abs', 'add', 'mul', 'relu', 'reshape', 'split']
  const makers: ((builder: MLGraphBuilder, a: MLOperand, b: MLOperand) => MLOperand[])[] = [
    (builder, a) => [builder.neg(a)],
    (builder, a) => [builder.abs(a)],
    (builder, a, b) => [builder.add(a, b)],
    (builder, a, b) => [builder.max(a, b)],
    (builder, a) => [builder.relu(a)],
    (builder, a) => [builder.reshape(builder.reshape(a, [2, 2]), [4])],
    (builder, a, b) => builder.split(builder.concat([a, b], 0), 2),
  ]
  const cpu = await ml.createContext()
  const run = async (context: MLContext, steps: readonly (readonly [number, number, number])[]) => {
    const builder = new MLGraphBuilder(context)
    const inputs = [builder.input('x', vector(4)), builder.input('z', vector(4))]
    const values = [...inputs, builder.constant(vector(4), new Float32Array([-1, 2, -3, 4]))]
    const outputs: Record<string, MLOperand> = { sum: builder.add(inputs[0], inputs[1]) }
    for (const [at, [maker, a, b]] of steps.entries()) {
      const made = makers[maker](builder, values[a % values.length], values[b % values.length])
      values.push(...made)
      if ((a + b) % 5 === 0 || at === steps.length - 1) outputs[`y${at}`] = made[made.length - 1]
    }
    const graph = await builder.build(outputs)
    const [x, z] = await tensors(context, 4, [1, -2, 3, -4], [5, 5, -5, 0.5])
    const into: Record<string, MLTensor> = {}
    for (const name of Object.keys(outputs)) [into[name]] = await tensors(context, 4, undefined)
    context.dispatch(graph, { x, z }, into)
    context.dispatch(graph, { x, z }, into)
    const found: number[][] = []
    for (const tensor of Object.values(into)) found.push(await floats(context, tensor))
    graph.destroy()
    for (const tensor of [x, z, ...Object.values(into)]) tensor.destroy()
    return found
  }
  await fc.assert(
    fc.asyncProperty(seeds, fc.nat(127), fc.boolean(), async (steps, mask, follows) => {
      const { context, device } = await on({
        does: (name) => !names.includes(name) || ((mask >> names.indexOf(name)) & 1) === 1,
        follows: () => follows,
      })
      const [wanted, found] = [await run(cpu, steps), await run(context, steps)]
      context.destroy()
      await new Promise((resolve) => setImmediate(resolve))
      t.strictSame(found, wanted)
      return device.memories.size === 0 && device.lists === 0
    }),
    { numRuns: Number(process.env.UACCEL_RUNS ?? 60) },
  )
  cpu.destroy()
})
