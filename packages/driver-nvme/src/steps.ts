import type { JobRange } from '@uaccel/accel'
import { accelError } from '@uaccel/uapi'
import { MAX_BLOCKS, Nvm } from './command.js'
import type { ControllerIdentity, NamespaceIdentity } from './identify.js'
import { nvmeStep, type Operation } from './uapi.js'

/** How an operation is done: whether the device reads or writes memory for it, and what it may lack. */
export interface Kind {
  readonly opcode: number
  /** What the device has to be allowed in the buffer; absent without data. */
  readonly access?: 'read' | 'write'
  readonly feature?: 'compare' | 'writeZeroes' | 'datasetManagement' | 'copy'
  readonly forceUnitAccess?: boolean
}
const kinds: Readonly<Record<Operation, Kind>> = {
  read: { opcode: Nvm.read, access: 'write', forceUnitAccess: true },
  write: { opcode: Nvm.write, access: 'read', forceUnitAccess: true },
  compare: { opcode: Nvm.compare, access: 'read', feature: 'compare', forceUnitAccess: true },
  writeZeroes: { opcode: Nvm.writeZeroes, feature: 'writeZeroes', forceUnitAccess: true },
  deallocate: { opcode: Nvm.datasetManagement, feature: 'datasetManagement' },
  flush: { opcode: Nvm.flush },
  copy: { opcode: Nvm.copy, feature: 'copy', forceUnitAccess: true },
}
/** Blocks of a range of dataset management (NVMe base 1.4, 6.7.1). */
const MAX_RANGE_BLOCKS = 0xffff_ffff

/** A step that was checked, and how far it is. */
export interface Work {
  readonly operation: Operation
  readonly kind: Kind
  readonly nsid: number
  readonly blockBytes: number
  /** Blocks of one command. */
  readonly chunk: number
  /** Blocks of one source range of a copy. */
  readonly rangeBlocks: number
  /** Where the data is, in halves: 0 to 2^32 - 1 each. 0 without data. */
  readonly low: number
  readonly high: number
  readonly lba: number
  readonly blocks: number
  /** The first block that a copy reads. */
  readonly source: number
  readonly forceUnitAccess: boolean
  issued: number
}

/** What steps are checked against. */
export interface StepHost {
  readonly identity: ControllerIdentity
  namespace(nsid: number): NamespaceIdentity
}

type Step = ReturnType<typeof nvmeStep.decode>

/** Reads the steps of a job, and refuses what the controller, the namespace or the ranges of the job do not allow. */
export function decodeSteps(payload: Uint8Array, ranges: readonly JobRange[], host: StepHost): Work[] {
  const { sizeBytes } = nvmeStep.layout
  const count = payload.length / sizeBytes
  if (count === 0 || !Number.isInteger(count)) {
    throw accelError(
      'ERR_ACCEL_BAD_SIZE',
      `The payload of an NVMe job wants steps of ${sizeBytes} bytes each, found ${payload.length} bytes`,
    )
  }
  return Array.from({ length: count }, (_, i) =>
    check(nvmeStep.decode(payload.subarray(i * sizeBytes, (i + 1) * sizeBytes)), i, ranges, host),
  )
}

function check(step: Step, index: number, ranges: readonly JobRange[], host: StepHost): Work {
  const { operation, nsid, buffer, offset, lba, blocks, source } = step
  const { forceUnitAccess = false } = step.options
  const kind = kinds[operation]
  const what = `Step ${index} (${operation}) of an NVMe job`
  const namespace = host.namespace(nsid)
  const chunk = chunkOf(kind, operation, namespace, host.identity)
  if (chunk === 0 || (kind.feature !== undefined && !host.identity[kind.feature]))
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${what}: the controller has no such command, or none for namespace ${nsid}`,
    )
  if (forceUnitAccess && !kind.forceUnitAccess)
    throw accelError('ERR_ACCEL_BAD_FLAGS', `${what} does not take forceUnitAccess`)
  if (kind.access === undefined && (buffer !== 0 || offset !== 0n))
    throw accelError('ERR_ACCEL_RESERVED', `${what} has no data, and names a buffer or an offset`)
  if (operation === 'flush') {
    if (lba !== 0n || blocks !== 0n)
      throw accelError('ERR_ACCEL_RESERVED', `${what} is of a whole namespace, and names blocks of it`)
  } else checkBlocks(what, index, lba, blocks, namespace)
  if (operation === 'copy') {
    checkBlocks(what, index, source, blocks, namespace)
    // Commands of one step run in any order, and a device is free to copy in any.
    if (source < lba + blocks && lba < source + blocks)
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${what} copies ${blocks} blocks from ${source} to ${lba}, which overlap: use a place beside`,
      )
  } else if (source !== 0n) throw accelError('ERR_ACCEL_RESERVED', `${what} is no copy, and names a source`)
  const address = kind.access === undefined ? 0n : addressOf(step, what, kind.access, namespace, ranges)
  return {
    operation,
    kind,
    nsid,
    blockBytes: namespace.blockBytes,
    chunk,
    rangeBlocks: namespace.copy.rangeBlocks,
    low: Number(address & 0xffff_ffffn),
    high: Number(address >> 32n),
    lba: Number(lba),
    blocks: Number(blocks),
    source: Number(source),
    forceUnitAccess,
    issued: 0,
  }
}

function checkBlocks(
  what: string,
  index: number,
  first: bigint,
  blocks: bigint,
  { nsid, blocks: all }: NamespaceIdentity,
): void {
  if (blocks > 0n && first + blocks <= all) return
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `${what} names ${blocks} blocks from ${first} on, and namespace ${nsid} has ${all}`,
    { details: { step: index, blocks: all } },
  )
}

/** Blocks of one command; 0 where there is no such command for the namespace. */
function chunkOf(
  kind: Kind,
  operation: Operation,
  { blockBytes, copy }: NamespaceIdentity,
  { maxTransferBytes }: ControllerIdentity,
): number {
  if (operation === 'deallocate') return MAX_RANGE_BLOCKS
  if (operation === 'copy') return Math.min(copy.blocks, copy.ranges * copy.rangeBlocks)
  return kind.access === undefined
    ? MAX_BLOCKS
    : Math.min(MAX_BLOCKS, Math.floor(maxTransferBytes / blockBytes))
}

/** Where the device finds the data of a step. */
function addressOf(
  { buffer, offset, blocks }: Step,
  what: string,
  access: 'read' | 'write',
  { blockBytes }: NamespaceIdentity,
  ranges: readonly JobRange[],
): bigint {
  const range = ranges[buffer - 1]
  if (range === undefined)
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${what} names buffer ${buffer} of ${ranges.length}, counted from 1`,
    )
  const sizeBytes = blocks * BigInt(blockBytes)
  if (offset + sizeBytes > BigInt(range.sizeBytes)) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${what} moves ${sizeBytes} bytes from ${offset} on of a range of ${range.sizeBytes} bytes`,
    )
  }
  if (range.access !== access && range.access !== 'readwrite') {
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      `${what} has the device ${access} buffer ${buffer}, and the job allows it to ${range.access}`,
    )
  }
  const address = range.iova + offset
  if (address % 4n === 0n) return address
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${what} wants its data on a multiple of 4, found an offset that is none`,
  )
}
