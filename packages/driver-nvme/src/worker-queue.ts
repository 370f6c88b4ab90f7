import {
  attachDevice,
  type EventLine,
  type IrqCounts,
  LeaseHolder,
  type SharedDevice,
  type SharedMemory,
} from '@uaccel/core'
import { type AccelError, accelError, type ErrorCode, isAccelError } from '@uaccel/uapi'
import { Nvm } from './command.js'
import type { NamespaceIdentity } from './identify.js'
import type { AbortRequest, NvmeQueueToken } from './lease.js'
import { type CommandListener, NvmeQueue } from './queue.js'
import { failQueue } from './queues.js'
import { shadowFrom } from './shadow.js'
import { statusError } from './status.js'
import { warmUp } from './warm-up.js'
import { endLate, startWatchdog } from './watchdog.js'

/** A read or write of a worker's queue. */
export interface Transfer {
  /** The namespace; default 1. */
  readonly nsid?: number
  readonly lba: number
  readonly blocks: number
  /** Bytes from the start of `memory`, a multiple of 4; default 0. */
  readonly offset?: number
}

/** A queue pair in the worker thread that it was lent to. The other thread has no part in what it does. */
export class NvmeWorkerQueue {
  /** For programs that submit by themselves: then {@link kick}, and {@link poll} in a loop that does not reach the event loop. */
  readonly queue: NvmeQueue
  /** DMA memory for data: `memoryBytes` of `shareQueue`. */
  readonly memory: SharedMemory
  /** What one command moves at most. */
  readonly maxTransferBytes: number
  /** As of when the queue was lent. */
  readonly namespaces: readonly NamespaceIdentity[]
  readonly #device: SharedDevice
  readonly #holder: LeaseHolder
  readonly #token: NvmeQueueToken
  readonly #watchdog: NodeJS.Timeout
  #line: EventLine | undefined
  #failure: AccelError | undefined
  #polling = false
  #spin: NodeJS.Immediate | undefined
  readonly #spinOnce = () => {
    this.#spin = undefined
    this.poll()
    this.#spinOn()
  }

  /** @internal */
  constructor(device: SharedDevice, token: NvmeQueueToken) {
    const { id, entries, stride } = token
    this.#device = device
    this.#token = token
    this.#holder = new LeaseHolder(device)
    this.memory = device.memory(token.memory)
    this.maxTransferBytes = token.maxTransferBytes
    this.namespaces = token.namespaces
    warmUp()
    this.queue = new NvmeQueue({
      id,
      entries,
      memory: {
        submissions: device.memory(token.submissions),
        completions: device.memory(token.completions),
        lists: device.memory(token.lists),
      },
      doorbells: device.bar(token.doorbells).memory(),
      submissionDoorbell: 0,
      completionDoorbell: stride,
    })
    this.#useShadow()
    this.#watchdog = startWatchdog(token.timeoutMs, () => this.#watch())
    this.#holder.serve({
      pause: () => this.#pause(),
      fail: (error) => this.#fail(error),
      revive: () => {
        this.#failure = undefined
        this.#useShadow()
      },
    })
  }

  /** @internal Waits for interrupts where there are some. */
  async listen(): Promise<void> {
    const { irq } = this.#token
    if (irq === undefined) return
    this.#line = this.#device.event(irq)
    await this.#line.handle(() => this.poll())
  }

  /** Why it takes no work at present: `ERR_ACCEL_AGAIN` during a reset, `ERR_ACCEL_CLOSED`, `ERR_ACCEL_NO_DEVICE`, `ERR_ACCEL_WEDGED`. */
  get failure(): AccelError | undefined {
    return this.#failure
  }

  /** What the queue's vector has seen here; undefined without interrupts. */
  get irqCounts(): IrqCounts | undefined {
    return this.#line?.counts
  }

  /** To be called after submissions, in place of the queue's `ring`: rings, and where nothing interrupts polls until all has ended. Throws {@link failure}. */
  kick(): void {
    this.#sync()
    if (this.#failure !== undefined) throw this.#failure
    this.queue.ring()
    this.#spinOn()
  }

  /** Takes completions, and hears what became of the device. Answers how many there were. */
  poll(): number {
    this.#sync()
    if (this.#failure !== undefined || this.#polling) return 0
    this.#polling = true
    try {
      return this.queue.poll()
    } catch (error) {
      this.#broke(error)
      return 0
    } finally {
      this.#polling = false
    }
  }

  /** Reads blocks into `memory`. Errors: those of a status or a reset, `ERR_ACCEL_OUT_OF_RANGE`, `ERR_ACCEL_AGAIN` where the queue is full. */
  read(transfer: Transfer): Promise<void> {
    return this.#transfer('read', Nvm.read, transfer)
  }

  /** Writes blocks from `memory`. Errors as of {@link read}. */
  write(transfer: Transfer): Promise<void> {
    return this.#transfer('write', Nvm.write, transfer)
  }

  /** Has what was written reach the medium. */
  flush(nsid = 1): Promise<void> {
    return this.#run('flush', (listener) => this.queue.submit(Nvm.flush, nsid, 0, 0, 0, 0, 0, 0, listener))
  }

  /** Gives the queue back. Resolves when the controller has forgotten it. */
  async close(): Promise<void> {
    await this.#holder.close()
  }

  #transfer(what: string, opcode: number, { nsid = 1, lba, blocks, offset = 0 }: Transfer): Promise<void> {
    const namespace = this.namespaces.find((each) => each.nsid === nsid && each.usable)
    const sizeBytes = blocks * (namespace?.blockBytes ?? 0)
    if (
      !(Number.isSafeInteger(lba) && lba >= 0 && Number.isSafeInteger(blocks) && blocks > 0) ||
      BigInt(lba) + BigInt(blocks) > (namespace?.blocks ?? 0n) ||
      sizeBytes > this.maxTransferBytes ||
      !(offset >= 0 && offset % 4 === 0 && offset + sizeBytes <= this.memory.sizeBytes)
    ) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A ${what} of ${blocks} blocks from ${lba} on at offset ${offset}: wanted blocks of namespace ${nsid}, at most ${this.maxTransferBytes} bytes, and an offset of the memory that is a multiple of 4`,
      )
    }
    const address = this.memory.iova + BigInt(offset)
    return this.#run(what, (listener) =>
      this.queue.submit(
        opcode,
        nsid,
        Number(BigInt.asIntN(32, address)),
        Number(BigInt.asIntN(32, address >> 32n)),
        sizeBytes,
        lba | 0,
        Math.floor(lba / 2 ** 32),
        blocks - 1,
        listener,
      ),
    )
  }

  #run(what: string, submit: (listener: CommandListener) => number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sync()
      if (this.#failure !== undefined) throw this.#failure
      const cid = submit({
        completed: (_, status) => (status === 0 ? resolve() : reject(statusError(what, status))),
        failed: (_, error) => reject(error),
      })
      if (cid < 0)
        throw accelError('ERR_ACCEL_AGAIN', `${this.queue.inFlight} commands are under way: wait for one`)
      this.kick()
    })
  }

  /** Not from a listener: a poll still writes the doorbell of what it has taken. */
  #sync(): void {
    if (this.#device.changed && !this.#polling) this.#device.sync()
  }

  #useShadow(): void {
    const { shadow, id, stride } = this.#token
    if (shadow === undefined) return
    warmUp({ shadow: true })
    this.queue.useShadow(shadowFrom(this.#device.memory(shadow), 2 * id * stride))
  }

  #spinOn(): void {
    if (this.#token.irq === undefined && this.#failure === undefined && this.queue.busy)
      this.#spin ??= setImmediate(this.#spinOnce)
  }

  #pause(): void {
    if (this.#failure !== undefined) return
    try {
      this.queue.poll() // what was acknowledged is not lost
    } catch {
      // The reset is what helps.
    }
    this.#failure = resetting()
  }

  #fail(error: AccelError): void {
    // What ends the commands of a reset, as that one of them was late, is not why there can be no others.
    this.#failure = LASTING.has(error.code) ? error : resetting(error)
    if (error.code === 'ERR_ACCEL_CLOSED' || error.code === 'ERR_ACCEL_NO_DEVICE') {
      clearInterval(this.#watchdog)
      clearImmediate(this.#spin)
    }
    failQueue(this.queue, error)
  }

  #watch(): void {
    this.poll()
    if (this.#failure !== undefined) return
    try {
      endLate(this.queue, this.#token.timeoutMs, (cid) => {
        if (this.queue.abort(cid)) this.#holder.say({ abort: cid } satisfies AbortRequest)
      })
    } catch (error) {
      this.#broke(error)
    }
  }

  /** Something that only a reset helps against, which the other thread does; commands end when the device was brought to rest. */
  #broke(error: unknown): void {
    if (!isAccelError(error)) throw error
    this.#failure = resetting(error)
    this.#holder.broke(error)
  }
}

/** Errors after which a queue takes no commands any more. */
const LASTING: ReadonlySet<ErrorCode> = new Set([
  'ERR_ACCEL_CLOSED',
  'ERR_ACCEL_NO_DEVICE',
  'ERR_ACCEL_WEDGED',
])

function resetting(cause?: AccelError): AccelError {
  return accelError(
    'ERR_ACCEL_AGAIN',
    'The NVMe controller is being reset: try again when it is up',
    cause && { cause },
  )
}

/**
 * Opens the queue pair that `Nvme.shareQueue` made for this worker thread, once. Commands go between this thread and the device alone. The
 * queue ends with the device (`ERR_ACCEL_NO_DEVICE`) or its lease (`ERR_ACCEL_CLOSED`); after a reset it goes on.
 */
export async function attachNvmeQueue(token: NvmeQueueToken): Promise<NvmeWorkerQueue> {
  const queue = new NvmeWorkerQueue(attachDevice(token.device), token)
  await queue.listen()
  return queue
}
