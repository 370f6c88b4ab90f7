import { isAccelError } from '@uaccel/uapi'
import type { Test } from 'tap'
import type { NpuContext } from '../src/context.js'
import type { AnyTensorStep, TensorType, View } from '../src/driver.js'
import type { WithNpu } from './contract.js'
import { both, type ErrorCase, f32, i32, move, refusals, u8, word } from './errors.js'

type Op = AnyTensorStep['op']

/** Refusals of tensor blocks: docs/devices/npu.md, 7.6 and 9.10 to 9.17, in the order of 10.1. */
const list: readonly ErrorCase<Op>[] = [
  { what: 'an opcode that it has not', of: 'elementwise', spoil: word(0, 0x428), ends: 'INVALID_OPCODE 40' },
  { what: 'a length', of: 'contract', spoil: word(12, 1), ends: 'INVALID_FIELD 48' },
  { what: 'an operand that it has not', of: 'gather', spoil: word(6, 64), ends: 'INVALID_FIELD 24' },
  { what: 'a block of another size', of: 'reduce', spoil: word(1, 96), ends: 'INVALID_PARAM_SIZE 96' },
  { what: 'a reserved type of A', of: 'elementwise', spoil: u8(4, 5), ends: 'INVALID_TYPE 4' },
  { what: 'int64 to compute with', of: 'elementwise', spoil: u8(4, 8), ends: 'INVALID_TYPE 4' },
  { what: 'A of integers', of: 'contract', spoil: u8(4, 3), ends: 'INVALID_TYPE 4' },
  { what: 'B of integers', of: 'contract', spoil: u8(5, 3), ends: 'INVALID_TYPE 5' },
  { what: 'no B', of: 'contract', spoil: u8(5, 0), ends: 'INVALID_TYPE 5' },
  { what: 'indices of floating point', of: 'gather', spoil: u8(5, 4), ends: 'INVALID_TYPE 5' },
  { what: 'no indices', of: 'scatter', spoil: u8(5, 0), ends: 'INVALID_TYPE 5' },
  { what: 'another type of D than of A', of: 'gather', spoil: u8(7, 3), ends: 'INVALID_TYPE 7' },
  { what: 'no D', of: 'reduce', spoil: u8(7, 0), ends: 'INVALID_TYPE 7' },
  { what: 'the place of a maximum as a float', of: 'reduce', spoil: u8(0x0a, 11), ends: 'INVALID_TYPE 7' },
  { what: 'an unknown COMPUTE', of: 'scan', spoil: u8(0x0c, 1), ends: 'INVALID_TYPE 12' },
  { what: 'COMPUTE int32', of: 'normalise', spoil: u8(0x0c, 3), ends: 'INVALID_TYPE 12' },
  { what: 'rank 0', of: 'elementwise', spoil: u8(0x08, 0), ends: 'INVALID_PARAM 8' },
  { what: 'rank 9', of: 'elementwise', spoil: u8(0x08, 9), ends: 'INVALID_PARAM 8' },
  {
    what: 'more inner dimensions than dimensions',
    of: 'normalise',
    spoil: u8(0x09, 4),
    ends: 'INVALID_PARAM 9',
  },
  { what: 'inner dimensions', of: 'elementwise', spoil: u8(0x09, 1), ends: 'INVALID_PARAM 9' },
  { what: 'two inner dimensions', of: 'scan', spoil: u8(0x09, 2), ends: 'INVALID_PARAM 9' },
  { what: 'an unknown function', of: 'reduce', spoil: u8(0x0a, 12), ends: 'INVALID_PARAM 10' },
  { what: 'an unknown function', of: 'resample', spoil: u8(0x0a, 2), ends: 'INVALID_PARAM 10' },
  {
    what: 'a mean of integers',
    of: 'reduce',
    spoil: both(u8(4, 3), u8(0x0c, 3), u8(0x0a, 1)),
    ends: 'INVALID_PARAM 10',
  },
  { what: 'a flag', of: 'elementwise', spoil: u8(0x0b, 1), ends: 'INVALID_PARAM 11' },
  { what: 'an unknown flag', of: 'scan', spoil: u8(0x0b, 2), ends: 'INVALID_PARAM 11' },
  { what: 'nine stages', of: 'elementwise', spoil: u8(0x0d, 9), ends: 'INVALID_PARAM 13' },
  { what: 'stages on what is moved', of: 'gather', spoil: u8(0x0d, 1), ends: 'INVALID_PARAM 13' },
  { what: 'a reserved half word', of: 'scan', spoil: u8(0x0f, 1), ends: 'INVALID_PARAM 14' },
  { what: 'a dimension 0', of: 'reduce', spoil: i32(0x14, 0), ends: 'INVALID_PARAM 20' },
  { what: 'a dimension beyond 2^26', of: 'reduce', spoil: i32(0x10, 2 ** 26 + 1), ends: 'INVALID_PARAM 16' },
  { what: 'a dimension beyond the rank', of: 'scan', spoil: i32(0x1c, 1), ends: 'INVALID_PARAM 28' },
  { what: 'a stride beyond the rank', of: 'scan', spoil: i32(0x3c, 1), ends: 'INVALID_PARAM 60' },
  { what: 'strides of no C', of: 'normalise', spoil: i32(0x70, 1), ends: 'INVALID_PARAM 112' },
  { what: 'a stride 0 of D', of: 'elementwise', spoil: i32(0x90, 0), ends: 'INVALID_PARAM 144' },
  {
    what: 'a stride of D where it is reduced',
    of: 'contract',
    spoil: i32(0x98, 1),
    ends: 'INVALID_PARAM 152',
  },
  { what: 'a window beyond MAX_DIM', of: 'contract', spoil: i32(0xb0, 65536), ends: 'INVALID_PARAM 176' },
  { what: 'a window that is placed inside', of: 'contract', spoil: u8(0xb4, 2), ends: 'INVALID_PARAM 180' },
  { what: 'the inside of a window outside', of: 'contract', spoil: u8(0xb5, 1), ends: 'INVALID_PARAM 181' },
  { what: 'a window that stands still', of: 'contract', spoil: i32(0xb8, 0), ends: 'INVALID_PARAM 184' },
  { what: 'a window without dilation', of: 'contract', spoil: i32(0xbc, 0), ends: 'INVALID_PARAM 188' },
  { what: 'padding beyond MAX_DIM', of: 'contract', spoil: i32(0xc0, 65536), ends: 'INVALID_PARAM 192' },
  { what: 'a field of no window', of: 'contract', spoil: i32(0xcc, 1), ends: 'INVALID_PARAM 204' },
  { what: 'a stride of A inside of a window', of: 'contract', spoil: i32(0x38, 1), ends: 'INVALID_PARAM 56' },
  { what: 'no axes', of: 'gather', spoil: u8(0xb0, 0), ends: 'INVALID_PARAM 176' },
  { what: 'five axes', of: 'scatter', spoil: u8(0xb0, 5), ends: 'INVALID_PARAM 176' },
  { what: 'an axis of nothing', of: 'gather', spoil: i32(0xb8, 0), ends: 'INVALID_PARAM 184' },
  { what: 'an axis beyond AXES', of: 'gather', spoil: i32(0xbc, 1), ends: 'INVALID_PARAM 188' },
  { what: 'a dimension beyond the rank', of: 'resample', spoil: u8(0xb0, 3), ends: 'INVALID_PARAM 176' },
  { what: 'one dimension twice', of: 'resample', spoil: u8(0xb1, 0), ends: 'INVALID_PARAM 177' },
  { what: 'a size 0', of: 'resample', spoil: i32(0xb4, 0), ends: 'INVALID_PARAM 180' },
  {
    what: 'an unknown function of a stage',
    of: 'elementwise',
    spoil: u8(0xe0, 0x1e),
    ends: 'INVALID_PARAM 224',
  },
  {
    what: 'a function that integers do not have',
    of: 'elementwise',
    spoil: both(u8(4, 3), u8(0x0c, 3), u8(0xe0, 0x0a)),
    ends: 'INVALID_PARAM 224',
  },
  { what: 'an argument from nowhere', of: 'elementwise', spoil: u8(0xe1, 6), ends: 'INVALID_PARAM 225' },
  { what: 'an index beyond the rank', of: 'elementwise', spoil: u8(0xe2, 11), ends: 'INVALID_PARAM 226' },
  { what: 'an operand that is not there', of: 'elementwise', spoil: u8(0xe2, 3), ends: 'INVALID_PARAM 226' },
  { what: 'an argument too many', of: 'elementwise', spoil: u8(0xe3, 4), ends: 'INVALID_PARAM 227' },
  { what: 'a reserved word of a stage', of: 'elementwise', spoil: i32(0xec, 1), ends: 'INVALID_PARAM 236' },
  { what: 'a stage beyond STAGES', of: 'elementwise', spoil: u8(0xf0, 1), ends: 'INVALID_PARAM 240' },
  { what: 'A with too many elements', of: 'elementwise', spoil: i32(0x30, 2 ** 26), ends: 'LIMIT 1' },
  { what: 'B with too many elements', of: 'contract', spoil: i32(0x50, -(2 ** 26)), ends: 'LIMIT 2' },
  { what: 'an axis with too many elements', of: 'gather', spoil: i32(0xc8, 2 ** 26), ends: 'LIMIT 1' },
  { what: 'D with too many elements', of: 'elementwise', spoil: i32(0x94, 2 ** 26), ends: 'LIMIT 4' },
  {
    what: 'too many indices',
    of: 'reduce',
    spoil: both(i32(0x14, 2 ** 17), i32(0x18, 2 ** 16), i32(0x30, 0), i32(0x34, 0), i32(0x38, 0)),
    ends: 'LIMIT 0',
  },
  { what: 'a negative epsilon', of: 'normalise', spoil: f32(0xb0, -1), ends: 'ARITHMETIC 176' },
  {
    what: 'an epsilon that is no number',
    of: 'normalise',
    spoil: f32(0xb0, Number.NaN),
    ends: 'ARITHMETIC 176',
  },
  { what: 'a scale 0', of: 'resample', spoil: f32(0xbc, 0), ends: 'ARITHMETIC 188' },
  {
    what: 'a scale without end',
    of: 'resample',
    spoil: f32(0xc0, Number.POSITIVE_INFINITY),
    ends: 'ARITHMETIC 192',
  },
  { what: 'A not aligned', of: 'elementwise', spoil: move(2, 2), ends: 'MISALIGNED 1' },
  { what: 'indices not aligned', of: 'gather', spoil: move(4, 1), ends: 'MISALIGNED 2' },
  { what: 'D not aligned', of: 'scan', spoil: move(8, 2), ends: 'MISALIGNED 4' },
  { what: 'A outside', of: 'elementwise', spoil: word(3, 0x7f), ends: 'WINDOW_READ 1' },
  { what: 'B outside', of: 'contract', spoil: word(5, 0x7f), ends: 'WINDOW_READ 2' },
  { what: 'D outside', of: 'scatter', spoil: word(9, 0x7f), ends: 'WINDOW_WRITE 4' },
  {
    what: 'elements before the begin of all memory',
    of: 'elementwise',
    spoil: both(word(2, 4), word(3, 0), i32(0x30, -1), i32(0x34, -2)),
    ends: 'WINDOW_READ 1',
  },
]

