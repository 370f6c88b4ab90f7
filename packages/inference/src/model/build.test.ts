import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { isAccelError } from '@uaccel/uapi'
import { explain, ml } from '@uaccel/webnn'
import fc from 'fast-check'
import t from 'tap'
import {
  type AttributeValue,
  buildOnnx,
  type Graph,
  type GraphNode,
  loadOnnx,
  readOnnx,
  saveOnnx,
  type Tensor,
  tensor,
} from '../index.js'
import { AttributeProtoSchema, ModelProtoSchema, StringStringEntryProtoSchema } from '../onnx/onnx_pb.js'

const producer = { name: 'test', version: '1' }
const float = (shape: number[], ...data: number[]) => tensor('float32', shape, Float32Array.from(data))
const ints = (...data: number[]) => tensor('int64', [data.length], BigInt64Array.from(data, BigInt))

function node(
  op: string,
  inputs: string[],
  output: string,
  attributes: Record<string, AttributeValue> = {},
): GraphNode {
  return {
    name: `the ${output}`,
    op,
    domain: '',
    inputs,
    outputs: [output],
    attributes: new Map(Object.entries(attributes)),
  }
}

const graphOf = (
  nodes: GraphNode[],
  constants: Record<string, Tensor> = {},
  more: Partial<Graph> = {},
): Graph => ({
  name: 'g',
  opsets: new Map([['', 18]]),
  inputs: [{ name: 'x', dtype: 'float32', shape: ['N', 4] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: undefined }],
  constants: new Map(Object.entries(constants)),
  nodes,
  ...more,
})

const context = await ml.createContext()
const build = (graph: Graph, options = { dimensions: { N: 2 } }) =>
  buildOnnx(loadOnnx(saveOnnx(graph, producer)), context, options)

async function run(graph: Graph, x: Float32Array): Promise<Float32Array> {
  const built = await build(graph)
  const input = await context.createTensor({ ...built.inputs.x!, writable: true })
  const output = await context.createTensor({ ...built.outputs.y!, readable: true })
  context.writeTensor(input, x)
  context.dispatch(built.graph, { x: input }, { y: output })
  return new Float32Array(await context.readTensor(output))
}

const x = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8)

t.test('shapes that are computed are known when the graph is built', async (t) => {
  const nodes = [
    node('Shape', ['x'], 's'),
    node('Gather', ['s', 'zero'], 'n', { axis: 0 }),
    node('Mul', ['n', 'two'], 'm'),
    node('Concat', ['m', 'rest'], 'to', { axis: 0 }),
    node('Reshape', ['x', 'to'], 'y'),
  ]
  const graph = graphOf(nodes, { zero: ints(0), two: ints(2), rest: ints(-1) })
  t.same((await build(graph)).outputs, { y: { dataType: 'float32', shape: [4, 2] } })
  t.same(await run(graph, x), x)
})

t.test('outputs that are constants or inputs, inputs that nothing needs', async (t) => {
  const graph = graphOf([node('Add', ['c', 'c'], 'y')], { c: float([2], 1, 2) })
  const built = await build(graph)
  t.same([built.inputs, built.unused], [{}, ['x']])
  t.same(await run(graphOf([node('Identity', ['x'], 'y')]), x), x)
  t.same(
    await run(graphOf([node('Add', ['x', 'c'], 'y')], { c: float([], 0.5) }), x),
    x.map((value) => value + 0.5),
  )
})

t.test('between DequantizeLinear and QuantizeLinear it is computed with integers', async (t) => {
  const byte = (shape: number[], ...data: number[]) => tensor('uint8', shape, Uint8Array.from(data))
  const graph = graphOf(
    [
      node('QuantizeLinear', ['x', 'scale', 'zero'], 'q'),
      node('DequantizeLinear', ['q', 'scale', 'zero'], 'd'),
      node('DequantizeLinear', ['weights', 'scale', 'zero'], 'w'),
      node('MatMul', ['d', 'w'], 'p'),
      node('QuantizeLinear', ['p', 'scale', 'zero'], 'y'),
    ],
    { scale: float([], 0.5), zero: byte([], 128), weights: byte([4, 1], 129, 130, 127, 128) },
    { outputs: [{ name: 'y', dtype: 'uint8', shape: undefined }] },
  )
  const built = await build(graph)
  const names = explain(built.graph).operators.map(({ name }) => name)
  t.same(names, ['quantizeLinear', 'quantizedMatmul'], 'weights that are known are left to be fused')
})

