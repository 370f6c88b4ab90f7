import {
  accelError,
  array,
  bool,
  bytes,
  cmd,
  doc,
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
import { type AnyTensorStep, TENSOR_BLOCK_BYTES, tensorOpcodes } from './tensor-steps.js'

export { channelTable, type JobStep } from './operations.js'

/** Commands of the NPU driver. Jobs go through the SUBMIT of all drivers, with a payload that {@link encodeJob} makes. */
export const npuUapi = uapi({
  name: 'npu',
  version: 3,
  commands: {
    identify: cmd(0x40, {
      doc: 'What the device can do; the fields are those of its capability registers.',
      out: {
        version: doc('Version of the specification: major.minor.patch.', string(16)),
        queues: doc('Queues of the device.', u32),
        windows: doc('Windows of each queue.', u32),
        minRingEntries: doc('Entries of the smallest ring.', u32),
        maxRingEntries: doc('Entries of the largest ring.', u32),
        maxDimension: doc('The largest dimension, kernel size, stride, dilation and pad.', u32),
        maxElements: doc('Elements that one tensor may have at most.', u64),
        maxMacs: doc('Multiply-accumulates that one descriptor may take at most.', u64),
        opcodes: doc('Bit n is set where the device has opcode n.', u64),
        dataTypes: doc('Bit n is set where the device has data type n.', u32),
        clockKhz: doc('Rate of the cycles that are counted.', u32),
        cardBytes: doc('Memory on the card.', u64),
        readyTimeoutMs: doc('The longest time that the controller takes to start or to stop.', u32),
      },
      concurrent: true,
    }),
    counters: cmd(0x41, {
      doc: 'The performance counters as of one moment; `clear` sets them to 0 after they were read.',
      in: { clear: doc('Whether to start again from 0.', bool) },
      out: {
        cyclesBusy: doc('Cycles in which at least one descriptor was being executed.', u64),
        descriptors: doc('Completions posted.', u64),
        errors: doc('Of these, with a status other than success.', u64),
        bytesRead: doc('Bytes of tensors, tables and parameter blocks read.', u64),
        bytesWritten: doc('Bytes of tensors written.', u64),
        macs: doc('Multiply-accumulates done.', u64),
      },
    }),
    reset: cmd(0x42, {
      doc: 'Resets the controller. Jobs under way end with an error; contexts and their memory stay.',
    }),
  },
})

/** An operand: `buffer` is its place in the list of the job, counted from 1, and 0 none; `offset` is in bytes within that range. */
const operand = struct({ buffer: u32, offset: u64 })
/** The largest parameter block of the opcodes below 0x20 (9). */
const BLOCK_BYTES = 96

/**
 * One step of a job: a descriptor (docs/devices/npu.md, 7.1) that names buffers in place of addresses, with its parameter block.
 * A payload is one such structure after another, or {@link npuTensorStep} where the opcode is one of those.
 */
export const npuStep = structCodec(fieldsOf(opcodes, BLOCK_BYTES), 'npu.step')

/** As {@link npuStep}, with room for a tensor block (7.6): a step whose opcode is 0x20 to 0x27. Since version 3. */
export const npuTensorStep = structCodec(
  // An enumeration wants a name for 0, which no step of this layout has.
  fieldsOf({ nop: opcodes.nop, ...tensorOpcodes }, TENSOR_BLOCK_BYTES),
  'npu.tensorStep',
)

function fieldsOf<N extends string>(opcodes: Readonly<Record<N, number>>, blockBytes: number) {
  return {
    opcode: enumeration(opcodes),
    order: flags({ fence: 0, unordered: 1 }),
    a: operand,
    b: operand,
    c: operand,
    d: operand,
    length: u32,
    pattern: u32,
    block: bytes(blockBytes),
  }
}

/** A step of a payload: {@link npuStep} or {@link npuTensorStep}, its opcode as a number. */
export type PayloadStep = Omit<ReturnType<typeof npuStep.decode>, 'opcode'> & {
  readonly opcode: number
  readonly name: string
}

/**
 * Takes the payload of a SUBMIT apart.
 * Errors: `ERR_ACCEL_BAD_SIZE` for none, and for one that ends within a step; those of the codecs.
 */
export function decodeJob(payload: Uint8Array): PayloadStep[] {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
  const steps: PayloadStep[] = []
  let at = 0
  do {
    const left = payload.length - at
    const tensor = left >= OPCODE_BYTES && ofTensors.has(view.getUint32(at, true))
    const { sizeBytes } = (tensor ? npuTensorStep : npuStep).layout
    if (left < sizeBytes) {
      throw accelError(
        'ERR_ACCEL_BAD_SIZE',
        `Step ${steps.length} of the payload of an NPU job wants ${sizeBytes} bytes, found ${left}`,
      )
    }
    const bytes = payload.subarray(at, at + sizeBytes)
    const step = tensor ? npuTensorStep.decode(bytes) : npuStep.decode(bytes)
    steps.push({ ...step, opcode: allOpcodes[step.opcode], name: step.opcode })
    at += sizeBytes
  } while (at < payload.length)
  return steps
}

const OPCODE_BYTES = 4
const allOpcodes = { ...opcodes, ...tensorOpcodes }
const ofTensors: ReadonlySet<number> = new Set(Object.values(tensorOpcodes))

/** Windows of a queue (4.3). */
const WINDOWS = 8

/**
 * What QUEUE_CREATE of an NPU answers: the rings are those of docs/devices/npu.md, 5, at these offsets from the start of `rings`; the
 * doorbell is the queue's page (5.3). Word 1 of the status block is the number of an error once the queue has failed; word 2
 * is HEARTBEAT as it was last read. To WAKE (5.4) is to signal `kick`. The payload of the request is empty.
 */
export const npuQueue = structCodec(
  {
    index: u32,
    entriesLog2: u32,
    submissions: u32,
    completions: u32,
    status: u32,
    /** Whether completions raise interrupts, which `queueEvent` passes on. */
    interrupts: bool,
    /** Where the device finds the buffers that the queue may touch, in the order in which they were named. */
    addresses: array(u64, WINDOWS),
  },
  'npu.queue',
)

/** Puts steps into a payload for SUBMIT. Errors: `ERR_ACCEL_OUT_OF_RANGE` and `ERR_ACCEL_INVALID_SHAPE` for a step that cannot be. */
export function encodeJob(steps: readonly JobStep[]): Uint8Array {
  const encoded = steps.map((step) => {
    // Only carries the places of a step on, whatever their buffers are.
    const { ranges, length, pattern, block } = encodeStep(step as unknown as Step)
    const [a, b, c, d] = [0, 1, 2, 3].map((slot) => operandOf(ranges[slot]))
    const { fence = false, unordered = false } = step
    const fields = {
      order: { fence, unordered },
      a: a!,
      b: b!,
      c: c!,
      d: d!,
      length,
      pattern: pattern >>> 0,
      block: block ?? new Uint8Array(),
    }
    return isTensorStep(step)
      ? npuTensorStep.encode({ opcode: step.op, ...fields })
      : npuStep.encode({ opcode: step.op, ...fields })
  })
  const payload = new Uint8Array(encoded.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const bytes of encoded) {
    payload.set(bytes, at)
    at += bytes.length
  }
  return payload
}

function isTensorStep(step: JobStep): step is ByPlace<AnyTensorStep> {
  return Object.hasOwn(tensorOpcodes, step.op)
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