const DIMS = [2, 2, 3] as const

/** A correct step of each kind. */
function stepOf(op: Op, context: NpuContext): AnyTensorStep {
  const view = (strides: readonly number[], type: TensorType = 'float32'): View => ({
    at: { buffer: context.allocate(256) },
    type,
    strides,
  })
  const dense = [6, 3, 1]
  const common = { dims: DIMS, compute: 'float32', a: view(dense), d: view(dense) } as const
  const reduced = { ...common, d: view([2, 1, 0]), inner: 1 }
  const indexed = {
    ...common,
    compute: 'none',
    b: view([0, 0, 1], 'int32'),
    indices: { stride: 0, axes: [{ size: 3, stride: 1 }] },
  } as const
  switch (op) {
    case 'elementwise':
      return { op, ...common, b: view([0, 0, 1]), stages: [{ fn: 'add', x: 'a', y: 'b' }] }
    case 'contract': {
      const window = { size: 4, out: 1, kernel: 2, stride: 1, dilation: 1, pad: 0 }
      return { op, ...reduced, a: view([4, 1, 0]), b: view([0, 0, 1]), windows: [window] }
    }
    case 'reduce':
      return { op, ...reduced, fn: 'sum' }
    case 'normalise':
      return { op, ...common, fn: 'standardise', inner: 1, epsilon: 1 }
    case 'scan':
      return { op, ...common }
    case 'gather':
    case 'scatter':
      return { op, ...indexed }
    case 'resample': {
      const axis = (dimension: number) => ({ dimension, size: 2, scale: 1 })
      return { op, ...common, fn: 'linear', axes: [axis(0), axis(1)] }
    }
  }
}