t.test('dimensions', async (t) => {
  const graph = graphOf([node('Relu', ['x'], 'y')])
  const shape = async (options: object) => (await build(graph, options as never)).inputs.x!.shape
  t.same(await shape({ dimensions: { N: 3 } }), [3, 4])
  t.same(await shape({ dimensions: { 'x.0': 5 } }), [5, 4])
  t.same(await shape({ shapes: { x: [6, 4] } }), [6, 4])
  const invalid = { code: 'ERR_ACCEL_INVALID_SHAPE' }
  await t.rejects(shape({}), { ...invalid, message: /dimension 0 wants a size: dimensions: \{ "N": 1 \}/ })
  await t.rejects(shape({ shapes: { x: [6, 5] } }), { ...invalid, message: /dimension 1 is 4, found 5/ })
  await t.rejects(shape({ dimensions: { N: 0 } }), invalid)
  await t.rejects(shape({ dimensions: { N: 2 ** 40 } }), invalid)
  await t.rejects(shape({ dimensions: { N: 1, batch: 1 } }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const declared = graphOf(
    [node('Relu', ['x'], 'y')],
    {},
    { outputs: [{ name: 'y', dtype: 'float32', shape: [9, 4] }] },
  )
  await t.rejects(build(declared), { ...invalid, message: /declared as float32 \[9,4\].*\[2,4\]/ })
})

t.test('what cannot be built is named with its node', async (t) => {
  const unsupported = (message: RegExp) => ({ code: 'ERR_ACCEL_UNSUPPORTED_OPERATOR', message })
  await t.rejects(
    build(graphOf([node('NonZero', ['x'], 'y')])),
    unsupported(/node "the y" \(NonZero\): operator NonZero/),
  )
  await t.rejects(build(graphOf([node('toString', ['x'], 'y')])), unsupported(/toString/))
  await t.rejects(
    build(graphOf([node('Reshape', ['x', 'c'], 'c2'), node('Reshape', ['x', 'c2'], 'y')], { c: ints(8) })),
    unsupported(/node "the y" \(Reshape\): input 1 is computed/),
  )
  await t.rejects(
    build(graphOf([node('Add', ['x', 'c'], 'y')], { c: float([3], 1, 2, 3) })),
    unsupported(/\(Add\).*broadcast/),
  )
  await t.rejects(build(graphOf([node('Relu', ['x'], 'y')], {}, { opsets: new Map([['', 12]]) })), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /operator set 12; from 13 on/,
  })
  t.throws(() => loadOnnx(saveOnnx(graphOf([], {}, { opsets: new Map([['', 28]]) }), producer)), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /operator set 28; the newest that is known is 27/,
  })
})

