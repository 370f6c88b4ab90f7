import { type DataType, type Graph, saveOnnx, type Tensor, tensor } from '@uaccel/inference'
import { ml } from '@uaccel/webnn'
import t from 'tap'
import { compute, npuContext } from './onnx-contexts.js'
import { onnxruntime } from './onnxruntime.js'
import { generator } from './random-onnx/maker.js'

const ort = onnxruntime()
const random = generator(7)
const size = (shape: readonly number[]) => shape.reduce((all, each) => all * each, 1)
const f = (...shape: number[]) =>
  tensor(
    'float32',
    shape,
    Float32Array.from({ length: size(shape) }, () => random() * 4 - 2),
  )
const positive = (...shape: number[]) =>
  tensor(
    'float32',
    shape,
    Float32Array.from({ length: size(shape) }, () => random() + 0.1),
  )
const one = (value: number) => tensor('float32', [], Float32Array.of(value))
const u8 = (...shape: number[]) =>
  tensor(
    'uint8',
    shape,
    Uint8Array.from({ length: size(shape) }, () => Math.floor(random() * 256)),
  )
const byte = (value: number) => tensor('uint8', [], Uint8Array.of(value))
const i64 = (...values: number[]) => tensor('int64', [values.length], BigInt64Array.from(values, BigInt))
const i64x = (shape: readonly number[], ...values: number[]) =>
  tensor('int64', shape, BigInt64Array.from(values, BigInt))
const i32 = (...values: number[]) => tensor('int32', [values.length], Int32Array.from(values))
const none = tensor('float32', [0], new Float32Array(0))

type Attributes = Readonly<Record<string, number | string | readonly number[] | readonly string[]>>
/** Inputs that are computed come first; those from `constant` on are constants. `undefined` is one left out. */
type Case = readonly [
  op: string,
  inputs: readonly (Tensor | undefined)[],
  attributes?: Attributes,
  more?: { opset?: number; outputs?: number; computed?: number },
]

const image = f(1, 4, 6, 6)
const lstm = [f(5, 2, 3), f(1, 16, 3), f(1, 16, 4), f(1, 32), undefined, f(1, 2, 4), f(1, 2, 4)] as const
const gru = [f(5, 2, 3), f(2, 12, 3), f(2, 12, 4), f(2, 24)] as const
const scale = one(0.02)

