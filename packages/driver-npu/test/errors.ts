import type { Test } from 'tap'
import type { NpuContext } from '../src/context.js'
import type { NpuJob, Step } from '../src/driver.js'
import { channelTable } from '../src/operations.js'
import { openWindow } from '../src/queue-control.js'
import { endOf, type WithNpu } from './contract.js'

/** Changes a job behind the driver's back: `words` are those of its only descriptor, `block` its parameter block. */
export type Spoil = (words: Int32Array, block: DataView) => void

export interface ErrorCase<Of extends string> {
  readonly what: string
  readonly of: Of
  readonly spoil: Spoil
  /** Name and detail, from docs/devices/npu.md, 10.1. */
  readonly ends: string
}

const u16 =
  (offset: number, value: number): Spoil =>
  (_, block) =>
    block.setUint16(offset, value, true)
export const u8 =
  (offset: number, value: number): Spoil =>
  (_, block) =>
    block.setUint8(offset, value)
export const i32 =
  (offset: number, value: number): Spoil =>
  (_, block) =>
    block.setInt32(offset, value, true)
export const f32 =
  (offset: number, value: number): Spoil =>
  (_, block) =>
    block.setFloat32(offset, value, true)
export const word =
  (index: number, value: number): Spoil =>
  (words) => {
    words[index] = value
  }
const flags =
  (bits: number): Spoil =>
  (words) => {
    words[0] |= bits << 8
  }
/** Moves an address (2: A, 4: B, 6: C, 8: D, 10: P). */
export const move =
  (index: number, by: number): Spoil =>
  (words) => {
    words[index] += by
  }
export const both =
  (...all: Spoil[]): Spoil =>
  (words, block) => {
    for (const spoil of all) spoil(words, block)
  }

type Dense = 'conv2d' | 'matmul' | 'pool' | 'add' | 'requantise' | 'copy' | 'nop'

