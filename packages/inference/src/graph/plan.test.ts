import fc from 'fast-check'
import t from 'tap'
import {
  type Accelerator,
  compile,
  type Graph,
  type GraphNode,
  makePlan,
  type Plan,
  Reference,
  Session,
  type Tensor,
  tensor,
} from '../index.js'
import { execute } from '../reference/kernels.js'
import { viewAs } from './tensor.js'

function node(
  op: string,
  inputs: string[],
  output: string,
  attributes: Record<string, number | number[]> = {},
): GraphNode {
  return {
    name: output,
    op,
    domain: '',
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  }
}

const float = (value: number) => tensor('float32', [], Float32Array.of(value))
const weights = Int8Array.from({ length: 2 * 2 * 9 }, (_, i) => ((i * 37) % 255) - 127)

function graphOf(nodes: GraphNode[], output: string, dtype: Tensor['dtype']): Graph {
  return {
    name: 'g',
    opsets: new Map([['', 14]]),
    inputs: [{ name: 'x', dtype: 'int8', shape: [1, 2, 6, 6] }],
    outputs: [{ name: output, dtype, shape: undefined }],
    constants: new Map<string, Tensor>([
      ['s', float(0.04)],
      ['s2', float(0.07)],
      ['z', tensor('int8', [], Int8Array.of(-3))],
      ['w', tensor('int8', [2, 2, 3, 3], weights)],
      ['wz', tensor('int8', [], Int8Array.of(0))],
      ['low', float(-1.3)],
      ['high', float(2.05)],
      ['qlow', tensor('int8', [], Int8Array.of(-20))],
      ['qhigh', tensor('int8', [], Int8Array.of(90))],
    ]),
    nodes,
  }
}

const conv = (input: string, output: string) =>
  node('QLinearConv', [input, 's', 'z', 'w', 's', 'wz', 's2', 'z'], output, { pads: [1, 1, 1, 1] })
const dequantize = (input: string, output: string, scale = 's2') =>
  node('DequantizeLinear', [input, scale, 'z'], output)
const quantize = (input: string, output: string, scale = 's2') =>
  node('QuantizeLinear', [input, scale, 'z'], output)

const input = (seed: number) => {
  const data = new Int8Array(72)
  let state = seed
  for (let i = 0; i < 72; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0
    data[i] = state >> 24
  }
  return tensor('int8', [1, 2, 6, 6], data)
}

/** Runs the nodes one by one, nothing folded, by making each tensor an output of a graph of its own. */
function unfolded(nodes: GraphNode[], x: Tensor): Tensor {
  const known: Record<string, Tensor> = { x }
  let last = x
  for (const one of nodes) {
    const base = graphOf([one], one.outputs[0], 'int8')
    const given = one.inputs.filter((name) => Object.hasOwn(known, name))
    const graph = {
      ...base,
      inputs: given.map((name) => ({ name, dtype: known[name].dtype, shape: known[name].shape })),
      outputs: [
        {
          name: one.outputs[0],
          dtype: one.op === 'DequantizeLinear' || isFloat(one, known) ? 'float32' : 'int8',
          shape: undefined,
        },
      ],
    } as Graph
    last = new Reference(compile(graph)).run(known)[one.outputs[0]]
    known[one.outputs[0]] = last
  }
  return last
}
const isFloat = (one: GraphNode, known: Record<string, Tensor>) =>
  ['Relu', 'Clip', 'Add'].includes(one.op) && known[one.inputs[0]].dtype === 'float32'

