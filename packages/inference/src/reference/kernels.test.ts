import fc from 'fast-check'
import t from 'tap'
import type { GraphNode } from '../graph/graph.js'
import { compile, type Graph, type Tensor, tensor } from '../index.js'
import { Reference } from './reference.js'

// The formulas of the ONNX operators, written out element by element: no shared loops, no shared arithmetic.

function halfEven(x: number): number {
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1
  return floor % 2 === 0 ? floor : floor + 1
}
const f32 = Math.fround
const typeLimits = { uint8: [0, 255], int8: [-128, 127] } as const
const saturate = (x: number, type: 'uint8' | 'int8') =>
  Math.max(typeLimits[type][0], Math.min(typeLimits[type][1], x))

type Byte = 'uint8' | 'int8'

const byteType = fc.constantFrom<Byte>('uint8', 'int8')
const scale = fc.double({ min: 1e-4, max: 2, noNaN: true }).map(f32)
const zeroOf = (type: Byte) => fc.integer({ min: typeLimits[type][0], max: typeLimits[type][1] })

/** `count` values of a type from a seed: dense arrays of fast-check would be slow. */
function bytes(type: Byte, count: number, seed: number): Uint8Array | Int8Array {
  const data = type === 'uint8' ? new Uint8Array(count) : new Int8Array(count)
  let state = seed | 1
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    data[i] = state >>> 24
  }
  return data
}
const scalarByte = (type: Byte, value: number) =>
  type === 'uint8' ? tensor('uint8', [], Uint8Array.of(value)) : tensor('int8', [], Int8Array.of(value))
const floats = (...values: number[]) =>
  tensor('float32', values.length === 1 ? [] : [values.length], Float32Array.from(values))
const make = (type: Byte, shape: number[], data: Uint8Array | Int8Array) =>
  ({ dtype: type, shape, data }) as Tensor

function runNode(
  node: Omit<GraphNode, 'name' | 'outputs' | 'attributes'> & {
    attributes?: Record<string, number | number[] | string>
  },
  inputs: Record<string, Tensor>,
  constants: Record<string, Tensor>,
  output: { dtype: Tensor['dtype'] },
): Tensor {
  const graph: Graph = {
    name: 'one',
    opsets: new Map([['', 14]]),
    inputs: Object.entries(inputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
    outputs: [{ name: 'y', dtype: output.dtype, shape: undefined }],
    constants: new Map(Object.entries(constants)),
    nodes: [
      { name: 'n', ...node, outputs: ['y'], attributes: new Map(Object.entries(node.attributes ?? {})) },
    ],
  }
  return new Reference(compile(graph)).run(inputs).y
}

t.test('QLinearConv is its formula', async (t) => {
  const shapes = fc.record({
    n: fc.integer({ min: 1, max: 2 }),
    group: fc.integer({ min: 1, max: 3 }),
    perGroup: fc.integer({ min: 1, max: 3 }),
    outPerGroup: fc.integer({ min: 1, max: 3 }),
    h: fc.integer({ min: 5, max: 9 }),
    w: fc.integer({ min: 5, max: 9 }),
    kernel: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
    strides: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
    dilations: fc.tuple(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 2 })),
    pads: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 4 }),
    seed: fc.integer(),
    bias: fc.boolean(),
  })
  const types = fc.tuple(byteType, byteType, byteType).chain(([x, w, y]) =>
    fc.record({
      x: fc.constant(x),
      w: fc.constant(w),
      y: fc.constant(y),
      xz: zeroOf(x),
      wz: zeroOf(w),
      yz: zeroOf(y),
      xs: scale,
      ws: scale,
      ys: scale,
    }),
  )
  fc.assert(
    fc.property(shapes, types, (s, q) => {
      const channels = s.group * s.perGroup
      const outputs = s.group * s.outPerGroup
      const x = bytes(q.x, s.n * channels * s.h * s.w, s.seed)
      const w = bytes(q.w, outputs * s.perGroup * s.kernel[0] * s.kernel[1], s.seed + 7)
      const scales = Float32Array.from({ length: outputs }, (_, i) => q.ws * (1 + i / 3))
      const bias = Int32Array.from({ length: outputs }, (_, i) => (s.bias ? i * 1001 - 1500 : 0))
      const names = ['x', 'xs', 'xz', 'w', 'ws', 'wz', 'ys', 'yz', ...(s.bias ? ['b'] : [])]
      const y = runNode(
        {
          op: 'QLinearConv',
          domain: '',
          inputs: names,
          attributes: { group: s.group, strides: s.strides, dilations: s.dilations, pads: s.pads },
        },
        { x: make(q.x, [s.n, channels, s.h, s.w], x) },
        {
          xs: floats(q.xs),
          xz: scalarByte(q.x, q.xz),
          w: make(q.w, [outputs, s.perGroup, ...s.kernel], w),
          ws: tensor('float32', [outputs], scales),
          wz: scalarByte(q.w, q.wz),
          ys: floats(q.ys),
          yz: scalarByte(q.y, q.yz),
          b: tensor('int32', [outputs], bias),
        },
        { dtype: q.y },
      )
      const [, , oh, ow] = y.shape
      const size = (length: number, before: number, after: number, axis: 0 | 1) =>
        Math.floor(
          (length + before + after - s.dilations[axis] * (s.kernel[axis] - 1) - 1) / s.strides[axis],
        ) + 1
      t.same(y.shape, [s.n, outputs, size(s.h, s.pads[0], s.pads[2], 0), size(s.w, s.pads[1], s.pads[3], 1)])
      for (let i = 0; i < y.data.length; i++) {
        const column = i % ow
        const row = Math.floor(i / ow) % oh
        const o = Math.floor(i / ow / oh) % outputs
        const n = Math.floor(i / ow / oh / outputs)
        let acc = bias[o]
        for (let c = 0; c < s.perGroup; c++) {
          for (let ky = 0; ky < s.kernel[0]; ky++) {
            for (let kx = 0; kx < s.kernel[1]; kx++) {
              const iy = row * s.strides[0] + ky * s.dilations[0] - s.pads[0]
              const ix = column * s.strides[1] + kx * s.dilations[1] - s.pads[1]
              if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue
              const channel = Math.floor(o / s.outPerGroup) * s.perGroup + c
              acc +=
                (x[((n * channels + channel) * s.h + iy) * s.w + ix] - q.xz) *
                (w[((o * s.perGroup + c) * s.kernel[0] + ky) * s.kernel[1] + kx] - q.wz)
            }
          }
        }
        const multiplier = f32(f32(q.xs * scales[o]) / q.ys)
        const expected = saturate(halfEven(f32(f32(acc) * multiplier)) + q.yz, q.y)
        if (y.data[i] !== expected) throw new Error(`element ${i}: wanted ${expected}, found ${y.data[i]}`)
      }
    }),
    { numRuns: 200 },
  )
  t.pass('every case')
})