const list: readonly ErrorCase<Dense>[] = [
  { what: 'unknown opcode', of: 'nop', spoil: word(0, 0x03), ends: 'INVALID_OPCODE 3' },
  { what: 'opcode beyond the bitmap', of: 'nop', spoil: word(0, 0x7f), ends: 'INVALID_OPCODE 127' },
  { what: 'reserved flag', of: 'nop', spoil: flags(0x08), ends: 'INVALID_FIELD 0' },
  { what: 'fence and unordered', of: 'nop', spoil: flags(0x03), ends: 'INVALID_FIELD 0' },
  { what: 'reserved half of DW1', of: 'nop', spoil: word(1, 0x10000), ends: 'INVALID_FIELD 4' },
  { what: 'reserved DW14', of: 'copy', spoil: word(14, 1), ends: 'INVALID_FIELD 56' },
  { what: 'address that the operation lacks', of: 'copy', spoil: word(4, 64), ends: 'INVALID_FIELD 16' },
  { what: 'length that the operation lacks', of: 'conv2d', spoil: word(12, 1), ends: 'INVALID_FIELD 48' },
  {
    what: 'parameter block where there is none',
    of: 'copy',
    spoil: word(1, 48),
    ends: 'INVALID_PARAM_SIZE 48',
  },
  { what: 'wrong PARAM_SIZE', of: 'conv2d', spoil: word(1, 48), ends: 'INVALID_PARAM_SIZE 48' },
  { what: 'wrong SIZE in the block', of: 'conv2d', spoil: u16(2, 48), ends: 'INVALID_PARAM_SIZE 48' },
  { what: 'unknown version', of: 'matmul', spoil: u16(0, 2), ends: 'INVALID_VERSION 2' },
  { what: 'type of an input', of: 'conv2d', spoil: u8(4, 3), ends: 'INVALID_TYPE 4' },
  { what: 'reserved float type', of: 'matmul', spoil: u8(6, 4), ends: 'INVALID_TYPE 6' },
  { what: 'pooling into int32', of: 'pool', spoil: u8(4, 3), ends: 'INVALID_TYPE 4' },
  { what: 'requantising into int32', of: 'requantise', spoil: u8(6, 3), ends: 'INVALID_TYPE 6' },
  { what: 'dimension 0', of: 'conv2d', spoil: i32(0x20, 0), ends: 'INVALID_PARAM 32' },
  { what: 'dimension beyond MAX_DIM', of: 'matmul', spoil: i32(0x24, 0x10000), ends: 'INVALID_PARAM 36' },
  { what: 'negative pad', of: 'conv2d', spoil: i32(0x4c, -1), ends: 'INVALID_PARAM 76' },
  { what: 'groups that do not divide', of: 'conv2d', spoil: i32(0x30, 3), ends: 'INVALID_PARAM 48' },
  { what: 'kernel higher than the input', of: 'conv2d', spoil: i32(0x34, 9), ends: 'INVALID_PARAM 52' },
  { what: 'kernel wider than the input', of: 'pool', spoil: i32(0x30, 9), ends: 'INVALID_PARAM 48' },
  { what: 'reserved byte', of: 'conv2d', spoil: u8(7, 1), ends: 'INVALID_PARAM 7' },
  { what: 'reserved word', of: 'add', spoil: i32(0x2c, 1), ends: 'INVALID_PARAM 44' },
  { what: 'unknown pooling mode', of: 'pool', spoil: u8(5, 2), ends: 'INVALID_PARAM 5' },
  { what: 'zero point of a maximum', of: 'pool', spoil: i32(0x08, 1), ends: 'INVALID_PARAM 8' },
  { what: 'unknown matmul flag', of: 'matmul', spoil: u8(7, 4), ends: 'INVALID_PARAM 7' },
  { what: 'no bytes to copy', of: 'copy', spoil: word(12, 0), ends: 'LIMIT 48' },
  { what: 'too many bytes to copy', of: 'copy', spoil: word(12, 2 ** 26 + 1), ends: 'LIMIT 48' },
  {
    what: 'input with too many elements',
    of: 'conv2d',
    spoil: both(i32(0x24, 65535), i32(0x28, 65535)),
    ends: 'LIMIT 1',
  },
  {
    what: 'second input with too many elements',
    of: 'matmul',
    spoil: both(i32(0x24, 9000), i32(0x28, 9000)),
    ends: 'LIMIT 2',
  },
  {
    what: 'output with too many elements',
    of: 'matmul',
    spoil: both(i32(0x20, 9000), i32(0x24, 1), i32(0x28, 9000)),
    ends: 'LIMIT 4',
  },
  {
    what: 'too many multiply-accumulates',
    of: 'matmul',
    spoil: both(i32(0x20, 2000), i32(0x24, 2000), i32(0x28, 2000)),
    ends: 'LIMIT 0',
  },
  { what: 'parameter block not aligned', of: 'conv2d', spoil: move(10, 8), ends: 'MISALIGNED 5' },
  { what: 'channel table not aligned', of: 'conv2d', spoil: move(6, 4), ends: 'MISALIGNED 3' },
  {
    what: 'int32 output not aligned',
    of: 'matmul',
    spoil: both(u8(6, 3), i32(0x10, 0), move(8, 2)),
    ends: 'MISALIGNED 4',
  },
  { what: 'parameter block outside', of: 'conv2d', spoil: word(11, 0x7f), ends: 'WINDOW_READ 5' },
  { what: 'first input outside', of: 'conv2d', spoil: word(3, 0x7f), ends: 'WINDOW_READ 1' },
  { what: 'second input outside', of: 'matmul', spoil: word(5, 0x7f), ends: 'WINDOW_READ 2' },
  { what: 'channel table outside', of: 'matmul', spoil: word(7, 0x7f), ends: 'WINDOW_READ 3' },
  { what: 'destination outside', of: 'copy', spoil: word(9, 0x7f), ends: 'WINDOW_WRITE 4' },
  { what: 'address that wraps', of: 'copy', spoil: both(word(2, -8), word(3, -1)), ends: 'WINDOW_READ 1' },
  { what: 'zero point out of range', of: 'conv2d', spoil: i32(0x08, 256), ends: 'ARITHMETIC 8' },
  {
    what: 'zero point of an int32 output',
    of: 'matmul',
    spoil: both(u8(6, 3), i32(0x10, 1)),
    ends: 'ARITHMETIC 16',
  },
  { what: 'clamp out of range', of: 'add', spoil: i32(0x18, 256), ends: 'ARITHMETIC 24' },
  { what: 'clamp upside down', of: 'pool', spoil: both(i32(0x10, 9), i32(0x14, 8)), ends: 'ARITHMETIC 16' },
  { what: 'scale 0', of: 'add', spoil: f32(0x20, 0), ends: 'ARITHMETIC 32' },
  { what: 'scale infinite', of: 'add', spoil: f32(0x24, Number.POSITIVE_INFINITY), ends: 'ARITHMETIC 36' },
  { what: 'test: internal error', of: 'nop', spoil: word(0, 0xc2 | 0x400), ends: 'INTERNAL 0' },
]

