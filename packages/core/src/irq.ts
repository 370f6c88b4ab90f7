import { EventFd, type Watch, watch } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'
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

/** Interrupt vectors of a device, each behind an eventfd. They are all of one kind. */
export class IrqVectors {
  readonly type: VectorType
  readonly count: number
  readonly #transport: Transport
  readonly #events: readonly EventFd[]
  readonly #watches: (Watch | undefined)[]
  readonly #handlers: IrqHandler[] = []
  readonly #fired: Float64Array
  readonly #handled: Float64Array
  readonly #masked: Uint8Array
  readonly #autoMasked: boolean
  #onRelease: (() => void) | undefined
  #released = false
  #silent = false

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
    this.#handlers[vector] = handler
    // The watch stays when the handler changes: in a worker thread, the last one to be closed ends the thread that waits.
    const event = this.#events[vector]
    this.#watches[vector] ??= watch(event.fd, () => {
      const count = event.drain()
      if (count === 0 || this.#silent) return
      this.#fired[vector] += count
      this.#handled[vector]++
      try {
        this.#handlers[vector](count)
        if (this.#autoMasked && !this.#released && this.#masked[vector] === 0)
          this.#transport.unmaskIrq(this.type, vector)
      } catch (error) {
        // The loss is told to whoever waits for the device; here it is nobody's mistake.
        if (!this.#silent || !isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
      }
    })
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
  silence(): void {
    this.#silent = true
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
    this.#silent = false
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