t.test('QLinearMatMul is its formula', async (t) => {
  fc.assert(
    fc.property(
      fc.tuple(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 12 }),
      ),
      fc.tuple(byteType, byteType, byteType),
      fc.tuple(scale, scale, scale),
      fc.tuple(fc.nat(127), fc.nat(127), fc.nat(127)),
      fc.integer(),
      ([m, k, n], [at, bt, yt], [as, bs, ys], [az, bz, yz], seed) => {
        const a = bytes(at, m * k, seed)
        const b = bytes(bt, k * n, seed + 3)
        const scales = Float32Array.from({ length: n }, (_, i) => bs / (i + 1))
        const y = runNode(
          { op: 'QLinearMatMul', domain: '', inputs: ['a', 'as', 'az', 'b', 'bs', 'bz', 'ys', 'yz'] },
          { a: make(at, [m, k], a) },
          {
            as: floats(as),
            az: scalarByte(at, az),
            b: make(bt, [k, n], b),
            bs: tensor('float32', [n], scales),
            bz: scalarByte(bt, bz),
            ys: floats(ys),
            yz: scalarByte(yt, yz),
          },
          { dtype: yt },
        )
        for (let row = 0; row < m; row++) {
          for (let column = 0; column < n; column++) {
            let acc = 0
            for (let i = 0; i < k; i++) acc += (a[row * k + i] - az) * (b[i * n + column] - bz)
            const multiplier = f32(f32(as * scales[column]) / ys)
            const expected = saturate(halfEven(f32(f32(acc) * multiplier)) + yz, yt)
            const found = y.data[row * n + column]
            if (found !== expected) throw new Error(`[${row},${column}]: wanted ${expected}, found ${found}`)
          }
        }
      },
    ),
    { numRuns: 200 },
  )
  t.pass('every case')
})