const patterns: Record<string, { nodes: GraphNode[]; kinds: string[]; op: string }> = {
  'int8 Relu after a convolution': {
    nodes: [conv('x', 'c'), node('Relu', ['c'], 'y')],
    kinds: ['conv'],
    op: 'QLinearConv+Relu',
  },
  'int8 Clip and Relu after a convolution': {
    nodes: [conv('x', 'c'), node('Clip', ['c', 'qlow', 'qhigh'], 'd'), node('Relu', ['d'], 'y')],
    kinds: ['conv'],
    op: 'QLinearConv+Clip+Relu',
  },
  'float Relu between dequantise and quantise': {
    nodes: [conv('x', 'c'), dequantize('c', 'd'), node('Relu', ['d'], 'r'), quantize('r', 'y')],
    kinds: ['conv'],
    op: 'QLinearConv+DequantizeLinear+Relu+QuantizeLinear',
  },
  'float Clip with limits between two steps': {
    nodes: [
      conv('x', 'c'),
      dequantize('c', 'd'),
      node('Clip', ['d', 'low', 'high'], 'r'),
      quantize('r', 'y'),
    ],
    kinds: ['conv'],
    op: 'QLinearConv+DequantizeLinear+Clip+QuantizeLinear',
  },
  'another scale behind Relu is no fold': {
    nodes: [conv('x', 'c'), dequantize('c', 'd'), node('Relu', ['d'], 'r'), quantize('r', 'y', 's')],
    kinds: ['conv', 'dequantize', 'clamp', 'quantize'],
    op: 'QLinearConv',
  },
  'residual addition with Relu': {
    nodes: [
      conv('x', 'c'),
      dequantize('c', 'd'),
      dequantize('x', 'e', 's'),
      node('Add', ['d', 'e'], 'a'),
      node('Relu', ['a'], 'r'),
      quantize('r', 'y', 's'),
    ],
    kinds: ['conv', 'quantisedAdd'],
    op: 'QLinearConv',
  },
}

for (const [name, { nodes, kinds, op }] of Object.entries(patterns)) {
  t.test(`folding: ${name}`, async (t) => {
    const compiled = compile(graphOf(nodes, 'y', 'int8'))
    t.same(
      compiled.operations.map(({ kind }) => kind),
      kinds,
    )
    t.equal(compiled.operations[0].op, op)
    const reference = new Reference(compiled)
    for (let seed = 0; seed < 50; seed++) {
      const x = input(seed)
      t.same(reference.run({ x }).y, unfolded(nodes, x), `seed ${seed}`)
    }
  })
}

t.test('folding: a tensor that is wanted elsewhere keeps its values', async (t) => {
  const graph = graphOf([conv('x', 'c'), node('Relu', ['c'], 'y')], 'y', 'int8')
  const both = {
    ...graph,
    outputs: [...graph.outputs, { name: 'c', dtype: 'int8' as const, shape: undefined }],
  }
  t.same(
    compile(both).operations.map(({ kind }) => kind),
    ['conv', 'clamp'],
  )
})

/** A device that does convolutions, by the CPU's kernels, in memory and order of its own. */
function fakeAccelerator(submitted: string[]): Accelerator {
  return {
    name: 'fake',
    refuses: ({ kind, op }) => (kind === 'conv' ? undefined : `it has no ${op}`),
    async load(plan: Plan, slots: number) {
      const arenas = Array.from({ length: slots }, () => ({ u8: new Uint8Array(plan.arenaBytes).fill(0xa5) }))
      return {
        arenas,
        constants: { u8: new Uint8Array(plan.constantBytes) },
        async submit(batch: number, slot: number) {
          submitted.push(`${batch}/${slot}`)
          await new Promise((resolve) => setTimeout(resolve, (slot * 7) % 5))
          for (const { operation } of plan.batches[batch].steps) {
            const at = (value: (typeof operation.inputs)[0]) =>
              viewAs(value.type, arenas[slot].u8.buffer, plan.offsets.get(value)!)
            execute(operation, operation.inputs.map(at), at(operation.output))
          }
        },
        busyMicros: () => 10 * submitted.length,
        close: async () => {},
      }
    },
  }
}

