import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { isAccelError } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { type Graph, type GraphNode, loadOnnx, saveOnnx, type Tensor, tensor, tensorOf } from '../index.js'
import { ModelProtoSchema, TensorProtoSchema } from './onnx_pb.js'

const producer = { name: 'test', version: '1' }

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

/** A small graph with a convolution, a pool, a reshape and both quantisation operators. */
function sample(): Graph {
  return {
    name: 'sample',
    opsets: new Map([['', 13]]),
    inputs: [{ name: 'x', dtype: 'float32', shape: ['N', 1, 4, 4] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['N', 4] }],
    constants: new Map<string, Tensor>([
      ['s', tensor('float32', [], Float32Array.of(0.5))],
      ['z', tensor('uint8', [], Uint8Array.of(3))],
      ['w', tensor('int8', [1, 1, 3, 3], Int8Array.of(1, 2, 3, 4, -5, 6, 7, 8, 9))],
      ['wz', tensor('int8', [], Int8Array.of(0))],
      ['shape', tensor('int64', [2], BigInt64Array.of(0n, -1n))],
    ]),
    nodes: [
      node('QuantizeLinear', ['x', 's', 'z'], 'q'),
      node('QLinearConv', ['q', 's', 'z', 'w', 's', 'wz', 's', 'z'], 'c', { pads: [1, 1, 1, 1] }),
      node('MaxPool', ['c'], 'p', { kernel_shape: [2, 2], strides: [2, 2] }),
      node('Reshape', ['p', 'shape'], 'r'),
      node('DequantizeLinear', ['r', 's', 'z'], 'y'),
    ],
  }
}

const corrupt = { code: 'ERR_ACCEL_CORRUPT_MODEL' }

t.test('what is saved is loaded', async (t) => {
  const graph = loadOnnx(saveOnnx(sample(), producer))
  t.same(graph, sample())
})

t.test('a file that is cut off anywhere is corrupt, nothing else', async (t) => {
  const file = saveOnnx(sample(), producer)
  for (let length = 0; length < file.length; length++) {
    try {
      loadOnnx(file.subarray(0, length))
      t.fail(`${length} of ${file.length} bytes were accepted`)
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_CORRUPT_MODEL')) t.fail(`${length} bytes: ${error}`)
    }
  }
  t.throws(() => loadOnnx(file.subarray(0, 100)), {
    ...corrupt,
    message: /byte \d+, ModelProto\.graph.*bytes/,
  })
  t.throws(() => loadOnnx(new TextEncoder().encode('this is no model')), corrupt)
})

t.test('damaged bytes give a typed error or a graph', async (t) => {
  const file = saveOnnx(sample(), producer)
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(file.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      (changes) => {
        const damaged = file.slice()
        for (const [at, value] of changes) damaged[at] = value
        try {
          loadOnnx(damaged)
        } catch (error) {
          if (!isAccelError(error)) throw error
        }
      },
    ),
    { numRuns: 3000 },
  )
  t.pass('every case')
})

t.test('lengths inside are checked against the message around them', async (t) => {
  // ModelProto.graph (field 7) of 2 bytes, which holds a node (field 1) that claims 5 bytes, all of them in the file.
  const nested = Uint8Array.of(0x3a, 2, 0x0a, 5, 0, 0, 0, 0, 0)
  t.throws(() => loadOnnx(nested), {
    ...corrupt,
    message: /byte 3, ModelProto\.graph\.node\[0\].*wants 5 bytes, 0 are left/,
  })
  // ModelProto.ir_version (field 1) as a string.
  t.throws(() => loadOnnx(Uint8Array.of(0x0a, 1, 65)), {
    ...corrupt,
    message: /ir_version.*wire type 0, found 2/,
  })
})

t.test('initialisers', async (t) => {
  const withTensor = (fields: Parameters<typeof create<typeof TensorProtoSchema>>[1]) => {
    const model = fromBinary(ModelProtoSchema, saveOnnx(sample(), producer))
    model.graph!.initializer[0] = create(TensorProtoSchema, { name: 's', ...fields } as typeof fields)
    return toBinary(ModelProtoSchema, model)
  }
  const typed = loadOnnx(withTensor({ dataType: 1, floatData: [0.5] }))
  t.same(typed.constants.get('s'), { dtype: 'float32', shape: [], data: Float32Array.of(0.5) }, 'typed data')
  const short = withTensor({ dataType: 1, dims: [3n], rawData: new Uint8Array(4) })
  t.throws(() => loadOnnx(short), { ...corrupt, message: /"s" of shape \[3\] wants 12 bytes, found 4/ })
  const huge = withTensor({ dataType: 1, dims: [1n << 40n, 1n << 40n], rawData: new Uint8Array(4) })
  t.throws(() => loadOnnx(huge), corrupt)
  t.throws(() => loadOnnx(withTensor({ dataType: 1, dims: [-1n] })), {
    ...corrupt,
    message: /dimension of -1/,
  })
  t.throws(() => loadOnnx(withTensor({ dataType: 3, int32Data: [300] })), {
    ...corrupt,
    message: /300, which is no int8/,
  })
  t.throws(() => loadOnnx(withTensor({ dataType: 10 })), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.throws(() => loadOnnx(withTensor({ dataType: 1, dataLocation: 1 })), { code: 'ERR_ACCEL_UNSUPPORTED' })
})

t.test('graphs that cannot be', async (t) => {
  const load = (change: (graph: Graph) => Partial<Graph>) => {
    const graph = sample()
    return () => loadOnnx(saveOnnx({ ...graph, ...change(graph) }, producer))
  }
  const replaced = (index: number, replacement: GraphNode) => (graph: Graph) => ({
    nodes: graph.nodes.map((original, i) => (i === index ? replacement : original)),
  })
  t.throws(load(replaced(0, node('QuantizeLinear', ['gone', 's', 'z'], 'q'))), {
    ...corrupt,
    message: /"q" \(QuantizeLinear\) wants tensor "gone"/,
  })
  t.throws(load(replaced(2, node('Relu', ['r'], 'p'))), { ...corrupt, message: /cycle: "p", "r", "y"/ })
  t.throws(load(replaced(2, node('Relu', ['c'], 'q'))), { ...corrupt, message: /"q" is defined twice/ })
  t.throws(
    load(() => ({ outputs: [{ name: 'none', dtype: 'uint8', shape: [] }] })),
    corrupt,
  )
})

t.test('elements that do not fit their shape', async (t) => {
  t.throws(() => tensor('uint8', [3], new Uint8Array(4)), { code: 'ERR_ACCEL_INVALID_SHAPE' })
  t.throws(() => tensorOf({ dtype: 'int32', shape: [3] }, new Uint8Array(11)), {
    code: 'ERR_ACCEL_INVALID_SHAPE',
  })
  t.same(tensorOf({ dtype: 'int32', shape: [1] }, Uint8Array.of(1, 2, 0, 0)).data, Int32Array.of(513))
})