const cases: readonly Case[] = [
  ['LSTM', lstm, { hidden_size: 4 }, { outputs: 3 }],
  ['LSTM', lstm.slice(0, 4), { hidden_size: 4, direction: 'reverse' }, { outputs: 3 }],
  ['GRU', gru, { hidden_size: 4, direction: 'bidirectional' }, { outputs: 2 }],
  ['GRU', gru, { hidden_size: 4, direction: 'bidirectional', linear_before_reset: 1 }, { outputs: 2 }],
  ['InstanceNormalization', [image, f(4), f(4)]],
  ['InstanceNormalization', [f(2, 3, 5), f(3), f(3)]],
  ['GroupNormalization', [image, f(2), f(2)], { num_groups: 2 }, { opset: 18 }],
  ['GroupNormalization', [image, f(4), f(4)], { num_groups: 2 }, { opset: 21 }],
  ['RMSNormalization', [f(3, 8), f(8)], {}, { opset: 23 }],
  ['LRN', [image], { size: 3, alpha: 0.1 }],
  ['MeanVarianceNormalization', [image]],
  ['LpNormalization', [f(3, 5)]],
  ['Hardmax', [f(3, 5)]],
  ['Split', [f(7, 2)], { num_outputs: 3 }, { outputs: 3, opset: 18 }],
  ['Split', [f(2, 6), i64(1, 5)], { axis: 1 }, { outputs: 2 }],
  ['ScatterElements', [f(3, 3), tensor('int64', [2, 3], BigInt64Array.of(1n, 0n, 2n, 0n, 2n, 1n)), f(2, 3)]],
  ['ScatterND', [f(4, 2), tensor('int64', [2, 1], BigInt64Array.of(3n, 1n)), f(2, 2)]],
  ['GatherElements', [f(2, 3), tensor('int64', [2, 2], BigInt64Array.of(1n, 0n, -1n, 2n))], { axis: 1 }],
  ['GatherND', [f(3, 3), tensor('int64', [2, 2], BigInt64Array.of(1n, 0n, 2n, 2n))]],
  ['Trilu', [f(4, 4), tensor('int64', [], BigInt64Array.of(1n))], { upper: 0 }],
  ['CumSum', [f(3, 4), tensor('int64', [], BigInt64Array.of(1n))], { exclusive: 1, reverse: 1 }],
  ['Tile', [f(2, 3), i64(2, 1)]],
  ['Expand', [f(3, 1), i64(2, 1, 4)]],
  ['DepthToSpace', [image], { blocksize: 2 }],
  ['DepthToSpace', [image], { blocksize: 2, mode: 'CRD' }],
  ['SpaceToDepth', [image], { blocksize: 2 }],
  [
    'OneHot',
    [i64(1, -1, 2), tensor('int64', [], BigInt64Array.of(4n)), tensor('float32', [2], Float32Array.of(0, 3))],
    {},
    { computed: 1 },
  ],
  ['Pad', [f(3, 4), i64(-1, 1, 0, 2)], {}],
  ['Mod', [i64(7, -7, 7, -7), i64(3, 3, -3, -3)], {}, { computed: 2 }],
  ['Mod', [i32(7, -7, 7, -7), i32(3, 3, -3, -3)], { fmod: 1 }, { computed: 2 }],
  ['Einsum', [f(2, 3, 4), f(2, 4, 5)], { equation: 'bij,bjk->bik' }],
  ['Einsum', [f(2, 3, 4, 5), f(2, 6, 4, 5)], { equation: 'bhid,bjid->bihj' }],
  ['Einsum', [f(3, 4)], { equation: 'ij->i' }],
  ['MatMul', [f(4), f(2, 4, 3)]],
  ['MatMul', [f(2, 3, 4), f(4)]],
  ['Conv', [f(1, 2, 9), f(3, 2, 3), f(3)], { strides: [2], auto_pad: 'SAME_UPPER' }],
  ['Conv', [image, f(2, 4, 3, 3)], { strides: [2, 2], auto_pad: 'SAME_LOWER' }],
  [
    'ConvTranspose',
    [f(1, 3, 4, 4), f(3, 2, 3, 3), f(2)],
    { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] },
  ],
  ['ConvTranspose', [f(1, 3, 4, 4), f(3, 2, 3, 3)], { strides: [2, 2], auto_pad: 'SAME_UPPER' }],
  [
    'AveragePool',
    [image],
    { kernel_shape: [3, 3], pads: [1, 1, 1, 1], count_include_pad: 1, strides: [2, 2] },
  ],
  ['AveragePool', [image], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2], ceil_mode: 1 }],
  ['AveragePool', [f(1, 2, 9)], { kernel_shape: [3], strides: [2] }],
  ['MaxPool', [image], { kernel_shape: [2, 2], dilations: [2, 2], auto_pad: 'VALID' }],
  ['LpPool', [image], { kernel_shape: [2, 2] }],
  ['GlobalLpPool', [image]],
  ...['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'].flatMap((mode): Case[] => [
    [
      'Resize',
      [image, none, none, i64(1, 4, 9, 4)],
      { mode: 'linear', coordinate_transformation_mode: mode },
    ],
    [
      'Resize',
      [image, none, none, i64(1, 4, 11, 7)],
      { mode: 'cubic', coordinate_transformation_mode: mode },
    ],
    [
      'Resize',
      [image, none, none, i64(1, 4, 12, 3)],
      { mode: 'nearest', coordinate_transformation_mode: mode, nearest_mode: 'floor' },
    ],
  ]),
  ['Selu', [f(9)]],
  ['Celu', [f(9)], { alpha: 1.5 }],
  ['ThresholdedRelu', [f(9)]],
  ['Shrink', [f(9)], { lambd: 0.5, bias: 0.25 }],
  ['PRelu', [f(2, 3), f(3)]],
  ['Gelu', [f(9)], { approximate: 'tanh' }, { opset: 20 }],
  ['Pow', [positive(5), f(5)]],
  ['Sum', [f(2, 3), f(3), f(1)]],
  ['Mean', [f(2, 3), f(3), f(1)]],
  ['ReduceL2', [f(2, 3, 4), i64(0, 2)], {}, { opset: 18 }],
  ['ReduceLogSum', [positive(2, 3)], { axes: [1] }, { opset: 13 }],
  ['ReduceProd', [f(2, 3)], { axes: [0], keepdims: 0 }, { opset: 13 }],
  ['Clip', [f(9), one(-0.5), one(0.5)], {}, { computed: 3 }],
  ['QuantizeLinear', [f(2, 3), positive(3), u8(3)], { axis: 1 }],
  ['DequantizeLinear', [u8(2, 3), positive(3), u8(3)], { axis: 1 }],
  ['DynamicQuantizeLinear', [f(3, 5)], {}, { outputs: 3 }],
  ['MatMulInteger', [u8(2, 700), u8(700, 3), byte(7), u8(3)]],
  ['ConvInteger', [u8(1, 40, 5, 5), u8(2, 40, 3, 3), byte(9), byte(120)], { pads: [1, 1, 1, 1] }],
  ['QLinearMatMul', [u8(3, 8), scale, byte(128), u8(8, 4), scale, byte(100), one(0.05), byte(120)]],
  [
    'QLinearConv',
    [
      u8(1, 3, 5, 5),
      scale,
      byte(128),
      u8(4, 3, 3, 3),
      scale,
      byte(100),
      one(0.1),
      byte(120),
      i32(90, -500, 0, 7),
    ],
  ],
  // Over no axis a reduction applies its function to each element.
  ...['ReduceL1', 'ReduceL2', 'ReduceSumSquare', 'ReduceMax'].map(
    (op): Case => [op, [f(2, 3)], { noop_with_empty_axes: 1 }, { opset: 18 }],
  ),
  // Indices of less than the tensor's size beside their axis.
  ['GatherElements', [f(3, 4), i64x([2, 3], 1, 0, -1, 2, 2, 1)], { axis: 0 }],
  ['ScatterElements', [f(3, 4, 2), i64x([2, 2, 1], 3, 0, -2, 1), f(2, 2, 1)], { axis: 1 }],
  // Windows of one dimension are rounded up to one more, those of the other are not.
  ['MaxPool', [f(1, 2, 4, 5)], { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }],
  [
    'AveragePool',
    [f(1, 2, 5, 4)],
    { kernel_shape: [3, 2], strides: [3, 2], pads: [1, 0, 0, 1], ceil_mode: 1, count_include_pad: 1 },
    { opset: 19 },
  ],
  // All that there is is taken away, and a constant put in its place.
  ['Pad', [f(1, 3), i64(1, 0, -1, 1), one(0.5)], {}],
  ['Pad', [f(3, 4), i64(-1, 1, 0, 2)], { mode: 'edge' }],
]

