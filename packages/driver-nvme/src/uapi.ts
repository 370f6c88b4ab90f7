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
  u8,
  u32,
  u64,
  uapi,
} from '@uaccel/uapi'

/** Data of one raw admin command: a page. */
export const ADMIN_DATA_BYTES = 4096
/** Namespaces that one answer has room for. */
export const NAMESPACES_AT_ONCE = 64

/** Commands of the NVMe driver. Reads and writes go through the SUBMIT of all drivers, with a payload that {@link encodeSteps} makes. */
export const nvmeUapi = uapi({
  name: 'nvme',
  version: 1,
  commands: {
    identify: cmd(0x40, {
      doc: 'What the controller says of itself, and how the driver uses it.',
      out: {
        vendor: doc('PCI vendor id.', u32),
        serial: doc('Serial number.', string(20)),
        model: doc('Model number.', string(40)),
        firmware: doc('Firmware revision.', string(8)),
        version: doc('Of the specification: major.minor.tertiary.', string(16)),
        queues: doc('I/O queue pairs in use.', u32),
        queueDepth: doc('Commands that each has under way at most.', u32),
        maxTransferBytes: doc('What one command moves at most; the driver splits what is longer.', u32),
        features: doc(
          'Optional commands that it has.',
          flags({ compare: 0, writeZeroes: 1, deallocate: 2, volatileWriteCache: 3, copy: 4 }),
        ),
      },
      concurrent: true,
    }),
    namespaces: cmd(0x41, {
      doc: 'The active namespaces after number `after`, ascending, as many as there is room for.',
      in: { after: doc('0 at first; then the last of the answer before.', u32) },
      out: {
        namespaces: array(
          struct({
            nsid: doc('Its number.', u32),
            blockBytes: doc('Bytes of a block.', u32),
            metadataBytes: doc('Bytes of metadata beside each block.', u32),
            usable: doc('Whether this driver reads and writes it.', bool),
            blocks: doc('Blocks it has.', u64),
          }),
          NAMESPACES_AT_ONCE,
        ),
      },
      concurrent: true,
    }),
    health: cmd(0x42, {
      doc: 'The health log page. Counters that go beyond 64 bits end at the largest number.',
      out: {
        criticalWarning: doc(
          'Why to worry.',
          flags({ spare: 0, temperature: 1, reliability: 2, readOnly: 3, backup: 4, persistentRegion: 5 }),
        ),
        temperatureKelvin: doc('Of the controller.', u32),
        availableSparePercent: doc('Spare capacity that is left.', u32),
        spareThresholdPercent: doc('Below which there is a warning.', u32),
        usedPercent: doc('Of its life, as the vendor sees it; may exceed 100.', u32),
        bytesRead: doc('By the host, in units of 512,000.', u64),
        bytesWritten: doc('By the host, in units of 512,000.', u64),
        readCommands: u64,
        writeCommands: u64,
        busyMinutes: u64,
        powerCycles: u64,
        powerOnHours: u64,
        unsafeShutdowns: u64,
        mediaErrors: u64,
        errorLogEntries: u64,
      },
      concurrent: true,
    }),
    admin: cmd(0x43, {
      doc:
        'An admin command as it is, for the owner of the node alone. It moves a page at most, in the direction that its opcode says; ' +
        'commands that name other memory, whose length is unknown, or that the driver issues itself are refused.',
      in: {
        opcode: doc('Opcode of the admin command set.', u8),
        nsid: doc('Namespace; 0 for none.', u32),
        cdw10: u32,
        cdw11: u32,
        cdw12: u32,
        cdw13: u32,
        cdw14: u32,
        cdw15: u32,
        data: doc('For the device, where the command takes some.', bytes(ADMIN_DATA_BYTES)),
      },
      out: {
        result: doc('DW0 of the completion.', u32),
        data: doc('From the device, where the command gives some.', bytes(ADMIN_DATA_BYTES)),
      },
    }),
    reset: cmd(0x44, {
      doc: 'Resets the controller. Commands under way end with an error, and may be repeated.',
    }),
  },
})

/** What a step of a job does. */
export const operations = {
  read: 0,
  write: 1,
  compare: 2,
  writeZeroes: 3,
  deallocate: 4,
  flush: 5,
  copy: 6,
} as const
export type Operation = keyof typeof operations

/**
 * One step of a job. A payload is one such structure after another. `buffer` is a place in the list of the job, counted from 1, and 0 none;
 * `offset` is in bytes within that range, a multiple of 4; `source` is the first block that a copy reads, 0 otherwise. The steps run at once and in any order, but for a flush: all before it have
 * ended when it starts, and all behind it wait for it.
 */
export const nvmeStep = structCodec(
  {
    operation: enumeration(operations),
    options: flags({ forceUnitAccess: 0 }),
    nsid: u32,
    buffer: u32,
    offset: u64,
    lba: u64,
    blocks: u64,
    source: u64,
  },
  'nvme.step',
)

/** A step as a client writes it. */
export interface NvmeStep {
  readonly operation: Operation
  /** The namespace; default 1. */
  readonly nsid?: number
  /** Place of its buffer among those of the job, counted from 0; absent for operations without data. */
  readonly buffer?: number
  /** Bytes within that, a multiple of 4; default 0. */
  readonly offset?: number
  /** The first block; absent for a flush, as is `blocks`. */
  readonly lba?: number | bigint
  readonly blocks?: number | bigint
  /** Of a copy: the first block that is read, in the same namespace. The blocks may not overlap those from `lba` on. */
  readonly source?: number | bigint
  /** The data is on the medium before the step ends; default false. */
  readonly forceUnitAccess?: boolean
}

/** Puts steps into a payload for SUBMIT. `ERR_ACCEL_OUT_OF_RANGE` for numbers that cannot be. */
export function encodeSteps(steps: readonly NvmeStep[]): Uint8Array {
  const { sizeBytes } = nvmeStep.layout
  const payload = new Uint8Array(sizeBytes * steps.length)
  for (const [i, step] of steps.entries()) {
    const { operation, nsid = 1, buffer, offset = 0, lba = 0, blocks = 0, source = 0 } = step
    const { forceUnitAccess = false } = step
    const encoded = nvmeStep.encode({
      operation,
      options: { forceUnitAccess },
      nsid,
      buffer: buffer === undefined ? 0 : buffer + 1,
      offset: whole(offset, 'offset'),
      lba: whole(lba, 'lba'),
      blocks: whole(blocks, 'blocks'),
      source: whole(source, 'source'),
    })
    payload.set(encoded, sizeBytes * i)
  }
  return payload
}

function whole(value: number | bigint, name: string): bigint {
  if (typeof value === 'bigint' || Number.isSafeInteger(value)) return BigInt(value)
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `A step of an NVMe job wants a whole number as ${name}, found ${value}`,
  )
}