t.test('MaxPool is its formula, padding takes no part', async (t) => {
  fc.assert(
    fc.property(
      byteType,
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 4, max: 9 }),
      fc.integer({ min: 4, max: 9 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 0, max: 2 }),
      fc.integer(),
      (type, c, h, w, kernel, stride, pad, seed) => {
        const x = bytes(type, c * h * w, seed)
        const y = runNode(
          {
            op: 'MaxPool',
            domain: '',
            inputs: ['x'],
            attributes: {
              kernel_shape: [kernel, kernel],
              strides: [stride, stride],
              pads: [pad, pad, pad, pad],
            },
          },
          { x: make(type, [1, c, h, w], x) },
          {},
          { dtype: type },
        )
        const [, , oh, ow] = y.shape
        for (let i = 0; i < y.data.length; i++) {
          const [column, row, channel] = [i % ow, Math.floor(i / ow) % oh, Math.floor(i / ow / oh)]
          const inside: number[] = [typeLimits[type][0]]
          for (let ky = 0; ky < kernel; ky++) {
            for (let kx = 0; kx < kernel; kx++) {
              const [iy, ix] = [row * stride + ky - pad, column * stride + kx - pad]
              if (iy >= 0 && iy < h && ix >= 0 && ix < w) inside.push(x[(channel * h + iy) * w + ix])
            }
          }
          if (y.data[i] !== Math.max(...inside)) throw new Error(`element ${i}`)
        }
      },
    ),
    { numRuns: 200 },
  )
  t.pass('every case')
})

t.test('QLinearAdd is dequantise, add, quantise, with broadcasting', async (t) => {
  fc.assert(
    fc.property(
      fc.tuple(byteType, byteType),
      fc.tuple(scale, scale, scale),
      fc.tuple(fc.nat(127), fc.nat(127), fc.nat(127)),
      fc.integer(),
      ([at, bt], [as, bs, ys], [az, bz, yz], seed) => {
        const a = bytes(at, 24, seed)
        const b = bytes(bt, 4, seed + 1)
        const y = runNode(
          {
            op: 'QLinearAdd',
            domain: 'com.microsoft',
            inputs: ['a', 'as', 'az', 'b', 'bs', 'bz', 'ys', 'yz'],
          },
          { a: make(at, [2, 3, 4], a), b: make(bt, [4], b) },
          {
            as: floats(as),
            az: scalarByte(at, az),
            bs: floats(bs),
            bz: scalarByte(bt, bz),
            ys: floats(ys),
            yz: scalarByte('uint8', yz),
          },
          { dtype: 'uint8' },
        )
        for (let i = 0; i < 24; i++) {
          const sum = f32(f32((a[i] - az) * as) + f32((b[i % 4] - bz) * bs))
          const expected = saturate(halfEven(f32(sum / ys)) + yz, 'uint8')
          if (y.data[i] !== expected) throw new Error(`element ${i}: wanted ${expected}, found ${y.data[i]}`)
        }
      },
    ),
  )
  t.pass('every case')
})

t.test('QuantizeLinear rounds half to even and saturates, infinities too', async (t) => {
  const values = [
    -0.5,
    0.5,
    1.5,
    2.5,
    -1.5,
    126.5,
    127.5,
    1e30,
    -1e30,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    3.4e38,
  ]
  const y = runNode(
    { op: 'QuantizeLinear', domain: '', inputs: ['x', 's', 'z'] },
    { x: tensor('float32', [values.length], Float32Array.from(values)) },
    { s: floats(1), z: tensor('int8', [], Int8Array.of(0)) },
    { dtype: 'int8' },
  )
  t.same([...y.data], [0, 0, 2, 2, -2, 126, 127, 127, -128, 127, -128, 127])
})

t.test('DequantizeLinear is (q - zero) * scale in float32', async (t) => {
  const x = Uint8Array.of(0, 1, 128, 255)
  const y = runNode(
    { op: 'DequantizeLinear', domain: '', inputs: ['x', 's', 'z'] },
    { x: make('uint8', [4], x) },
    { s: floats(0.1), z: tensor('uint8', [], Uint8Array.of(3)) },
    { dtype: 'float32' },
  )
  t.same(
    [...y.data],
    [...x].map((q) => f32((q - 3) * f32(0.1))),
  )
  t.pass('every case')
})

t.test('Relu, Clip, Add, Flatten and Reshape', async (t) => {
  const x = tensor('float32', [1, 2, 2], Float32Array.of(-1, 2, -3, 4))
  const run = (op: string, inputs: string[], attributes: Record<string, number | number[]> = {}) =>
    runNode(
      { op, domain: '', inputs, attributes },
      { x },
      { low: floats(-2), high: floats(3), shape: tensor('int64', [2], BigInt64Array.of(0n, -1n)) },
      { dtype: 'float32' },
    )
  t.same([...run('Relu', ['x']).data], [0, 2, 0, 4])
  t.same([...run('Clip', ['x', 'low', 'high']).data], [-1, 2, -2, 3])
  t.same([...run('Clip', ['x', '', 'high']).data], [-1, 2, -3, 3])
  t.same([...run('Add', ['x', 'high']).data], [2, 5, 0, 7])
  t.same(run('Flatten', ['x'], { axis: 2 }).shape, [2, 2])
  t.same(run('Reshape', ['x', 'shape']).shape, [1, 4])
})