/** What the driver refuses before it reaches the device. */
const refused: readonly (readonly [what: string, code: string, change: (step: AnyTensorStep) => unknown])[] =
  [
    ['no dimensions', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, dims: [] })],
    ['nine dimensions', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, dims: Array(9).fill(1) })],
    ['a dimension 0', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, dims: [2, 0, 3] })],
    [
      'a dimension that no field holds',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, dims: [2, 2 ** 32, 3] }),
    ],
    [
      'strides of another rank',
      'ERR_ACCEL_INVALID_SHAPE',
      (step) => ({ ...step, a: { ...step.a, strides: [1] } }),
    ],
    [
      'a stride of 2^31',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, a: { ...step.a, strides: [2 ** 31, 1, 1] } }),
    ],
    [
      'a half stride',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, d: { ...step.d, strides: [6, 0.5, 1] } }),
    ],
    [
      'an unknown type',
      'ERR_ACCEL_INVALID_ARGUMENT',
      (step) => ({ ...step, a: { ...step.a, type: 'toString' } }),
    ],
    ['an unknown compute', 'ERR_ACCEL_INVALID_ARGUMENT', (step) => ({ ...step, compute: 'int8' })],
    ['nine stages', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, stages: Array(9).fill({ fn: 'abs' }) })],
    ['an unknown function', 'ERR_ACCEL_INVALID_ARGUMENT', (step) => ({ ...step, stages: [{ fn: 'cosh' }] })],
    ['no y', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, stages: [{ fn: 'add' }] })],
    ['a y too many', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, stages: [{ fn: 'abs', y: 'a' }] })],
    ['no z', 'ERR_ACCEL_INVALID_SHAPE', (step) => ({ ...step, stages: [{ fn: 'select', y: 'a' }] })],
    [
      'an unknown source',
      'ERR_ACCEL_INVALID_ARGUMENT',
      (step) => ({ ...step, stages: [{ fn: 'abs', x: 'd' }] }),
    ],
    [
      'an index beyond',
      'ERR_ACCEL_INVALID_SHAPE',
      (step) => ({ ...step, stages: [{ fn: 'abs', x: { index: 3 } }] }),
    ],
    [
      'half an integer',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, compute: 'int32', stages: [{ fn: 'clamp', alpha: 0.5 }] }),
    ],
    [
      'a negative one without sign',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, compute: 'uint32', stages: [{ fn: 'clamp', alpha: -1 }] }),
    ],
    [
      'a tensor that ends behind its buffer',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, a: { ...step.a, strides: [59, 3, 1] } }),
    ],
    [
      'a tensor that begins before its buffer',
      'ERR_ACCEL_OUT_OF_RANGE',
      (step) => ({ ...step, a: { ...step.a, strides: [6, -3, 1] } }),
    ],
  ]