const mixed = [
  conv('x', 'a'),
  conv('a', 'b'),
  node('MaxPool', ['b'], 'p', { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
  conv('p', 'c'),
  node('Flatten', ['c'], 'f'),
  dequantize('f', 'y'),
]

t.test('a plan says what runs where and why, in batches', async (t) => {
  const plan = makePlan(compile(graphOf(mixed, 'y', 'float32')), fakeAccelerator([]))
  t.same(
    plan.batches.map(({ device, steps }) => [device, ...steps.map(({ operation }) => operation.name)]),
    [
      ['fake', 'a', 'b'],
      ['cpu', 'p'],
      ['fake', 'c'],
      ['cpu', 'y'],
    ],
  )
  t.equal(plan.batches[1].steps[0].reason, 'it has no MaxPool')
  t.equal(plan.batches[0].steps[0].reason, undefined)
  const values = new Map([...plan.offsets].map(([{ name }, offset]) => [name, offset]))
  t.equal(values.get('f'), values.get('c'), 'Flatten is the same memory')
  t.ok(plan.arenaBytes < 7 * 128, 'tensors that live at different times share memory')
})

t.test('several runs in flight on the device and the CPU give the reference', async (t) => {
  const compiled = compile(graphOf(mixed, 'y', 'float32'))
  const submitted: string[] = []
  await using session = await Session.load(compiled, { accelerator: fakeAccelerator(submitted), slots: 3 })
  const reference = new Reference(compiled)
  const inputs = Array.from({ length: 20 }, (_, seed) => input(seed))
  const outputs = await Promise.all(inputs.map((x) => session.run({ x })))
  outputs.forEach((output, i) => {
    t.same(output, reference.run({ x: inputs[i] }), `run ${i}`)
  })
  t.same(
    submitted.slice(0, 3).map((entry) => entry.slice(0, 2)),
    ['0/', '0/', '0/'],
    'three at once',
  )
  t.equal(submitted.length, 40)
  t.equal(session.deviceMicros, 400)
})

t.test('a session that closes', async (t) => {
  const session = await Session.load(compile(graphOf(mixed, 'y', 'float32')), {
    accelerator: fakeAccelerator([]),
    slots: 1,
  })
  const running = session.run({ x: input(1) })
  const waiting = session.run({ x: input(2) })
  const refused = t.rejects(waiting, { code: 'ERR_ACCEL_CLOSED' })
  await session.close()
  await refused
  t.ok((await running).y)
  await t.rejects(session.run({ x: input(3) }), { code: 'ERR_ACCEL_CLOSED' })
  await t.rejects(session.run({ x: tensor('int8', [1], new Int8Array(1)) }), {
    code: 'ERR_ACCEL_INVALID_SHAPE',
  })
  await t.rejects(Session.load(compile(graphOf(mixed, 'y', 'float32')), { slots: 0 }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
})

t.test('tensors that live at the same time never share memory', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat(1000), { minLength: 1, maxLength: 12 }), (choices) => {
      // Each node adds two earlier tensors, so lifetimes cross in many ways.
      const names = ['x']
      const nodes = choices.map((choice, i) => {
        const [a, b] = [names[choice % names.length], names[(choice >> 3) % names.length]]
        names.push(`t${i}`)
        return {
          ...node('QLinearAdd', [a, 's', 'z', b, 's2', 'z', 's', 'z'], `t${i}`),
          domain: 'com.microsoft',
        }
      })
      const compiled = compile(graphOf(nodes, names.at(-1)!, 'int8'))
      const plan = makePlan(compiled)
      const steps = plan.batches.flatMap((batch) => batch.steps)
      const lastUse = (value: unknown) =>
        value === compiled.outputs[0]
          ? steps.length
          : steps.findLastIndex(({ operation }) => operation.inputs.includes(value as never))
      const live = [...plan.offsets].map(([value, offset]) => {
        const first = steps.findIndex(({ operation }) => operation.output === value)
        return { value, offset, end: offset + 72, first, last: Math.max(first, lastUse(value)) }
      })
      for (const a of live) {
        for (const b of live) {
          const together = a !== b && a.first <= b.last && b.first <= a.last
          if (together && a.offset < b.end && b.offset < a.end)
            throw new Error(`${a.value.name} and ${b.value.name}`)
        }
      }
    }),
  )
  t.pass('every case')
})
