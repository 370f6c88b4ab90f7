import type { Job, JobRange } from '@uaccel/accel'
import type { DmaRegion } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import { DEALLOCATE, FORCE_UNIT_ACCESS, MAX_BLOCKS, Nvm } from './command.js'
import type { ControllerIdentity, NamespaceIdentity } from './identify.js'
import type { Nvme } from './nvme.js'
import type { CommandListener, NvmeQueue } from './queue.js'
import { statusError } from './status.js'
import { nvmeStep, type Operation } from './uapi.js'

/** How an operation is done: whether the device reads or writes memory for it, and what it may lack. */
interface Kind {
  readonly opcode: number
  /** What the device has to be allowed in the buffer; absent without data. */
  readonly access?: 'read' | 'write'
  readonly feature?: 'compare' | 'writeZeroes' | 'datasetManagement'
  readonly forceUnitAccess?: boolean
}
const kinds: Readonly<Record<Operation, Kind>> = {
  read: { opcode: Nvm.read, access: 'write', forceUnitAccess: true },
  write: { opcode: Nvm.write, access: 'read', forceUnitAccess: true },
  compare: { opcode: Nvm.compare, access: 'read', feature: 'compare', forceUnitAccess: true },
  writeZeroes: { opcode: Nvm.writeZeroes, feature: 'writeZeroes', forceUnitAccess: true },
  deallocate: { opcode: Nvm.datasetManagement, feature: 'datasetManagement' },
  flush: { opcode: Nvm.flush },
}
/** One range of dataset management: context attributes, length, first block (NVMe base 1.4, 6.7.1). */
const RANGE_BYTES = 16
/** Blocks of such a range. */
const MAX_RANGE_BLOCKS = 0xffff_ffff

/** A step that was checked, and how far it is. */
interface Work {
  readonly operation: Operation
  readonly kind: Kind
  readonly nsid: number
  readonly blockBytes: number
  /** Blocks of one command. */
  readonly chunk: number
  /** Where the data is; absent without. */
  readonly address: bigint | undefined
  readonly lba: number
  readonly blocks: number
  readonly forceUnitAccess: boolean
  issued: number
}

/** Runs the jobs of clients, on one queue after the other. */
export class NvmeJobs {
  /** How many jobs are run at once. */
  readonly depth = 64
  readonly #nvme: Nvme
  readonly #waiting = new Set<JobRun>()

