import { Accel } from '@uaccel/accel'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { type Loopback, loopback } from '@uaccel/model'
import t from 'tap'
import {
  compile,
  type Graph,
  type GraphNode,
  makePlan,
  npuAccelerator,
  Reference,
  Session,
  type Tensor,
  tensor,
} from './index.js'

async function withNpu(work: (npu: Npu, transport: Loopback) => Promise<void>): Promise<void> {
  await using accel = new Accel()
  let npu: Npu | undefined
  accel.register(
    npuDriver({
      onReady: (ready) => {
        npu = ready
      },
    }),
  )
  const transport = loopback(npuModel)
  await accel.add(transport)
  await work(npu!, transport)
}

function node(
  op: string,
  inputs: string[],
  output: string,
  attributes: Record<string, number | number[]> = {},
  domain = '',
): GraphNode {
  return {
    name: output,
    op,
    domain,
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  }
}

const bytes = (count: number, seed: number) =>
  Int8Array.from({ length: count }, (_, i) => Math.imul(i + seed, 2654435761) >> 24)
const float = (value: number) => tensor('float32', [], Float32Array.of(value))

/** Every operation that the NPU does, and some that it does not. */
function network(): Graph {
  return {
    name: 'everything',
    opsets: new Map([
      ['', 14],
      ['com.microsoft', 1],
    ]),
    inputs: [{ name: 'image', dtype: 'float32', shape: [1, 4, 12, 12] }],
    outputs: [
      { name: 'logits', dtype: 'float32', shape: [1, 7] },
      { name: 'clipped', dtype: 'int8', shape: [1, 4, 12, 12] },
    ],
    constants: new Map<string, Tensor>([
      ['s', float(0.03)],
      ['s2', float(0.11)],
      ['z', tensor('int8', [], Int8Array.of(-5))],
      ['w', tensor('int8', [4, 2, 3, 3], bytes(72, 1))],
      ['ws', tensor('float32', [4], Float32Array.of(0.004, 0.005, 0.006, 0.007))],
      ['wz', tensor('int8', [], Int8Array.of(0))],
      ['cz', tensor('int8', [], Int8Array.of(2))],
      ['b', tensor('int32', [4], Int32Array.of(-900, 0, 77, 12345))],
      ['offset', tensor('int8', [1, 4, 12, 12], bytes(576, 9))],
      ['m', tensor('int8', [144, 7], bytes(1008, 3))],
      ['ms', float(0.001)],
      ['low', tensor('int8', [], Int8Array.of(-30))],
      ['high', tensor('int8', [], Int8Array.of(40))],
    ]),
    nodes: [
      node('QuantizeLinear', ['image', 's', 'z'], 'q'),
      node('QLinearConv', ['q', 's', 'z', 'w', 'ws', 'cz', 's2', 'z', 'b'], 'c', {
        group: 2,
        pads: [1, 1, 1, 1],
      }),
      node('QLinearAdd', ['c', 's2', 'z', 'q', 's', 'z', 's2', 'z'], 'sum', {}, 'com.microsoft'),
      node('Relu', ['sum'], 'r'),
      node('QLinearAdd', ['r', 's2', 'z', 'offset', 's', 'z', 's2', 'z'], 'shifted', {}, 'com.microsoft'),
      node('Clip', ['q', 'low', 'high'], 'clipped'),
      node('MaxPool', ['shifted'], 'p', { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 0, 0] }),
      node('Flatten', ['p'], 'f'),
      node('QLinearMatMul', ['f', 's2', 'z', 'm', 'ms', 'wz', 's2', 'z'], 'scores'),
      node('DequantizeLinear', ['scores', 's2', 'z'], 'logits'),
    ],
  }
}

const image = (seed: number) => ({
  image: tensor(
    'float32',
    [1, 4, 12, 12],
    Float32Array.from(bytes(576, seed), (value) => value * 0.031),
  ),
})

t.test('a graph on the NPU is the reference, bit for bit, with several runs in flight', async (t) => {
  await withNpu(async (npu, transport) => {
    const graph = compile(network())
    const reference = new Reference(graph)
    const session = await Session.load(graph, { accelerator: npuAccelerator(npu), slots: 5 })
    t.same(
      session.plan.batches.map(({ device, steps }) => [
        device,
        ...steps.map(({ operation }) => operation.op),
      ]),
      [
        ['cpu', 'QuantizeLinear'],
        ['npu', 'QLinearConv', 'QLinearAdd+Relu', 'QLinearAdd', 'Clip', 'MaxPool', 'QLinearMatMul'],
        ['cpu', 'DequantizeLinear'],
      ],
    )
    const inputs = Array.from({ length: 40 }, (_, i) => image(i * 1000))
    const outputs = await Promise.all(inputs.map((input) => session.run(input)))
    outputs.forEach((output, i) => {
      t.same(output, reference.run(inputs[i]), `run ${i}`)
    })
    t.equal(npu.counters().descriptors, 40 * 6)
    t.ok(session.deviceMicros! > 0)
    await session.close()
    transport.assertClean()
  })
})

t.test('what the NPU cannot do runs on the CPU, with the reason', async (t) => {
  await withNpu(async (npu) => {
    const reasons = (change: (graph: Graph) => Partial<Graph>) => {
      const graph = network()
      const plan = makePlan(compile({ ...graph, ...change(graph) }), npuAccelerator(npu))
      return Object.fromEntries(
        plan.batches.flatMap(({ steps }) => steps.map(({ operation, reason }) => [operation.name, reason])),
      )
    }
    const constant = (name: string, value: Tensor) => (graph: Graph) => ({
      constants: new Map(graph.constants).set(name, value),
    })
    t.equal(reasons(() => ({})).q, 'it works on uint8 and int8 only')
    t.equal(reasons(() => ({})).c, undefined)
    const zeros = tensor('int8', [4], Int8Array.of(0, 1, 0, 0))
    t.equal(reasons(constant('cz', zeros)).c, 'weight zero points differ by channel')
    const row = tensor('int8', [12], bytes(12, 4))
    t.equal(reasons(constant('offset', row)).shifted, 'it does not broadcast')
    const small = npuAccelerator({ capabilities: { ...npu.capabilities, maxElements: 600 } } as Npu)
    const matmul = compile(network()).operations.find(({ kind }) => kind === 'matmul')!
    t.equal(small.refuses(matmul), 'int8 [144,7] is above its 600 elements', 'weights')
  })
})

t.test('when the device vanishes, runs under way end with that, and so do later ones', async (t) => {
  await withNpu(async (npu, transport) => {
    const session = await Session.load(compile(network()), { accelerator: npuAccelerator(npu), slots: 2 })
    const runs = [1, 2, 3, 4].map((seed) => session.run(image(seed)))
    const ended = Promise.allSettled(runs)
    transport.vanish('test')
    for (const outcome of await ended)
      t.match(outcome, { status: 'rejected', reason: { code: 'ERR_ACCEL_NO_DEVICE' } })
    await t.rejects(session.run(image(5)), { code: 'ERR_ACCEL_NO_DEVICE' })
  })
})