t.test('values that are missing or cannot be', async (t) => {
  const corrupt = (message: RegExp) => ({ code: 'ERR_ACCEL_CORRUPT_MODEL', message })
  await t.rejects(build(graphOf([node('Add', ['x'], 'y')])), corrupt(/\(Add\): input 1 is missing/))
  await t.rejects(build(graphOf([node('Concat', ['x', 'x'], 'y')])), corrupt(/"axis" is missing/))
  await t.rejects(
    build(graphOf([node('Concat', ['x', 'x'], 'y', { axis: 7 })])),
    corrupt(/axis 7 is not within 2/),
  )
  await t.rejects(
    build(graphOf([node('Reshape', ['x', 'c'], 'y')], { c: ints(3, -1) })),
    corrupt(/cannot be reshaped/),
  )
  await t.rejects(
    build(
      graphOf([node('Range', ['a', 'b', 'c'], 'y')], {
        a: float([], 0),
        b: float([], 1e30),
        c: float([], 1),
      }),
    ),
    corrupt(/a range of 1\.\d+e\+30/),
  )
  const many = {
    code: 'ERR_ACCEL_UNSUPPORTED_OPERATOR',
    message: /wants \d+ places; at most 1048576 are made/,
  }
  const depth = { d: tensor('int64', [], BigInt64Array.of(2n ** 53n - 1n)), v: float([2], 0, 1) }
  await t.rejects(build(graphOf([node('OneHot', ['x', 'd', 'v'], 'y')], depth)), many)
  await t.rejects(
    build(graphOf([node('Hardmax', ['x'], 'y', { axis: 0 })]), { dimensions: { N: 2 ** 26 } }),
    many,
  )
  const wide = node('Resize', ['x', '', '', 's'], 'y', { mode: 'linear' })
  await t.rejects(build(graphOf([wide], { s: ints(2, 2 ** 30) })), many)
  await t.rejects(
    build(graphOf([node('Split', ['x'], 'y', { num_outputs: 2 ** 40 })])),
    corrupt(/num_outputs is 1099511627776, and it has 1/),
  )
  const tiles = ['x', 'a', 'b', 'y'].flatMap((name, at, all) =>
    at === 0 ? [] : [node('Tile', [all[at - 1]!, 'c'], name)],
  )
  await t.rejects(build(graphOf(tiles, { c: ints(4096, 1) })), {
    code: /ERR_ACCEL_(NO_MEMORY|UNSUPPORTED_OPERATOR)/,
  })
  const big = graphOf([node('ConstantOfShape', ['c'], 'b'), node('Identity', ['b'], 'y')], {
    c: ints(2 ** 28),
  })
  await t.rejects(buildOnnx(big, context, { dimensions: { N: 1 }, memoryBytes: 2 ** 20 }), {
    code: 'ERR_ACCEL_NO_MEMORY',
  })
})

t.test('metadata', async (t) => {
  const metadata = new Map([['author', 'nobody']])
  t.same(
    loadOnnx(saveOnnx(graphOf([node('Relu', ['x'], 'y')], {}, { metadata }), producer)).metadata,
    metadata,
  )
})

t.test('a graph within a node is refused', async (t) => {
  const model = fromBinary(ModelProtoSchema, saveOnnx(graphOf([node('If', ['x'], 'y')]), producer))
  model.graph!.node[0]!.attribute.push(create(AttributeProtoSchema, { name: 'then_branch', type: 5 }))
  t.throws(() => loadOnnx(toBinary(ModelProtoSchema, model)), {
    code: 'ERR_ACCEL_UNSUPPORTED_OPERATOR',
    message: /node "the y" \(If\) has an attribute "then_branch" that is a graph/,
  })
})

t.test('external data', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'onnx-'))
  t.teardown(() => rm(folder, { recursive: true }))
  await mkdir(join(folder, 'm'))
  await writeFile(join(folder, 'm', 'w.bin'), new Uint8Array(Float32Array.of(9, 1, 2, 3, 4).buffer))
  await writeFile(join(folder, 'secret'), new Uint8Array(64))
  await symlink(join(folder, 'secret'), join(folder, 'm', 'link'))
  const load = async (external: Record<string, string>) => {
    const graph = graphOf([node('Add', ['x', 'c'], 'y')], { c: float([4], 0, 0, 0, 0) })
    const model = fromBinary(ModelProtoSchema, saveOnnx(graph, producer))
    const [initialiser] = model.graph!.initializer
    initialiser!.rawData = new Uint8Array(0)
    initialiser!.dataLocation = 1
    initialiser!.externalData = Object.entries(external).map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    )
    const path = join(folder, 'm', 'model.onnx')
    await writeFile(path, toBinary(ModelProtoSchema, model))
    return readOnnx(path)
  }
  const graph = await load({ location: 'w.bin', offset: '4', length: '16' })
  t.same(graph.constants.get('c')!.data, Float32Array.of(1, 2, 3, 4))
  const corrupt = { code: 'ERR_ACCEL_CORRUPT_MODEL' }
  for (const location of [
    '',
    '/etc/passwd',
    '../secret',
    'a/../../secret',
    'link',
    '..\\secret',
    '.',
    'none',
  ])
    await t.rejects(load({ location }), corrupt, location)
  await t.rejects(load({ location: 'w.bin', offset: '8' }), {
    ...corrupt,
    message: /16 bytes from 8 on, "w.bin" has 20/,
  })
  await t.rejects(load({ location: 'w.bin', offset: '-1' }), corrupt)
  await t.rejects(load({ location: 'w.bin', length: '15' }), corrupt)
  await t.rejects(readOnnx(join(folder, 'no.onnx')), { code: 'ERR_ACCEL_NOT_FOUND' })
})