  constructor(nvme: Nvme) {
    this.#nvme = nvme
    nvme.onRoom(() => this.#room())
  }

  #room(): void {
    const waiting = [...this.#waiting] // who still finds none waits again
    this.#waiting.clear()
    for (const run of waiting) run.pump()
  }

  /**
   * Settles when the device is done with the memory of the job. Nothing was begun where a step is refused: `ERR_ACCEL_BAD_SIZE`,
   * `ERR_ACCEL_OUT_OF_RANGE`, `ERR_ACCEL_PERMISSION`, `ERR_ACCEL_UNSUPPORTED`, `ERR_ACCEL_NOT_FOUND`, `ERR_ACCEL_INVALID_ARGUMENT`,
   * `ERR_ACCEL_RESERVED` and those of the codec. Else the errors of a status, and of a reset.
   */
  async run(job: Job, signal: AbortSignal): Promise<void> {
    await this.#nvme.ready()
    const work = decode(job.payload).map((step, i) => check(step, i, job.ranges, this.#nvme))
    const run = new JobRun(this.#nvme, this.#nvme.pickQueue(), work, (waiting) => this.#waiting.add(waiting))
    const abort = () => run.abort(signal)
    signal.addEventListener('abort', abort)
    try {
      if (signal.aborted) abort()
      await run.done
    } finally {
      signal.removeEventListener('abort', abort)
      this.#waiting.delete(run)
    }
  }
}

type Step = ReturnType<typeof nvmeStep.decode>

function decode(payload: Uint8Array): Step[] {
  const { sizeBytes } = nvmeStep.layout
  const count = payload.length / sizeBytes
  if (count === 0 || !Number.isInteger(count)) {
    throw accelError(
      'ERR_ACCEL_BAD_SIZE',
      `The payload of an NVMe job wants steps of ${sizeBytes} bytes each, found ${payload.length} bytes`,
    )
  }
  return Array.from({ length: count }, (_, i) =>
    nvmeStep.decode(payload.subarray(i * sizeBytes, (i + 1) * sizeBytes)),
  )
}

/** Refuses what the controller, the namespace or the ranges of the job do not allow. */
function check(step: Step, index: number, ranges: readonly JobRange[], nvme: Nvme): Work {
  const { operation, nsid, buffer, offset, lba, blocks } = step
  const { forceUnitAccess = false } = step.options
  const kind = kinds[operation]
  const what = `Step ${index} (${operation}) of an NVMe job`
  const namespace = nvme.namespace(nsid)
  if (kind.feature !== undefined && !nvme.identity[kind.feature])
    throw accelError('ERR_ACCEL_UNSUPPORTED', `${what}: the controller has no such command`)
  if (forceUnitAccess && !kind.forceUnitAccess)
    throw accelError('ERR_ACCEL_BAD_FLAGS', `${what} does not take forceUnitAccess`)
  if (kind.access === undefined && (buffer !== 0 || offset !== 0n))
    throw accelError('ERR_ACCEL_RESERVED', `${what} has no data, and names a buffer or an offset`)
  if (operation === 'flush') {
    if (lba !== 0n || blocks !== 0n)
      throw accelError('ERR_ACCEL_RESERVED', `${what} is of a whole namespace, and names blocks of it`)
  } else if (blocks === 0n || lba + blocks > namespace.blocks) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${what} names ${blocks} blocks from ${lba} on, and namespace ${nsid} has ${namespace.blocks}`,
      { details: { step: index, blocks: namespace.blocks } },
    )
  }
  return {
    operation,
    kind,
    nsid,
    blockBytes: namespace.blockBytes,
    chunk: chunkOf(kind, operation, namespace, nvme.identity),
    address: kind.access && addressOf(step, what, kind.access, namespace, ranges),
    lba: Number(lba),
    blocks: Number(blocks),
    forceUnitAccess,
    issued: 0,
  }
}

function chunkOf(
  kind: Kind,
  operation: Operation,
  { blockBytes }: NamespaceIdentity,
  identity: ControllerIdentity,
): number {
  if (operation === 'deallocate') return MAX_RANGE_BLOCKS
  return kind.access === undefined
    ? MAX_BLOCKS
    : Math.min(MAX_BLOCKS, Math.floor(identity.maxTransferBytes / blockBytes))
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

/** One job on its queue: as many commands under way as there is room for. */
class JobRun implements CommandListener {
  readonly done: Promise<void>
  readonly #nvme: Nvme
  readonly #queue: NvmeQueue
  readonly #work: readonly Work[]
  readonly #wait: (run: JobRun) => void
  readonly #operations = new Map<number, Operation>()
  /** Lists of ranges that commands under way name, by CID. */
  readonly #lists = new Map<number, DmaRegion>()
  #at = 0
  #flushing = false
  #error: AccelError | undefined
  #resolve!: () => void
  #reject!: (error: unknown) => void

  constructor(nvme: Nvme, queue: NvmeQueue, work: readonly Work[], wait: (run: JobRun) => void) {
    this.#nvme = nvme
    this.#queue = queue
    this.#work = work
    this.#wait = wait
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.pump()
  }

  /** Nobody wants it any more: begins nothing, and asks the controller to abort what is under way. */
  abort(signal: AbortSignal): void {
    this.#error ??= accelError('ERR_ACCEL_ABORTED', 'The NVMe job was given up', { cause: signal.reason })
    for (const cid of this.#queue.cidsOf(this)) this.#nvme.abort(this.#queue, cid)
    this.#settle()
  }

  /** Submits what can be. */
  pump(): void {
    try {
      this.#nvme.checkUp()
      this.#submit()
      this.#nvme.kick(this.#queue)
    } catch (error) {
      this.#error ??= error as AccelError
    }
    this.#settle()
  }

  completed(cid: number, status: number): void {
    const operation = this.#end(cid)
    if (status !== 0) this.#error ??= statusError(operation, status)
    this.pump()
  }

  failed(cid: number, error: AccelError): void {
    this.#end(cid)
    this.#error ??= error
    this.#settle()
  }

  #submit(): void {
    while (this.#error === undefined && this.#at < this.#work.length && !this.#flushing) {
      const work = this.#work[this.#at]
      if (work.operation === 'flush' && this.#operations.size > 0) return
      if (this.#queue.free === 0) {
        // What is under way pumps when it ends; without any, others make room.
        if (this.#operations.size === 0) this.#wait(this)
        return
      }
      this.#issue(work)
      this.#flushing = work.operation === 'flush'
      if (this.#flushing || work.issued === work.blocks) this.#at++
    }
  }

  /** Submits the next command of a step. */
  #issue(work: Work): void {
    const { operation, kind, nsid, blockBytes, chunk, address, lba, forceUnitAccess } = work
    const blocks = Math.min(chunk, work.blocks - work.issued)
    const first = lba + work.issued
    const list = operation === 'deallocate' ? this.#rangeList(first, blocks) : undefined
    const at = list?.iova ?? (address === undefined ? 0n : address + BigInt(work.issued * blockBytes))
    const sizeBytes = list !== undefined ? RANGE_BYTES : address === undefined ? 0 : blocks * blockBytes
    const named = operation !== 'deallocate' && operation !== 'flush'
    const cid = this.#queue.submit(
      kind.opcode,
      nsid,
      Number(at & 0xffff_ffffn),
      Number(at >> 32n),
      sizeBytes,
      named ? first % 2 ** 32 : 0, // of dataset management: the count of ranges, from 0
      named ? Math.floor(first / 2 ** 32) : operation === 'deallocate' ? DEALLOCATE : 0,
      named ? (blocks - 1) | (forceUnitAccess ? FORCE_UNIT_ACCESS : 0) : 0,
      this,
    )
    this.#operations.set(cid, operation)
    if (list !== undefined) this.#lists.set(cid, list)
    work.issued += blocks
  }

  #rangeList(lba: number, blocks: number): DmaRegion {
    const list = this.#nvme.allocate(RANGE_BYTES)
    list.u32[1] = blocks
    list.u64[1] = BigInt(lba)
    return list
  }

  #end(cid: number): Operation {
    const operation = this.#operations.get(cid)!
    this.#operations.delete(cid)
    if (operation === 'flush') this.#flushing = false
    this.#lists.get(cid)?.free()
    this.#lists.delete(cid)
    return operation
  }

  #settle(): void {
    if (this.#operations.size > 0) return
    if (this.#error !== undefined) this.#reject(this.#error)
    else if (this.#at === this.#work.length) this.#resolve()
  }
}
