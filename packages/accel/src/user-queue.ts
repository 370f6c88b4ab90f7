import { EventFd, sys, type Watch, watch } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { BufferObject } from './buffer-object.js'
import type { CommandContext } from './driver.js'
import type { JobRange } from './job.js'
import { within } from './limit.js'
import type { Open } from './open.js'

type MaybePromise<T> = T | Promise<T>

/** A part of a file for a client to map. The descriptor stays whose it is: clients get duplicates. */
export interface FilePart {
  readonly fd: number
  readonly offset: number
  readonly sizeBytes: number
}

/** What a client wants of a queue that it is to fill itself. */
export interface QueueRequest {
  /** Names it in messages: `queue 2 of open 3`. */
  readonly label: string
  /** How many entries its rings are to have; more than 0. */
  readonly entries: number
  /** All that the device may touch for it; checked, mapped, and kept until {@link UserQueue.stop} has resolved. */
  readonly ranges: readonly JobRange[]
  /** In the driver's own form; as hostile as whoever sent it. */
  readonly payload: Uint8Array
  /** Has the client look: work of the queue was completed, or the queue has failed. Nothing once the queue is gone. */
  readonly notify: () => void
}

/** A queue that a client fills without the driver. What is in its rings, and at its doorbell, is the client's and may be anything. */
export interface UserQueue {
  /** Memory that only this queue and this client use, in a file that cannot shrink. */
  readonly rings: FilePart
  readonly doorbell: FilePart
  /** What the client has to know to use them, in the driver's own form. */
  readonly payload: Uint8Array
  /** The client says that the device has to be woken. At any rate, and for no reason. */
  kick?(): void
  /**
   * Stops the queue, whatever its client does meanwhile, and settles when the device is done with its rings and ranges. Where it
   * rejects, the device is recovered before their memory is let go. Called once.
   */
  stop(): MaybePromise<void>
}

/** A driver's offer of queues that clients fill. */
export interface UserQueues {
  /**
   * True where the device holds each queue to its ranges, whatever its descriptors say. Without that a client may have a
   * queue only where nothing is mapped for the device but what it named itself.
   */
  readonly bounded: boolean
  /** Makes a queue and starts it. `ERR_ACCEL_BUSY` where the device has no more, `ERR_ACCEL_UNSUPPORTED` where it cannot be handed out. */
  create(request: QueueRequest, context: CommandContext): MaybePromise<UserQueue>
}

/** What queues of clients need from their node. */
export interface QueueHost {
  readonly limits: { readonly recoverMs: number }
  /** Brings the device to idle after what has that name. False where the device did not come back. Never rejects. */
  recover(label: string): Promise<boolean>
  /** Something went wrong that no client is told of. */
  report(what: string, cause: unknown): void
}

/** A queue that belongs to an open, from when it was asked for until the device is done with it. */
export class LiveQueue {
  readonly open: Open
  readonly label: string
  readonly objects: readonly BufferObject[]
  readonly #host: QueueHost
  readonly #over: () => void
  #event: EventFd | undefined
  #kicks: { readonly event: EventFd; readonly watching: Watch } | undefined
  #starting: Promise<UserQueue> | undefined
  #made: UserQueue | undefined
  #stopping: Promise<void> | undefined
  #gone = false

  /** @param over Told once, when the device is done with it. */
  constructor(
    open: Open,
    label: string,
    objects: readonly BufferObject[],
    host: QueueHost,
    over: () => void,
  ) {
    this.open = open
    this.label = label
    this.objects = objects
    this.#host = host
    this.#over = over
    for (const object of objects) object.hold()
  }