/** A correct step of each kind, all on small tensors in one buffer. */
function stepOf(kind: Dense, context: NpuContext): Step {
  const at = (bytes: Uint8Array) => ({ buffer: context.allocateFrom(bytes) })
  const tensor = (size: number) => ({ at: at(new Uint8Array(size)), type: 'uint8', zero: 0 }) as const
  const channels = (count: number) => at(channelTable(new Array(count).fill(0), new Array(count).fill(1)))
  const window = { shape: [1, 2, 4, 4], kernel: [3, 3] } as const
  switch (kind) {
    case 'conv2d':
      return {
        op: 'conv2d',
        ...window,
        o: 2,
        x: tensor(32),
        w: tensor(36),
        channels: channels(2),
        y: tensor(8),
      }
    case 'matmul':
      return {
        op: 'matmul',
        m: 2,
        k: 3,
        n: 2,
        a: tensor(6),
        b: tensor(6),
        channels: at(channelTable([0, 0], [0, 0])),
        y: tensor(16),
      }
    case 'pool':
      return { op: 'pool', ...window, mode: 'max', x: tensor(32), y: tensor(8) }
    case 'add':
      return {
        op: 'add',
        length: 4,
        a: { ...tensor(4), scale: 1 },
        b: { ...tensor(4), scale: 1 },
        y: { ...tensor(4), scale: 1 },
      }
    case 'requantise':
      return { op: 'requantise', shape: [1, 2, 2], x: tensor(4), channels: channels(2), y: tensor(4) }
    case 'copy':
      return { op: 'copy', x: at(new Uint8Array(16)), y: at(new Uint8Array(16)), length: 16 }
    case 'nop':
      return { op: 'nop' }
  }
}

