import { EventFd, type Watch, watch } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { goneError } from './mmio.js'
import type { DeviceTap } from './tap.js'
import type { IrqType, Transport } from './transport.js'

/** The interrupt kinds that carry work, best first. */
export type VectorType = 'msix' | 'msi' | 'intx'

/** Which interrupts are wanted. */
export interface IrqRequest {
  /** Fewest vectors that will do; default 1. */
  readonly min?: number
  /** Most vectors that are of use; default `min`. */
  readonly max?: number
  /** Acceptable kinds, best first; default MSI-X, MSI, INTx. */
  readonly types?: readonly VectorType[]
}

/** What a vector has seen. */
export interface IrqCounts {
  /** Interrupts that the device fired: several may reach the handler as one call. */
  readonly fired: number
  /** Calls of the handler. */
  readonly handled: number
  /** Interrupts that shared a call with an earlier one: `fired - handled`. */
  readonly coalesced: number
}

/**
 * Runs in the event loop after the vector fired.
 * @param count How often it fired since the last call.
 */
export type IrqHandler = (count: number) => void

/** How long a thread blocks for an interrupt. */
export interface WaitSyncOptions {
  /** 0 only looks. */
  readonly timeoutMs: number
  /**
   * Looks again and again for so long before the thread sleeps: nobody has to wake it then, and its processor does nothing else. Default 0.
   */
  readonly spinUs?: number
}

/** @internal `ERR_ACCEL_INVALID_ARGUMENT` for what is no limit. */
export function checkWait({ timeoutMs, spinUs = 0 }: WaitSyncOptions): void {
  if (timeoutMs >= 0 && timeoutMs < Number.POSITIVE_INFINITY && spinUs >= 0 && spinUs <= timeoutMs * 1000)
    return
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `a wait of ${timeoutMs} ms, of which ${spinUs} us spinning: wanted a limit, and no more spinning than that`,
  )
}

/** @internal A wait beside a handler would take what fired from it. */
export function handledError(what: string): AccelError {
  return accelError(
    'ERR_ACCEL_BUSY',
    `${what} has a handler, which gets what fires: wait for one that has none`,
  )
}

/** Interrupt vectors of a device, each behind an eventfd. They are all of one kind. */
export class IrqVectors {
  readonly type: VectorType
  readonly count: number
  readonly #transport: Transport
  readonly #events: readonly EventFd[]
  readonly #watches: (Watch | undefined)[]
  /** As they were given. */
  readonly #plain: IrqHandler[] = []
  /** What is called: the same, or what tells {@link #tap} before it. */
  readonly #handlers: IrqHandler[] = []
  #tap: DeviceTap | undefined
  readonly #fired: Float64Array
  readonly #handled: Float64Array
  readonly #masked: Uint8Array
  readonly #autoMasked: boolean
  /** Vectors that a wait took an interrupt of, and that were not unmasked since. */
  readonly #toUnmask: Uint8Array
  /** See `Transport.attention`. */
  readonly #attention: readonly number[] | undefined
  #onRelease: (() => void) | undefined
  #released = false
  /** Why the device cannot be reached. */
  #silent: AccelError | undefined

  private constructor(transport: Transport, type: VectorType, events: readonly EventFd[]) {
    this.type = type
    this.count = events.length
    this.#transport = transport
    this.#events = events
    this.#watches = events.map(() => undefined)
    this.#fired = new Float64Array(events.length)
    this.#handled = new Float64Array(events.length)
    this.#masked = new Uint8Array(events.length)
    this.#autoMasked = transport.irqs[type].autoMasked
    this.#toUnmask = new Uint8Array(events.length)
    this.#attention = transport.attention
  }