  /** Has the driver make it. Where that fails, or nobody wants it any more, it is stopped. */
  async start(
    offer: UserQueues,
    request: Omit<QueueRequest, 'label' | 'notify'>,
    context: CommandContext,
  ): Promise<void> {
    const whole = { ...request, label: this.label, notify: () => this.#notify() }
    try {
      this.#starting = Promise.resolve().then(() => offer.create(whole, context))
      this.#made = await this.#starting
      context.signal.throwIfAborted()
      if (this.#stopping) throw this.open.closed
      this.#listen(this.#made)
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** What the client gets, in descriptors that stay this queue's: duplicate them. */
  get parts() {
    const { rings, doorbell, payload } = this.#made!
    return { rings, doorbell, payload, kick: this.#kicks!.event.fd }
  }

  /** The eventfd that is signalled for the client: always the same. */
  get event(): EventFd {
    // The client has it too, and may make it blocking or full: see EventFd.
    this.#event ??= new EventFd(sys, sys.eventfd(0))
    return this.#event
  }

  /** Stops the queue; resolves when the device is done with it, or is being recovered because it does not say so. Never rejects. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** The device was released. @param keepMemory Nothing keeps it from that memory: nobody gets it again. */
  end({ keepMemory }: { readonly keepMemory: boolean }): void {
    if (keepMemory && !this.#gone) for (const object of this.objects) object.keep()
    this.#letGo()
  }

  async #stop(): Promise<void> {
    const idle = await this.#idle()
    this.#kicks?.watching.close()
    this.#kicks?.event.close()
    this.#notify()
    this.#event?.close()
    this.#event = undefined
    if (idle) this.#letGo()
    // Not awaited: a reset that is under way may be what waits for this.
    else
      void this.#host.recover(this.label).then((back) => {
        if (back) this.#letGo()
      })
  }

  /** Whether the device is done with it. */
  async #idle(): Promise<boolean> {
    try {
      const made = await this.#starting
      if (made)
        await within(Promise.resolve(made.stop()), this.#host.limits.recoverMs, `stop of ${this.label}`)
      return true
    } catch (error) {
      // What was never made leaves nothing behind.
      if (this.#made === undefined) return true
      // A removal is told to all; only the release of the device says when it is done with this memory.
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE'))
        this.#host.report(`${this.label} was not stopped cleanly`, error)
      return false
    }
  }

  #listen(made: UserQueue): void {
    const event = new EventFd(sys, sys.eventfd(0))
    const kicked = () => {
      if (event.drain() === 0 || this.#stopping) return
      try {
        made.kick?.()
      } catch (error) {
        // In the event loop it would end the process: kicks come at any moment, in the middle of a reset too.
        this.#host.report(`${this.label} was not woken`, error)
      }
    }
    this.#kicks = { event, watching: watch(event.fd, kicked, { ref: false }) }
  }

  #notify(): void {
    this.#event?.signal()
  }

  #letGo(): void {
    if (this.#gone) return
    this.#gone = true
    for (const object of this.objects) {
      try {
        object.letGo()
      } catch (error) {
        this.#host.report(`Memory of ${this.label} was not given back cleanly`, error)
      }
    }
    this.#over()
  }
}

/** The queues of a device that clients fill. All are of one open: their doorbells lie in one file, which cannot be taken back. */
export class NodeQueues {
  readonly #name: string
  readonly #live = new Set<LiveQueue>()
  readonly #deferred = new WeakSet<Open>()

  /** @param name Of the node. */
  constructor(name: string) {
    this.#name = name
  }

  /** `ERR_ACCEL_BUSY` naming who has a queue; `ERR_ACCEL_AGAIN` while one of an open that is gone is being stopped. */
  checkFree(opener?: Open): void {
    for (const { open } of this.#live) {
      if (open !== opener) throw open.signal.aborted ? this.#cleaning() : this.#held(open)
    }
  }

  /** Takes a place for a queue. It goes with its open. */
  add(
    open: Open,
    label: string,
    objects: readonly BufferObject[],
    host: QueueHost,
    over: () => void,
  ): LiveQueue {
    this.checkFree(open)
    if (!this.#deferred.has(open)) {
      this.#deferred.add(open)
      open.defer(() => this.#close(open))
    }
    const queue: LiveQueue = new LiveQueue(open, label, objects, host, () => {
      this.#live.delete(queue)
      over()
    })
    this.#live.add(queue)
    return queue
  }

  /** The device was released. */
  end(how: { readonly keepMemory: boolean }): void {
    for (const queue of [...this.#live]) queue.end(how)
  }

  async #close(open: Open): Promise<void> {
    await Promise.all([...this.#live].map((queue) => (queue.open === open ? queue.stop() : undefined)))
  }

  #held({ id, peer, record }: Open): AccelError {
    const who = peer ? `process ${peer.pid} of user ${peer.uid}` : 'this process'
    return accelError(
      'ERR_ACCEL_BUSY',
      `${this.#name} is exclusive while a client fills a queue of it: ${who} does, by open ${id}. End that one first`,
      { details: { open: id, openedNs: record.openedNs, ...(peer && { pid: peer.pid, uid: peer.uid }) } },
    )
  }

  #cleaning(): AccelError {
    return accelError(
      'ERR_ACCEL_AGAIN',
      `A queue of ${this.#name} is being stopped after its last user: try again`,
    )
  }
}