const refusedOf: readonly (readonly [op: Op, what: string, change: object])[] = [
  ['contract', 'more inner dimensions than dimensions', { inner: 4 }],
  [
    'contract',
    'three windows',
    { windows: Array(3).fill({ size: 1, out: 0, kernel: 2, stride: 1, dilation: 1, pad: 0 }) },
  ],
  [
    'contract',
    'a window of nothing',
    { windows: [{ size: 0, out: 0, kernel: 2, stride: 1, dilation: 1, pad: 0 }] },
  ],
  [
    'reduce',
    'a window of no dimension',
    { windows: [{ size: 1, out: 3, kernel: 2, stride: 1, dilation: 1, pad: 0 }] },
  ],
  ['gather', 'no axes', { indices: { stride: 0, axes: [] } }],
  ['scatter', 'five axes', { indices: { stride: 0, axes: Array(5).fill({ size: 1, stride: 1 }) } }],
  ['gather', 'an axis of nothing', { indices: { stride: 0, axes: [{ size: 0, stride: 1 }] } }],
]

/** Refusals of the device, by status and detail, and those of the driver. */
export function tensorErrorCases(t: Test, withNpu: WithNpu): void {
  t.test('error completions of tensor blocks', (t) => refusals(t, withNpu, list, stepOf))

  t.test('an operation that the device has not is told as such', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const job = context.encode([stepOf('elementwise', context)])
      job.words[0] = (job.words[0] & ~0xff) | 0x3f
      const error = await context.run(job).catch((error: unknown) => error)
      t.ok(isAccelError(error, 'ERR_ACCEL_UNSUPPORTED') && /version 1\.1/.test(error.message), String(error))
    }),
  )

  t.test('what the driver refuses of a step on tensors with strides', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const encode = (step: unknown) => () => context.encode([step as AnyTensorStep])
      for (const [what, code, change] of refused) {
        t.throws(encode(change(stepOf('elementwise', context))), { code }, what)
      }
      for (const [op, what, change] of refusedOf) {
        const step = { ...stepOf(op, context), ...change }
        t.throws(encode(step), { code: 'ERR_ACCEL_INVALID_SHAPE' }, `${op}: ${what}`)
      }
    }),
  )

  t.test('a tensor that is reversed lies before its place, where a patch looks for it, too', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const [one, two, to] = [1, 2, 3].map(() => context.allocate(16))
      one.u32.set([1, 2, 3, 4])
      two.u32.set([5, 6, 7, 8])
      const place = (buffer: typeof one, offset: number) => ({ buffer, offset })
      const job = context.encode([
        {
          op: 'elementwise',
          dims: [4],
          compute: 'none',
          a: { at: place(one, 12), type: 'uint32', strides: [-1] },
          d: { at: place(to, 0), type: 'uint32', strides: [1] },
        },
      ])
      await context.run(job)
      t.strictSame([...to.u32], [4, 3, 2, 1])
      t.throws(() => job.patch(0, 'a', place(two, 8)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      t.throws(() => job.patch(0, 'a', place(two, 16)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      t.throws(() => job.patch(0, 'd', place(two, 4)), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      await context.run(job)
      job.patch(0, 'a', place(two, 12))
      await context.run(job)
      t.strictSame([...to.u32], [8, 7, 6, 5])
    }),
  )
}