t.test('operators alone compute what onnxruntime does', async (t) => {
  const cpu = await ml.createContext()
  t.teardown(() => cpu.destroy())
  const { context: npu } = await npuContext(t)
  for (const [op, inputs, attributes = {}, more = {}] of cases) {
    const { opset = 19, outputs = 1, computed = 1 } = more
    const name = (at: number) => `i${at}`
    const given = inputs.flatMap((value, at) => (value ? [[name(at), value] as const] : []))
    const isComputed = (key: string) => Number(key.slice(1)) < computed
    const names = Array.from({ length: outputs }, (_, at) => `y${at}`)
    const graph = (types: readonly DataType[]): Graph => ({
      name: op,
      opsets: new Map([['', opset]]),
      inputs: given
        .filter(([key]) => isComputed(key))
        .map(([key, { dtype, shape }]) => ({ name: key, dtype, shape })),
      outputs: names.map((key, at) => ({ name: key, dtype: types[at]!, shape: undefined })),
      constants: new Map(given.filter(([key]) => !isComputed(key))),
      nodes: [
        {
          name: op,
          op,
          domain: '',
          inputs: inputs.map((value, at) => (value ? name(at) : '')),
          outputs: names,
          attributes: new Map(Object.entries(attributes)),
        },
      ],
    })
    const first = inputs[0]!.dtype
    const types: Record<string, DataType[]> = {
      QuantizeLinear: ['uint8'],
      DequantizeLinear: ['float32'],
      DynamicQuantizeLinear: ['uint8', 'float32', 'uint8'],
      MatMulInteger: ['int32'],
      ConvInteger: ['int32'],
      OneHot: ['float32'],
    }
    const file = saveOnnx(graph(types[op] ?? names.map(() => first)), { name: 'test', version: '1' })
    const session = await ort.InferenceSession.create(file, {
      graphOptimizationLevel: 'disabled',
      logSeverityLevel: 3,
    })
    const fed = given.filter(([key]) => isComputed(key))
    const wanted = await session.run(
      Object.fromEntries(
        fed.map(([key, { dtype, data, shape }]) => [key, new ort.Tensor(dtype, data as Float32Array, shape)]),
      ),
    )
    for (const [place, context] of [
      ['CPU', cpu],
      ['NPU', npu],
    ] as const) {
      const { results } = await compute(context, file, Object.fromEntries(fed))
      for (const key of names) {
        const what = `${place}: ${op} ${JSON.stringify(attributes)}: ${key}`
        const { data, dims, type } = wanted[key]!
        const { data: found, shape } = results.get(key)!
        t.same(shape, dims, `${what} has the shape`)
        const tolerance = type === 'float32' ? 2e-5 : 0
        const wrong = Array.from(data as Float32Array, Number).findIndex((value, at) => {
          const ours = Number(found[at])
          return value !== ours && !(Math.abs(value - ours) <= tolerance * (1 + Math.abs(value)))
        })
        t.equal(
          wrong,
          -1,
          `${what}${wrong < 0 ? '' : `[${wrong}] is ${found[wrong]}, wanted ${data[wrong]}`}`,
        )
      }
    }
  }
})
