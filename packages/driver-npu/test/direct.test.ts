import fc from 'fast-check'
import t from 'tap'
import { conv2d } from '../model/arithmetic.js'
import { contract } from '../model/tensor/contract.js'
import { convolve } from '../model/tensor/convolve.js'
import type { TensorParams } from '../model/tensor/params.js'
import * as reference from './reference.js'

const RUNS = Number(process.env.UACCEL_CONVOLUTIONS ?? 150)
const CONTRACT = 0x21
const FLOAT32 = 4
const [ADD, CLAMP, FROM_C] = [0x40, 0x19, 3]

interface Shape {
  readonly n: number
  readonly groups: number
  /** Of a group. */
  readonly inputs: number
  readonly outputs: number
  readonly size: readonly [number, number]
  readonly kernel: readonly [number, number]
  readonly stride: readonly [number, number]
  readonly dilation: readonly [number, number]
  readonly pad: readonly [number, number]
  readonly last: boolean
}

/** Small whole numbers: sums are exact in any order. */
const pattern = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, at) => ((at * 7919 + seed) % 17) - 8)

const outs = ({ size, kernel, stride, dilation, pad }: Shape) =>
  [0, 1].map((i) => Math.floor((size[i] + 2 * pad[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i]) + 1)

/** A convolution in a layout, its channels first or last, with a bias, and limits. */
function contraction(s: Shape) {
  const [oh, ow] = outs(s)
  const [h, w] = s.size
  const strides = (channels: number, height: number, width: number) => {
    const image = channels * height * width
    return s.last ? [image, 1, width * channels, channels] : [image, height * width, width, 1]
  }
  const [an, ac, ah, aw] = strides(s.groups * s.inputs, h, w)
  const [dn, dc, dh, dw] = strides(s.groups * s.outputs, oh, ow)
  const taps = s.kernel[0] * s.kernel[1]
  const each = s.inputs * taps
  const dims = [s.n, s.groups, s.outputs, oh, ow, s.inputs, ...s.kernel]
  const view = (of: readonly number[]) => ({ type: FLOAT32, strides: of, before: 0, after: 0 })
  const window = (i: 0 | 1) => ({
    size: s.size[i],
    out: 3 + i,
    kernel: 6 + i,
    stride: s.stride[i],
    dilation: s.dilation[i],
    pad: s.pad[i],
  })
  const p: TensorParams = {
    opcode: CONTRACT,
    rank: 8,
    inner: 3,
    fn: 0,
    flags: 0,
    compute: FLOAT32,
    dims,
    a: view([an, ac * s.inputs, 0, ah, aw, ac, 0, 0]),
    b: view([0, each * s.outputs, each, 0, 0, taps, s.kernel[1], 1]),
    c: view([0, s.outputs, 1, 0, 0, 0, 0, 0]),
    d: view([dn, dc * s.outputs, dc, dh, dw, 0, 0, 0]),
    stages: [
      { fn: ADD, x: 0, y: FROM_C, z: 0, alpha: 0, beta: 0 },
      { fn: CLAMP, x: 0, y: 0, z: 0, alpha: -300, beta: 300 },
    ],
    windows: [window(0), window(1)],
    indices: undefined,
    axes: undefined,
    epsilon: 0,
  }
  const channels = s.groups * s.outputs
  const a = pattern(s.n * s.groups * s.inputs * h * w, 3)
  const b = pattern(channels * each, 5)
  const c = pattern(channels, 7)
  const wanted = new Float32Array(s.n * channels * oh * ow)
  for (let n = 0; n < s.n; n++)
    for (let o = 0; o < channels; o++)
      for (let y = 0; y < oh; y++)
        for (let x = 0; x < ow; x++) {
          let sum = 0
          const group = Math.floor(o / s.outputs)
          for (let i = 0; i < s.inputs; i++)
            for (let k = 0; k < s.kernel[0]; k++)
              for (let l = 0; l < s.kernel[1]; l++) {
                const row = y * s.stride[0] + k * s.dilation[0] - s.pad[0]
                const column = x * s.stride[1] + l * s.dilation[1] - s.pad[1]
                if (row < 0 || row >= h || column < 0 || column >= w) continue
                const at = n * an + (group * s.inputs + i) * ac + row * ah + column * aw
                sum += a[at] * b[o * each + i * taps + k * s.kernel[1] + l]
              }
          wanted[n * dn + o * dc + y * dh + x * dw] = Math.min(Math.max(sum + c[o], -300), 300)
        }
  const elements = (data: Float32Array) => ({ data, base: 0 })
  const operands = { a: elements(a), b: elements(b), c: elements(c) }
  return { p, operands, wanted }
}

const up = (max: number, min = 1) => fc.integer({ min, max })
const pair = (max: number, min = 1) => fc.tuple(up(max, min), up(max, min))
const shapes = fc
  .record({
    n: up(2),
    groups: up(4),
    inputs: up(3),
    outputs: up(6),
    size: pair(24),
    kernel: pair(5),
    stride: pair(3),
    dilation: pair(2),
    pad: pair(3, 0),
    last: fc.boolean(),
  })
  .filter((shape) => outs(shape).every((out) => out >= 1))

t.test('convolutions are what their definition says, in both layouts', async (t) => {
  fc.assert(
    fc.property(shapes, (shape) => {
      const { p, operands, wanted } = contraction(shape)
      const found = new Float32Array(wanted.length)
      t.ok(convolve(p, operands, { data: found, base: 0 }), 'are done directly')
      const wrong = wanted.findIndex((value, at) => value !== found[at])
      if (wrong >= 0) throw new Error(`element ${wrong} is ${found[wrong]}, wanted ${wanted[wrong]}`)
    }),
    { numRuns: RUNS },
  )
})

t.test('images, and channels, that are more than a block', async (t) => {
  const shape: Shape = {
    n: 1,
    groups: 1,
    inputs: 1,
    outputs: 1,
    size: [150, 200],
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    pad: [1, 1],
    last: false,
  }
  const large: readonly (readonly [string, Partial<Shape>])[] = [
    ['strips of images with several planes', { inputs: 6, outputs: 5 }],
    ['strips of every second row', { inputs: 6, stride: [2, 2] }],
    ['channels of one image in several blocks', { size: [40, 50], outputs: 45 }],
    ['many images, read together', { groups: 40, size: [33, 50] }],
    ['many images, channels last', { groups: 40, size: [33, 50], last: true }],
  ]
  for (const [name, some] of large) {
    const { p, operands, wanted } = contraction({ ...shape, ...some })
    const found = new Float32Array(wanted.length)
    t.ok(convolve(p, operands, { data: found, base: 0 }), name)
    t.equal(
      wanted.findIndex((value, at) => value !== found[at]),
      -1,
      name,
    )
  }
})

t.test('what is no such convolution, or has too many taps, is left to products of matrices', async (t) => {
  const one: Shape = {
    n: 1,
    groups: 1,
    inputs: 2,
    outputs: 3,
    size: [9, 9],
    kernel: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    pad: [1, 1],
    last: false,
  }
  const { p, operands } = contraction(one)
  const d = { data: new Float32Array(3 * 81), base: 0 }
  t.notOk(convolve({ ...p, flags: 1 }, operands, d), 'transposed')
  t.notOk(convolve({ ...p, windows: p.windows.slice(1) }, operands, d), 'one window')
  t.ok(
    d.data.every((value) => value === 0),
    'nothing was done',
  )
  const many = contraction({ ...one, inputs: 800 })
  t.notOk(convolve(many.p, many.operands, d), 'many taps')
  contract(many.p, many.operands, d)
  t.same(d.data, many.wanted)
})

t.test('convolutions of 8 bits are those of the reference, bit for bit', async () => {
  const types = fc.constantFrom('uint8' as const, 'int8' as const)
  const cases = fc.record({
    shape: shapes,
    xType: types,
    wType: types,
    yType: types,
    zeros: fc.tuple(up(120, 0), up(120, 0), up(120, 0)),
  })
  fc.assert(
    fc.property(cases, ({ shape: s, xType, wType, yType, zeros: [xZero, wZero, yZero] }) => {
      const [h, w] = s.size
      const [oh, ow] = outs(s)
      const [c, o] = [s.groups * s.inputs, s.groups * s.outputs]
      const bytes = (length: number, type: 'uint8' | 'int8', seed: number) => {
        const found = Uint8Array.from({ length }, (_, at) => (at * 7919 + seed) % 256)
        return type === 'int8' ? new Int8Array(found.buffer) : found
      }
      const x = bytes(s.n * c * h * w, xType, 3)
      const weights = bytes(o * s.inputs * s.kernel[0] * s.kernel[1], wType, 5)
      const table = {
        bias: Int32Array.from({ length: o }, (_, at) => at * 977 - 2000),
        multiplier: Float32Array.from({ length: o }, (_, at) => 0.0007 * (1 + at)),
      }
      const [min, max] = reference.range[yType]
      const y = bytes(s.n * o * oh * ow, yType, 0)
      const sliding = { n: s.n, c, h, w, o, groups: s.groups, xZero, wZero }
      conv2d(
        x,
        weights,
        y,
        {
          ...sliding,
          ...{ kh: s.kernel[0], kw: s.kernel[1], sh: s.stride[0], sw: s.stride[1] },
          ...{ dh: s.dilation[0], dw: s.dilation[1] },
          ...{ padTop: s.pad[0], padLeft: s.pad[1], padBottom: s.pad[0], padRight: s.pad[1] },
        },
        table,
        { zero: yZero, min, max, bug: undefined },
      )
      const wanted = reference.conv2d(
        x,
        weights,
        table,
        {
          ...sliding,
          kernel: s.kernel,
          strides: s.stride,
          dilations: s.dilation,
          pads: [s.pad[0], s.pad[1], s.pad[0], s.pad[1]],
        },
        { zero: yZero, type: yType, clamp: [min, max] },
      )
      const wrong = wanted.findIndex((value, at) => value !== y[at])
      if (wrong >= 0) throw new Error(`byte ${wrong} is ${y[wrong]}, wanted ${wanted[wrong]}`)
    }),
    { numRuns: Math.ceil(RUNS / 3) },
  )
})
