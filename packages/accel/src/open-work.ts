import { DmaBuffer, type DmaBufInfo, dmaBufInfo } from '@uaccel/memory'
import { duplicates, requireSealed, sys } from '@uaccel/sys'
import { JOB_QUEUE } from '@uaccel/trace'
import { type AccelError, accelError, type CommandRequest, type commonUapi, type Handle } from '@uaccel/uapi'
import { BufferObject } from './buffer-object.js'
import { waitUntil } from './deadline.js'
import type { Timeline } from './fence.js'
import { Handles } from './handles.js'
import { type JobUse, QueuedJob, rangeOf } from './job.js'
import type { Open } from './open.js'
import { OpenFences } from './open-fences.js'
import { Account } from './quota.js'
import type { MemoryUsage } from './telemetry.js'
import { LiveQueue } from './user-queue.js'
import type { NodeWork } from './work.js'

type Request<K extends keyof typeof commonUapi.commands> = CommandRequest<typeof commonUapi, K>

const PAGE_BYTES = 4096n
/** To say how much memory is resident, the kernel is asked about each object: of more than these, so often at most. */
const FEW_OBJECTS = 64
const LOOK_AGE_MS = 250

/** What one open holds: a method for each command, which refuses what is not this open's. */
export class OpenWork {
  readonly #node: NodeWork
  readonly #open: Open
  readonly #name: string
  readonly #account: Account
  readonly #handles: Handles<BufferObject | Timeline | LiveQueue>
  readonly fences: OpenFences
  /** What takes a buffer object of somebody else off the account: its memory counts for whoever made it. */
  readonly #imports = new Map<BufferObject, () => void>()
  #jobs = 0
  /** Told when none is left. */
  readonly #idle: (() => void)[] = []
  #lastJob = 0n
  #lastQueue = 0
  #looked = { atMs: Number.NEGATIVE_INFINITY, usage: { totalBytes: 0 } as MemoryUsage }