t.test('damaged models are refused, or built', async (t) => {
  const graph = graphOf(
    [
      node('Shape', ['x'], 's'),
      node('Slice', ['s', 'a', 'b'], 'n'),
      node('Concat', ['n', 'c'], 'to', { axis: 0 }),
      node('Reshape', ['x', 'to'], 'r'),
      node('Softmax', ['r'], 'p', { axis: -1 }),
      node('Tile', ['p', 'b2'], 't'),
      node('Pad', ['t', 'pads'], 'y'),
    ],
    { a: ints(0), b: ints(1), c: ints(2, 2), b2: ints(1, 2, 1), pads: ints(0, 0, 1, 0, 0, 1) },
  )
  const file = saveOnnx(graph, producer)
  await build(graph)
  const damage = fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
  await fc.assert(
    fc.asyncProperty(damage, async (changes) => {
      const damaged = file.slice()
      for (const [at, value] of changes) damaged[at] = value
      try {
        const { graph } = await buildOnnx(loadOnnx(damaged), context, {
          dimensions: { N: 2 },
          memoryBytes: 2 ** 22,
        })
        graph.destroy()
      } catch (error) {
        if (!isAccelError(error)) throw error
      }
    }),
    { numRuns: 1000 },
  )
  t.pass('every case')
})

t.test(
  'quantised weights stay as they are, small ones too, so that their patterns become integers',
  async (t) => {
    const scale = (name: string, ...values: number[]) => ({
      [`${name}.scale`]: float(values.length === 1 ? [] : [values.length], ...values),
    })
    const { graph } = await build(
      graphOf(
        [
          node('QuantizeLinear', ['x', 'x.scale', 'x.zero'], 'x.u8'),
          node('DequantizeLinear', ['x.u8', 'x.scale', 'x.zero'], 'x.again'),
          node('DequantizeLinear', ['w', 'w.scale', 'w.zero'], 'w.float', { axis: 0 }),
          node('DequantizeLinear', ['bias', 'bias.scale', 'bias.zero'], 'bias.float', { axis: 0 }),
          node('Gemm', ['x.again', 'w.float', 'bias.float'], 'product', { transB: 1 }),
          node('QuantizeLinear', ['product', 'y.scale', 'y.zero'], 'y.u8'),
          node('DequantizeLinear', ['y.u8', 'y.scale', 'y.zero'], 'y'),
        ],
        {
          ...scale('x', 0.05),
          ...scale('w', 0.01, 0.02),
          ...scale('bias', Math.fround(0.05) * Math.fround(0.01), Math.fround(0.05) * Math.fround(0.02)),
          ...scale('y', 0.03),
          'x.zero': tensor('uint8', [], Uint8Array.of(3)),
          'y.zero': tensor('uint8', [], Uint8Array.of(128)),
          w: tensor('int8', [2, 4], Int8Array.of(1, -2, 3, -4, 5, -6, 7, -8)),
          'w.zero': tensor('int8', [2], Int8Array.of(0, 0)),
          bias: tensor('int32', [2], Int32Array.of(100, -50)),
          'bias.zero': tensor('int32', [2], Int32Array.of(0, 0)),
        },
      ),
    )
    t.same(
      explain(graph).operators.map(({ name, label }) => [name, label]),
      [
        ['quantizeLinear', 'the x.u8'],
        ['quantizedMatmul', 'the y.u8'],
        ['dequantizeLinear', 'the y'],
      ],
    )
  },
)