  /**
   * Takes the first kind of which there are enough vectors, all at once. `ERR_ACCEL_UNSUPPORTED` where the device has
   * too few of every kind.
   */
  static allocate(
    transport: Transport,
    { min = 1, max = min, types = ['msix', 'msi', 'intx'] }: IrqRequest,
  ): IrqVectors {
    if (!Number.isInteger(min) || !Number.isInteger(max) || min < 1 || max < min) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `interrupt vectors: wanted 1 <= min <= max, found min ${min} and max ${max}`,
      )
    }
    for (const type of types) {
      const offered = Math.min(max, transport.irqs[type].count)
      const vectors = offered < min ? undefined : IrqVectors.#arm(transport, type, min, offered)
      if (vectors !== undefined) return vectors
    }
    const offers = types.map((type) => `${transport.irqs[type].count} of ${type}`).join(', ')
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `at least ${min} interrupt vectors were wanted, the device offers ${offers}`,
    )
  }

  static #arm(transport: Transport, type: VectorType, min: number, count: number): IrqVectors | undefined {
    const events: EventFd[] = []
    try {
      for (let i = 0; i < count; i++) events.push(new EventFd())
      transport.setIrqs(
        type,
        events.map((event) => event.fd),
      )
      return new IrqVectors(transport, type, events)
    } catch (error) {
      for (const event of events) event.close()
      const available = isAccelError(error, 'ERR_ACCEL_OUT_OF_RANGE') ? error.details?.available : undefined
      if (typeof available !== 'number' || available >= count) throw error
      return available < min ? undefined : IrqVectors.#arm(transport, type, min, available)
    }
  }

  /**
   * Calls `handler` when vector `vector` fires, in the place of an earlier one; what fired before is delivered at once. INTx is unmasked after the
   * handler returns, unless the driver masked it: it must have acknowledged the device. After a handler that threw the line stays masked, since it
   * would fire again at once, and the exception reaches `uncaughtException`, unless the device was lost under it.
   */
  handle(vector: number, handler: IrqHandler): void {
    this.#check(vector)
    this.#plain[vector] = handler
    this.#handlers[vector] = this.#followed(vector, handler)
    // The watch stays when the handler changes: in a worker thread, the last one to be closed ends the thread that waits.
    const event = this.#events[vector]
    this.#watches[vector] ??= watch(event.fd, () => {
      const count = event.drain()
      if (count === 0 || this.#silent !== undefined) return
      this.#fired[vector] += count
      this.#handled[vector]++
      try {
        this.#handlers[vector](count)
        if (this.#autoMasked && !this.#released && this.#masked[vector] === 0)
          this.#transport.unmaskIrq(this.type, vector)
      } catch (error) {
        // The loss is told to whoever waits for the device; here it is nobody's mistake.
        if (this.#silent === undefined || !isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
      }
    })
    // What arms it again later unmasks it, too.
    if (this.#silent === undefined) this.#unmaskTaken(vector)
  }

  /**
   * Blocks this thread until a vector fires, as a program does that has nothing else to do: the shortest way from the device to its driver.
   * Answers how often it fired; 0 where it did not within the limit, or something wants the event loop first: a loss, a request for
   * the device, a signal. Give the event loop a turn then (`await`), or it stays 0. INTx is unmasked by the next wait, or by `handle`.
   *
   * `ERR_ACCEL_NO_DEVICE` while the device cannot be reached, `ERR_ACCEL_BUSY` for a vector with a handler, and `ERR_ACCEL_UNSUPPORTED`
   * where interrupts take a turn of the event loop themselves (loopback, UIO).
   */
  waitSync(vector: number, options: WaitSyncOptions): number {
    this.#check(vector)
    checkWait(options)
    if (this.#silent !== undefined) throw goneError('the interrupt vectors', this.#silent)
    if (this.#watches[vector] !== undefined) throw handledError(`interrupt vector ${vector}`)
    if (this.#attention === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `interrupts over ${this.#transport.identity.kind} come by way of the event loop, which a wait would keep them from: use handle()`,
      )
    }
    this.#unmaskTaken(vector)
    const count = this.#events[vector].waitSync(options.timeoutMs, options.spinUs, this.#attention)
    if (count === 0) return 0
    this.#fired[vector] += count
    this.#handled[vector]++
    this.#tap?.irq(vector, count)
    if (this.#autoMasked) this.#toUnmask[vector] = 1
    return count
  }

  /** @internal Has a tap follow what fires in this thread, or nobody. */
  follow(tap: DeviceTap | undefined): void {
    this.#tap = tap
    for (const [vector, handler] of this.#plain.entries())
      if (handler !== undefined) this.#handlers[vector] = this.#followed(vector, handler)
  }

  #followed(vector: number, handler: IrqHandler): IrqHandler {
    const tap = this.#tap
    if (tap === undefined) return handler
    return (count) => {
      tap.irq(vector, count)
      handler(count)
    }
  }

  /** Unmasks what a wait has left masked, for the driver to acknowledge the device first. */
  #unmaskTaken(vector: number): void {
    const taken = this.#toUnmask[vector] !== 0
    this.#toUnmask[vector] = 0
    if (taken && this.#masked[vector] === 0) this.#transport.unmaskIrq(this.type, vector)
  }

  /** @internal Stops handling a vector here. Answers its eventfd, for another thread to wait for. */
  handOver(vector: number): number {
    this.#check(vector)
    if (this.#autoMasked) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.type} has to be unmasked after each interrupt, through the transport, which belongs to the thread that opened the device`,
      )
    }
    this.#watches[vector]?.close()
    this.#watches[vector] = undefined
    return this.#events[vector].fd
  }

  /**
   * Keeps a vector from firing, also over a reset; the device's interrupt stays pending. `ERR_ACCEL_UNSUPPORTED` where the
   * transport cannot: the kernel's VFIO masks INTx only.
   */
  mask(vector: number): void {
    this.#check(vector)
    this.#transport.maskIrq(this.type, vector)
    this.#masked[vector] = 1
  }

  unmask(vector: number): void {
    this.#check(vector)
    this.#transport.unmaskIrq(this.type, vector)
    this.#masked[vector] = 0
    this.#toUnmask[vector] = 0
  }

  /** True where {@link trigger} can work. */
  get canTrigger(): boolean {
    return this.#transport.triggerIrq !== undefined
  }

  /**
   * Fires a vector in the device's stead, by the kernel or the server behind the device: who then hears of it has everything right but the
   * device's own message. `ERR_ACCEL_UNSUPPORTED` where the transport offers no such thing (UIO).
   */
  trigger(vector: number): void {
    this.#check(vector)
    if (this.#silent !== undefined) throw goneError('the interrupt vectors', this.#silent)
    if (this.#transport.triggerIrq === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `an interrupt was to be fired without the device, which ${this.#transport.identity.kind} does not offer: have the device fire one`,
      )
    }
    this.#transport.triggerIrq(this.type, vector)
  }

  /** Whether this thread counts what a vector sees: it has a handler here. */
  counted(vector: number): boolean {
    this.#check(vector)
    return this.#watches[vector] !== undefined
  }

  /** What a vector has seen so far. */
  counts(vector: number): IrqCounts {
    this.#check(vector)
    const [fired, handled] = [this.#fired[vector], this.#handled[vector]]
    return { fired, handled, coalesced: fired - handled }
  }

  /** Keeps handlers from running while the device cannot be reached: what they would touch is not there. */
  silence(reason: AccelError): void {
    this.#silent = reason
  }

  /** Arms the vectors again after a reset or sleep, which took the triggers away. What fired before is forgotten. */
  rearm(): void {
    for (const event of this.#events) event.drain()
    this.#transport.setIrqs(
      this.type,
      this.#events.map((event) => event.fd),
    )
    for (const [vector, masked] of this.#masked.entries()) {
      if (masked !== 0) this.#transport.maskIrq(this.type, vector)
    }
    this.#toUnmask.fill(0)
    this.#silent = undefined
  }

  /** @internal Called once at release. */
  set onRelease(listener: () => void) {
    this.#onRelease = listener
  }

  /** Takes the vectors back; no handler runs any more. Idempotent. */
  release(): void {
    if (this.#released) return
    this.#released = true
    for (const watching of this.#watches) watching?.close()
    try {
      this.#transport.disableIrqs(this.type satisfies IrqType)
    } finally {
      for (const event of this.#events) event.close()
      this.#onRelease?.()
    }
  }

  [Symbol.dispose](): void {
    this.release()
  }

  #check(vector: number): void {
    if (this.#released) throw accelError('ERR_ACCEL_NO_DEVICE', 'the interrupt vectors were released')
    if (Number.isInteger(vector) && vector >= 0 && vector < this.count) return
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `interrupt vector ${vector}: the driver holds ${this.count}, from 0 on`,
    )
  }
}