  constructor(node: NodeWork, open: Open, parent: Account) {
    const { name, quotas } = node.host
    this.#node = node
    this.#open = open
    this.#name = `open ${open.id} of ${name}`
    this.#account = new Account(this.#name, quotas.openObjects, quotas.openBytes, parent)
    this.#handles = new Handles(this.#name)
    this.fences = new OpenFences(this.#handles, this.#account)
  }

  boCreate({ sizeBytes }: Request<'boCreate'>) {
    const wanted = ((sizeBytes + PAGE_BYTES - 1n) / PAGE_BYTES) * PAGE_BYTES
    if (wanted === 0n || wanted > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A buffer object of ${sizeBytes} bytes: wanted 1 to ${Number.MAX_SAFE_INTEGER}`,
      )
    }
    const sizes = Number(wanted)
    const object = this.#node.create(this.#account, sizes, () => this.#node.memory(sizes))
    return {
      sizeBytes: BigInt(object.sizeBytes),
      handle: this.#handles.add(object) as Handle<'bo'>,
    }
  }

  boInfo({ handle }: Request<'boInfo'>) {
    const { sizeBytes, jobs } = this.#bo(handle)
    return { sizeBytes: BigInt(sizeBytes), flags: {}, jobs: jobs.size }
  }

  boMmap({ handle }: Request<'boMmap'>) {
    const { memory } = this.#bo(handle)
    return { offset: 0n, sizeBytes: BigInt(memory.sizeBytes), fd: sys.dup(memory.fd) }
  }

  boSync({ handle, offset, sizeBytes }: Request<'boSync'>) {
    checkRange(this.#bo(handle), handle, offset, sizeBytes)
    return {}
  }

  async boWait({ handle, deadlineNs }: Request<'boWait'>, signal: AbortSignal) {
    const object = this.#bo(handle)
    const what = `The end of ${object.jobs.size} jobs that use buffer object ${handle}`
    await waitUntil(what, { deadlineNs, signal }, (done) => object.onEnd(done))
    if (object.failure) throw object.failure
    return {}
  }

  boDestroy({ handle }: Request<'boDestroy'>) {
    const object = this.#bo(handle)
    this.#handles.delete(handle)
    this.#drop(object)
    return {}
  }

  boExport({ handle, kind }: Request<'boExport'>) {
    const object = this.#bo(handle)
    const file = kind === 'dmaBuf' ? object.dmaBuf() : object.memory
    object.exported = true
    return { sizeBytes: BigInt(object.sizeBytes), fd: sys.dup(file.fd) }
  }

  boImport({ fd }: Request<'boImport'>) {
    if (fd === null) throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'boImport wants a descriptor')
    const object = this.#import(fd)
    const handle = this.#handles.of(object) ?? this.#handles.add(object)
    return { sizeBytes: BigInt(object.sizeBytes), handle: handle as Handle<'bo'> }
  }

  /** What is a buffer object of this process already, is that one. */
  #import(fd: number): BufferObject {
    // Before anything asks the file itself, which may be of a file system that the client runs.
    const dmaBuf = dmaBufInfo(fd)
    if (dmaBuf === undefined) requireSealed(fd, 1)
    const known = BufferObject.ofFile(fd)
    if (known === undefined) {
      if (dmaBuf) throw foreignDmaBuf(dmaBuf)
      const { sizeBytes } = sys.identify(fd)
      return this.#node.create(this.#account, sizeBytes, () => DmaBuffer.import(fd, { name: 'uaccel-bo' }))
    }
    if (this.#handles.of(known) === undefined) {
      this.#imports.set(known, this.#account.take('An imported buffer object'))
      known.addHandle()
    }
    return known
  }

  #drop(object: BufferObject): void {
    this.#imports.get(object)?.()
    this.#imports.delete(object)
    object.dropHandle()
  }

  submit({ buffers, waits, signal, payload }: Request<'submit'>) {
    const { host, scheduler } = this.#node
    if (!host.takesJobs) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The driver of ${host.name} takes no jobs: see its own commands`,
      )
    }
    const { record } = host
    const { openJobs } = host.quotas
    if (this.#jobs >= openJobs) {
      throw accelError(
        'ERR_ACCEL_AGAIN',
        `${this.#name} has ${this.#jobs} jobs that have not ended, of ${openJobs} that it may: wait for one`,
        { details: { used: this.#jobs, limit: openJobs } },
      )
    }
    const uses = this.#uses('A job', buffers)
    const points = waits.map((point) => this.fences.promised(point))
    const domain = this.#node.domain()
    // Now, where it can be told to who asks; what is mapped stays so.
    if (domain) for (const { object } of uses) object.mapIn(domain)
    if (signal.fence === 0 && signal.value !== 0n) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `A job has value ${signal.value} to signal, and no fence`,
      )
    }
    // The last thing that can fail: a promise cannot be taken back.
    const reached = signal.fence === 0 ? undefined : this.fences.get(signal.fence).promise(signal.value)
    this.#jobs++
    this.#lastJob++
    const [id, open] = [record.nextJob(), this.#open.id]
    const job = new QueuedJob({
      label: `job ${this.#lastJob} of ${this.#name}`,
      uses,
      waits: points,
      payload,
      began: () => {
        record.began(this.#open, 'job')
        record.trace?.started(JOB_QUEUE, id, open)
      },
      ended: (error, started) => {
        record.trace?.completed(JOB_QUEUE, id, error, open)
        if (started) record.left(this.#open, 'job')
        record.ended(this.#open, 'job', started, error)
        reached?.(error)
        if (--this.#jobs === 0) for (const told of this.#idle.splice(0)) told()
      },
    })
    record.submitted(this.#open)
    record.trace?.queued(JOB_QUEUE, id, open, payload.length)
    scheduler.add(this.#open, job)
    return { job: this.#lastJob }
  }

  /** Resolves once none of its jobs is left. */
  jobsEnded(): Promise<void> {
    if (this.#jobs === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  /** What its buffer objects take; of many, as of a moment ago. What jobs hold that it cannot name any more is not among them. */
  memory(): MemoryUsage {
    const now = performance.now()
    const { atMs, usage } = this.#looked
    if (this.#handles.size > FEW_OBJECTS && now - atMs < LOOK_AGE_MS) return usage
    this.#looked = { atMs: now, usage: this.#look() }
    return this.#looked.usage
  }

  #look(): MemoryUsage {
    const usage = { totalBytes: 0, sharedBytes: 0, residentBytes: 0, activeBytes: 0 }
    for (const object of this.#handles.values()) {
      if (!(object instanceof BufferObject)) continue
      const { sizeBytes } = object
      usage.totalBytes += sizeBytes
      if (object.shared) usage.sharedBytes += sizeBytes
      const { residentBytes } = sys.identify(object.memory.fd)
      usage.residentBytes += residentBytes
      if (object.jobs.size > 0 || object.inUse) usage.activeBytes += residentBytes
    }
    return usage
  }

  /** Has the driver make a queue that the client fills, and gives what the client maps of it. */
  async queueCreate({ buffers, entries, payload }: Request<'queueCreate'>, signal: AbortSignal) {
    const { host, queues } = this.#node
    if (!host.takesQueues) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `The driver of ${host.name} has no queues for clients to fill`,
      )
    }
    if (entries === 0) throw accelError('ERR_ACCEL_OUT_OF_RANGE', 'A queue wants at least one entry')
    const uses = this.#uses('A queue', buffers)
    const domain = this.#node.up()
    const offer = host.queueOffer()
    if (offer === undefined) {
      throw accelError('ERR_ACCEL_AGAIN', `${host.name} is being recovered: try again when it is up`)
    }
    this.#checkAlone()
    const objects = [...new Set(uses.map(({ object }) => object))]
    for (const object of objects) object.mapIn(domain)
    if (!offer.bounded && domain.mappings > objects.length) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${host.name} does not hold a queue to its memory, and ${domain.mappings - objects.length} other mappings are there: ` +
          'such a queue takes a device for which nothing else is mapped',
      )
    }
    const giveBack = this.#account.take('A queue')
    let queue: LiveQueue
    try {
      const label = `queue ${++this.#lastQueue} of ${this.#name}`
      queue = queues.add(this.#open, label, objects, host, giveBack)
    } catch (error) {
      giveBack()
      throw error
    }
    const ranges = uses.map((use) => rangeOf(use, domain))
    await queue.start(offer, { entries, ranges, payload }, { signal, open: this.#open })
    const { rings, doorbell, kick, payload: layout } = queue.parts
    const partOf = ({ offset, sizeBytes }: typeof rings) => ({
      offset: BigInt(offset),
      sizeBytes: BigInt(sizeBytes),
    })
    let fds: readonly number[]
    try {
      fds = duplicates([rings.fd, doorbell.fd, kick])
    } catch (error) {
      // Nobody could name it, and it would keep the device from all others.
      await queue.stop()
      throw error
    }
    return {
      handle: this.#handles.add(queue) as Handle<'queue'>,
      ringsPart: partOf(rings),
      doorbellPart: partOf(doorbell),
      rings: fds[0]!,
      doorbell: fds[1]!,
      kick: fds[2]!,
      payload: layout,
    }
  }

  async queueDestroy({ handle }: Request<'queueDestroy'>) {
    const queue = this.#queue(handle)
    this.#handles.delete(handle)
    await queue.stop()
    return {}
  }

  queueEvent({ handle }: Request<'queueEvent'>) {
    return { fd: sys.dup(this.#queue(handle).event.fd) }
  }

  /** Gives everything back: the open is closed, and its jobs were ended or are under way. Idempotent. */
  free(): void {
    const objects = [...this.#handles.values()]
    this.#handles.clear()
    this.fences.free()
    for (const object of objects) {
      if (object instanceof BufferObject) {
        try {
          this.#drop(object)
        } catch (error) {
          this.#node.host.report(`Memory of ${this.#name} was not given back cleanly`, error)
        }
      }
    }
  }

  #bo(handle: number): BufferObject {
    return this.#handles.get(handle, BufferObject, 'buffer object')
  }

  #queue(handle: number): LiveQueue {
    return this.#handles.get(handle, LiveQueue, 'queue')
  }

  /** The parts of buffers that a job, or a queue, may touch. */
  #uses(what: string, buffers: Request<'submit'>['buffers']): JobUse[] {
    return buffers.map(({ handle, access, offset, sizeBytes }) => {
      const object = this.#bo(handle)
      checkRange(object, handle, offset, sizeBytes)
      if (sizeBytes === 0n) {
        throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${what} wants 0 bytes of buffer object ${handle}`)
      }
      return { object, access, offset: Number(offset), sizeBytes: Number(sizeBytes) }
    })
  }

  /** Who fills a queue reaches the doorbells of all others: nobody else may be there. */
  #checkAlone(): void {
    const { host, scheduler } = this.#node
    const others = [...host.opens()].filter((open) => open !== this.#open)
    if (others.length > 0) {
      const [{ id, peer }] = others as [Open, ...Open[]]
      throw accelError(
        'ERR_ACCEL_BUSY',
        `A queue takes ${host.name} for itself, and ${others.length} others have it open: open ${id} of ` +
          `${peer ? `process ${peer.pid}` : "the driver's process"} is one`,
        { details: { open: id, opens: others.length, ...(peer && { pid: peer.pid, uid: peer.uid }) } },
      )
    }
    if (!scheduler.servesOthers(this.#open)) return
    throw accelError(
      'ERR_ACCEL_AGAIN',
      `Jobs of others who left are still under way on ${host.name}: try again`,
    )
  }
}

/** Jobs need memory that stays, and that every way to the IOMMU takes: docs/design/0007-dma-buf.md. */
function foreignDmaBuf({ exporter, sizeBytes }: DmaBufInfo): AccelError {
  return accelError(
    'ERR_ACCEL_UNSUPPORTED',
    `A dma-buf of ${exporter} was to be imported, and no buffer object of this process has it. The IOMMU takes none but BARs that VFIO ` +
      'exported, and those may vanish under a job. Memory that another node made comes by boExport of kind memory, any other as a memfd ' +
      'that is sealed against shrinking',
    { details: { exporter, sizeBytes } },
  )
}

function checkRange(
  { sizeBytes: size }: BufferObject,
  handle: number,
  offset: bigint,
  sizeBytes: bigint,
): void {
  // Both are unsigned and of any size here, so nothing wraps.
  if (offset + sizeBytes <= BigInt(size)) return
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `Buffer object ${handle} has ${size} bytes, and ${sizeBytes} from ${offset} on were wanted`,
    { details: { handle, sizeBytes: size } },
  )
}