/** The parameter block of a job with one step; without one, bytes that nobody reads. */
function blockOf(job: NpuJob): DataView {
  const bytes = job.blocks?.u8 ?? new Uint8Array(96)
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Each step works, and then ends as it is said to; the queue goes on after each. */
export function refusals<Of extends string>(
  t: Test,
  withNpu: WithNpu,
  list: readonly ErrorCase<Of>[],
  stepOf: (of: Of, context: NpuContext) => Step,
): Promise<void> {
  return withNpu(async ({ npu }) => {
    const context = await npu.createContext()
    // A device that is not reset between two programs counts on.
    const before = npu.counters().errors
    for (const { what, of, spoil, ends } of list) {
      const job = context.encode([stepOf(of, context)])
      t.equal(await endOf(context.run(job)), 'SUCCESS', `${of} works before: ${what}`)
      spoil(job.words, blockOf(job))
      t.equal(await endOf(context.run(job)), ends, `${of}: ${what}`)
    }
    t.equal(npu.counters().errors - before, list.length)
  })
}

/** Error completions: section 10.1, each with its detail. */
export function errorCases(t: Test, withNpu: WithNpu): void {
  t.test('error completions', (t) => refusals(t, withNpu, list, stepOf))

  t.test('multipliers of a channel table', (t) =>
    withNpu(async ({ npu }) => {
      const context = await npu.createContext()
      const tensor = { at: { buffer: context.allocate(64) }, type: 'uint8' } as const
      for (const bad of [-1, -0, Number.NaN, Number.POSITIVE_INFINITY]) {
        const channels = { buffer: context.allocateFrom(channelTable([0, 0, 0], [1, 1, bad])) }
        const job = context.encode([{ op: 'requantise', shape: [1, 3, 2], x: tensor, channels, y: tensor }])
        t.equal(await endOf(context.run(job)), `ARITHMETIC ${0x80000002}`, `${bad}`)
      }
    }),
  )

  t.test('memory that the card does not have', (t) =>
    withNpu(async ({ npu, device }) => {
      const context = await npu.createContext()
      const { bar, queue } = await rawQueue(device, context)
      // A window that ends beyond the on-card memory: the bus, not the window, refuses.
      const base = (BigInt(bar.LMEM_BASE_HI.read()) << 32n) | BigInt(bar.LMEM_BASE_LO.read())
      const beyond = base + BigInt(npu.capabilities.cardBytes)
      openWindow(queue.WINDOW[6], { first: base, last: beyond + 0xffffn })
      const job = context.encode([stepOf('copy', context)])
      const point = (index: number) => {
        job.words[index] = Number(beyond & 0xffffffffn)
        job.words[index + 1] = Number(beyond >> 32n)
      }
      const source = job.words.slice(2, 4)
      point(2)
      t.equal(await endOf(context.run(job)), 'DMA_READ 1')
      job.words.set(source, 2)
      point(8)
      t.equal(await endOf(context.run(job)), 'DMA_WRITE 4')
      t.equal(queue.QSTS.get().state, 'running')
    }),
  )

  t.test('a queue reaches its own windows only', (t) =>
    withNpu(async ({ npu, device }) => {
      const [mine, other] = [await npu.createContext(), await npu.createContext()]
      const secret = other.allocate(64)
      secret.u8.fill(0x77)
      const own = mine.allocate(64)
      const job = mine.encode([{ op: 'copy', x: { buffer: own }, y: { buffer: own }, length: 64 }])
      t.throws(() => job.patch(0, 'a', { buffer: secret }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
      const point = (index: number) => {
        job.words[index] = Number(secret.address & 0xffffffffn)
        job.words[index + 1] = Number(secret.address >> 32n)
      }
      const before = job.words.slice()
      point(2)
      t.equal(await endOf(mine.run(job)), 'WINDOW_READ 1')
      job.words.set(before)
      point(8)
      t.equal(await endOf(mine.run(job)), 'WINDOW_WRITE 4')
      t.ok(
        secret.u8.every((byte) => byte === 0x77),
        'nothing was written',
      )
      t.ok(
        own.u8.every((byte) => byte === 0),
        'nothing was read',
      )
      // The same range, read only: a copy out of it works, one into it does not.
      const range = { first: secret.address, last: secret.address + 63n }
      const { queue } = await rawQueue(device, mine)
      openWindow(queue.WINDOW[6], { ...range, access: 'read' })
      t.equal(await endOf(mine.run(job)), 'WINDOW_WRITE 4')
      job.words.set(before)
      point(2)
      t.equal(await endOf(mine.run(job)), 'SUCCESS')
      openWindow(queue.WINDOW[6])
      t.equal(await endOf(mine.run(job)), 'WINDOW_READ 1')
    }),
  )
}

/** The registers of a context's queue, past the driver. */
async function rawQueue(device: import('@uaccel/core').Device, context: NpuContext) {
  const { NpuRegisters } = await import('../src/registers.js')
  const bar = await device.mapBar(0, NpuRegisters)
  return { bar, queue: bar.QUEUE[context.queue.index] }
}
