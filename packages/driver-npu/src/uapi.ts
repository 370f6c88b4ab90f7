import {
  accelError,
  bool,
  bytes,
  cmd,
  enumeration,
  flags,
  string,
  struct,
  structCodec,
  u32,
  u64,
  uapi,
} from '@uaccel/uapi'
import {
  type ByPlace,
  encodeStep,
  type JobStep,
  opcodes,
  type Place,
  type Range,
  type Step,
} from './operations.js'

export { channelTable, type JobStep } from './operations.js'

/** Commands of the NPU driver. Jobs go through the SUBMIT of all drivers, with a payload that {@link encodeJob} makes. */
export const npuUapi = uapi({
  name: 'npu',
  version: 2,
  commands: {
    identify: cmd(0x40, {
      doc: 'What the device can do; the fields are those of its capability registers.',
      out: {
        version: string(16),
        queues: u32,
        windows: u32,
        minRingEntries: u32,
        maxRingEntries: u32,
        maxDimension: u32,
        maxElements: u64,
        maxMacs: u64,
        opcodes: u64,
        dataTypes: u32,
        clockKhz: u32,
        cardBytes: u64,
        readyTimeoutMs: u32,
      },
      concurrent: true,
    }),
    counters: cmd(0x41, {
      doc: 'The performance counters as of one moment; `clear` sets them to 0 after they were read.',
      in: { clear: bool },
      out: { cyclesBusy: u64, descriptors: u64, errors: u64, bytesRead: u64, bytesWritten: u64, macs: u64 },
    }),
    reset: cmd(0x42, {
      doc: 'Resets the controller. Jobs under way end with an error; contexts and their memory stay.',
    }),
  },
})

/** An operand: `buffer` is its place in the list of the job, counted from 1, and 0 none; `offset` is in bytes within that range. */
const operand = struct({ buffer: u32, offset: u64 })
const BLOCK_BYTES = 96

/**
 * One step of a job: a descriptor (docs/devices/npu.md, 7.1) that names buffers in place of addresses, with its parameter block.
 * A payload is one such structure after another.
 */
export const npuStep = structCodec(
  {
    opcode: enumeration(opcodes),
    order: flags({ fence: 0, unordered: 1 }),
    a: operand,
    b: operand,
    c: operand,
    d: operand,
    length: u32,
    pattern: u32,
    block: bytes(BLOCK_BYTES),
  },
  'npu.step',
)

const names = new Map<number, keyof typeof opcodes>(
  Object.entries(opcodes).map(([name, number]) => [number, name as keyof typeof opcodes]),
)
/** Puts steps into a payload for SUBMIT. Errors: `ERR_ACCEL_OUT_OF_RANGE` and `ERR_ACCEL_INVALID_SHAPE` for a step that cannot be. */
export function encodeJob(steps: readonly JobStep[]): Uint8Array {
  const { sizeBytes } = npuStep.layout
  const payload = new Uint8Array(sizeBytes * steps.length)
  for (const [i, step] of steps.entries()) {
    // Only carries the places of a step on, whatever their buffers are.
    const { opcode, ranges, length, pattern, block } = encodeStep(step as unknown as Step)
    const [a, b, c, d] = [0, 1, 2, 3].map((slot) => operandOf(ranges[slot]))
    const { fence = false, unordered = false } = step
    const encoded = npuStep.encode({
      opcode: names.get(opcode)!,
      order: { fence, unordered },
      a: a!,
      b: b!,
      c: c!,
      d: d!,
      length,
      pattern: pattern >>> 0,
      block: block ?? new Uint8Array(),
    })
    payload.set(encoded, sizeBytes * i)
  }
  return payload
}

function operandOf(range: Range | undefined) {
  if (range === undefined) return { buffer: 0, offset: 0n }
  const { buffer, offset = 0 } = range.at as unknown as ByPlace<Place>
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `An operand of an NPU step wants an offset in bytes, found ${offset}`,
    )
  }
  return { buffer: buffer + 1, offset: BigInt(offset) }
}
