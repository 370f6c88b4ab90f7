import { type ClientQueue, openQueue, type QueueOpener, type QueueRange } from '@uaccel/memory'
import { type AccelError, accelError, errorCode } from '@uaccel/uapi'
import { ContextMemory, type HostChunk, type MemorySource, NpuBuffer } from './buffers.js'
import { type ContextHost, NpuContext } from './context.js'
import { NpuQueue, queueLayout, SHARED } from './queue.js'
import { npuQueue } from './uapi.js'

export type { NpuBuffer } from './buffers.js'
export type { NpuContext, RunOptions } from './context.js'
export type { NpuJob } from './job.js'
export type { Step } from './operations.js'

/** A buffer object that is mapped into this program, such as a `ClientBuffer`. */
export interface MappedBuffer {
  readonly handle: QueueRange['buffer']['handle']
  readonly sizeBytes: number
  readonly u8: Uint8Array
}

type Access = NonNullable<QueueRange['access']>

/** How a queue of an NPU is wanted. */
export interface NpuQueueOptions {
  /** For what the context allocates, parameter blocks of jobs among it. It stays the caller's, to be destroyed after the queue. */
  readonly memory: MappedBuffer
  /** Other buffers that jobs of the queue may name, at most 7. */
  readonly buffers?: readonly { readonly buffer: MappedBuffer; readonly access?: Access }[]
  /** As of a context. Default 256. */
  readonly ringEntries?: number
}

/** A queue of an NPU that this program fills, and the buffers that its jobs may name. */
export interface NpuUserQueue {
  /** The words of a context in the driver's process; its memory does not grow. Closing it closes the queue. */
  readonly context: NpuContext
  /** In the order of `buffers` in the options. */
  readonly buffers: readonly NpuBuffer[]
}

/**
 * Makes a queue of an NPU that another process drives, or this one, and opens it: jobs go between this program and the device alone.
 * A reset of the device ends it (`ERR_ACCEL_IO`), and it is made anew. Errors as for `openQueue`, `ERR_ACCEL_PROTOCOL` for a layout
 * that cannot be.
 */
export async function openNpuQueue(
  opener: QueueOpener,
  { memory, buffers = [], ringEntries = 256 }: NpuQueueOptions,
): Promise<NpuUserQueue> {
  const queue = await openQueue(opener, { entries: ringEntries, buffers: [{ buffer: memory }, ...buffers] })
  try {
    return await use(queue, ringEntries, memory, buffers)
  } catch (error) {
    await queue.close()
    queue.unmap()
    throw error
  }
}

async function use(
  queue: ClientQueue,
  ringEntries: number,
  memory: MappedBuffer,
  others: NonNullable<NpuQueueOptions['buffers']>,
): Promise<NpuUserQueue> {
  const { index, entriesLog2, submissions, completions, status, interrupts, addresses } = npuQueue.decode(
    queue.payload,
  )
  const layout = queueLayout(entriesLog2)
  if (
    layout.entries !== ringEntries ||
    layout.sizeBytes > queue.rings.sizeBytes ||
    submissions !== layout.sq ||
    completions !== layout.cq ||
    status !== layout.status ||
    addresses.length !== others.length + 1
  ) {
    throw accelError('ERR_ACCEL_PROTOCOL', `Queue ${index} of the NPU came with a layout that cannot be`)
  }
  const words = queue.rings.i32
  const host = new UserHost(queue, words.subarray(status / 4), interrupts)
  const rings = new NpuQueue(index, entriesLog2, {
    words,
    doorbells: queue.doorbell,
    page: 0,
    wake: () => queue.kick(),
  })
  const chunkOf = (buffer: MappedBuffer, at: number): HostChunk => ({
    get u8() {
      return buffer.u8
    },
    sizeBytes: buffer.sizeBytes,
    iova: addresses[at]!,
  })
  const source = new OneChunk(chunkOf(memory, 0))
  const contextMemory = new ContextMemory(source, () => context.inFlight > 0 || context.failure !== undefined)
  const context: NpuContext = new NpuContext(rings, contextMemory, host)
  host.context = context
  void queue.lost.then((reason) => context.fail(reason))
  if (interrupts) await queue.onEvent(() => context.poll())
  return {
    context,
    buffers: others.map(
      ({ buffer }, i) =>
        new NpuBuffer(
          `buffer object ${buffer.handle}`,
          contextMemory,
          buffer.sizeBytes,
          { chunk: chunkOf(buffer, i + 1), offset: 0 },
          () => {},
        ),
    ),
  }
}

/** What a context in this process needs of the driver's. */
class UserHost implements ContextHost {
  readonly interrupts: boolean
  readonly mapped = true
  context!: NpuContext
  readonly #queue: ClientQueue
  readonly #status: Int32Array

  constructor(queue: ClientQueue, status: Int32Array, interrupts: boolean) {
    this.interrupts = interrupts
    this.#queue = queue
    this.#status = status
  }

  get changed(): boolean {
    return this.#status[SHARED.failed] !== 0
  }
  /** The driver's process has said that the queue has failed: what was completed before is not lost. */
  sync(): void {
    if (this.context.failure !== undefined) return
    const code = errorCode(this.#status[SHARED.failed]!) ?? 'ERR_ACCEL_IO'
    let cause: unknown
    try {
      this.context.queue.poll()
    } catch (error) {
      cause = error // what the device answered at the last cannot be: thrown here it would keep the failure from the jobs
    }
    this.context.fail(
      accelError(
        code,
        `Queue ${this.context.queue.index} of the NPU has failed, see events: make another`,
        cause === undefined ? {} : { cause },
      ),
    )
  }
  /** The driver's process looks, and says so. */
  diagnose(): undefined {}
  irqCounts(): undefined {}
  heartbeat(): number {
    return this.#status[SHARED.heartbeat]!
  }
  /** The driver's process hears of it when the queue is closed, and is not stopped by it. */
  broke(_error: AccelError): void {}

  async close(): Promise<void> {
    try {
      await this.#queue.close()
      this.context.poll() // what the stop of the queue has answered
    } finally {
      this.context.fail(accelError('ERR_ACCEL_CLOSED', 'The NPU context was closed'))
      this.#queue.unmap()
    }
  }
}

/** Memory in one piece, which does not grow. */
export class OneChunk implements MemorySource {
  readonly card: undefined
  #left: HostChunk | undefined

  constructor(chunk: HostChunk) {
    this.#left = chunk
  }

  grow(wantedBytes: number): HostChunk {
    const chunk = this.#left
    if (chunk === undefined || wantedBytes > chunk.sizeBytes) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `${wantedBytes} bytes are not free in the memory that the NPU was given here, which does not grow: see memory of openNpuQueue, memoryBytes of WebNN's`,
      )
    }
    this.#left = undefined
    return chunk
  }
}
