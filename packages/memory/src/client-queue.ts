import { closeAll, EventFd, Mapping, requireSealed, sys, type Watch, watch } from '@uaccel/sys'
import {
  type AccelError,
  accelError,
  type DeviceClient,
  type Handle,
  isAccelError,
  type Uapi,
} from '@uaccel/uapi'
import { MemoryViews } from './views.js'

/** Whatever opened a device: in the driver's process, or in another. */
export type QueueOpener = Pick<DeviceClient<Uapi>, 'common' | 'lost'>

/** A part of a buffer object that a queue may touch; all of it unless told. */
export interface QueueRange {
  readonly buffer: { readonly handle: Handle<'bo'>; readonly sizeBytes: number }
  /** What the device may do there; default `readwrite`. */
  readonly access?: 'read' | 'write' | 'readwrite'
  readonly offset?: number
  readonly sizeBytes?: number
}

/** How a queue is wanted. */
export interface QueueOptions {
  /** Of its rings. */
  readonly entries: number
  /** All that the queue may touch. */
  readonly buffers: readonly QueueRange[]
  /** In the driver's form. */
  readonly payload?: Uint8Array
}

/** The page of a device to which the doorbells of one queue belong. */
export class QueueDoorbell {
  #words: Int32Array

  /** @internal */
  constructor(words: Int32Array) {
    this.#words = words
  }

  /** Exactly one store, `offset` bytes into the page. Nothing, once the queue is closed. */
  write32(offset: number, value: number): void {
    this.#words[offset >> 2] = value
  }

  /** @internal The queue is gone: the page may be another's. */
  detach(): void {
    this.#words = new Int32Array(this.#words.length)
  }
}

/** The rings of a queue, as its client sees them. */
class QueueRings extends MemoryViews {
  readonly #mapping: Mapping
  readonly #offset: number

  constructor(mapping: Mapping, offset: number, sizeBytes: number) {
    super(sizeBytes)
    this.#mapping = mapping
    this.#offset = offset
  }

  protected override bytes(): Uint8Array {
    if (!this.#mapping.revoked)
      return this.#mapping.window.u8.subarray(this.#offset, this.#offset + this.sizeBytes)
    throw accelError('ERR_ACCEL_REVOKED', 'The rings of a queue were touched after it was closed')
  }
}

/** A queue of a device that this program fills itself. Made by {@link openQueue}; the driver's package knows its rings. */
export class ClientQueue {
  readonly handle: Handle<'queue'>
  /** Both rings, and what else the driver puts there. */
  readonly rings: MemoryViews
  readonly doorbell: QueueDoorbell
  /** What the driver says of them, in its own form. */
  readonly payload: Uint8Array
  /** Resolves with the reason when the device is lost. Never rejects. */
  readonly lost: Promise<AccelError>
  readonly #opener: QueueOpener
  readonly #mappings: readonly Mapping[]
  readonly #kick: EventFd
  #event: { readonly fd: EventFd; readonly watching: Watch } | undefined
  #closing: Promise<void> | undefined

  /** @internal */
  constructor(opener: QueueOpener, parts: Parts) {
    const { handle, payload, rings, ringsAt, ringsBytes, doorbell, kick } = parts
    this.#opener = opener
    this.lost = opener.lost
    this.handle = handle
    this.payload = payload
    this.rings = new QueueRings(rings, ringsAt, ringsBytes)
    this.doorbell = new QueueDoorbell(doorbell.window.i32)
    this.#mappings = [rings, doorbell]
    this.#kick = kick
  }

  /** Has the device woken. A system call: only where the driver's form says that it sleeps. */
  kick(): void {
    if (this.#closing === undefined) this.#kick.signal()
  }

  /** Calls `handler` in the event loop after work was completed, or the queue has failed. Keeps no process alive. Once. */
  async onEvent(handler: () => void): Promise<void> {
    const { fd } = await this.#opener.common('queueEvent', { handle: this.handle, flags: {} })
    const event = new EventFd(sys, given(fd, 'queueEvent'))
    if (this.#closing !== undefined) {
      event.close()
      return
    }
    const watching = watch(event.fd, () => event.drain() > 0 && handler(), { ref: false })
    this.#event = { fd: event, watching }
  }

  /**
   * Has the queue stopped. When it resolves the device is done with it, and its doorbell is another's; the rings can be read until
   * {@link unmap}. Idempotent.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Takes the rings out of this program. The queue was closed, or went with its open. Idempotent. */
  unmap(): void {
    this.doorbell.detach()
    for (const mapping of this.#mappings) mapping.revoke()
  }

  async #close(): Promise<void> {
    // Before the device may give it to another queue: a stop waits for no doorbell.
    this.doorbell.detach()
    try {
      await this.#opener.common('queueDestroy', { handle: this.handle })
    } catch (error) {
      // It went with its open.
      if (!isAccelError(error, 'ERR_ACCEL_CLOSED') && !isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    } finally {
      this.#event?.watching.close()
      this.#event?.fd.close()
      this.#kick.close()
    }
  }
}

interface Parts {
  readonly handle: Handle<'queue'>
  readonly payload: Uint8Array
  readonly rings: Mapping
  readonly ringsAt: number
  readonly ringsBytes: number
  readonly doorbell: Mapping
  readonly kick: EventFd
}

const PAGE_BYTES = 4096

/**
 * Makes a queue and maps its rings and its doorbell. The open has to be the only one of its device.
 * Errors: those of `queueCreate`, `ERR_ACCEL_PROTOCOL` for an answer without descriptors, `ERR_ACCEL_INVALID_ARGUMENT` for files
 * that could shrink under this program.
 */
export async function openQueue(
  opener: QueueOpener,
  { entries, buffers, payload = new Uint8Array() }: QueueOptions,
): Promise<ClientQueue> {
  const answer = await opener.common('queueCreate', {
    entries,
    flags: {},
    payload,
    buffers: buffers.map(({ buffer, access = 'readwrite', offset = 0, sizeBytes }) => ({
      handle: buffer.handle,
      access,
      offset: BigInt(offset),
      sizeBytes: BigInt(sizeBytes ?? buffer.sizeBytes - offset),
    })),
  })
  const { handle, ringsPart, doorbellPart } = answer
  const mappings: Mapping[] = []
  const fds = [answer.rings, answer.doorbell, answer.kick].filter((fd) => fd !== null)
  try {
    // Rings may begin within a page; a doorbell is a page of its own.
    const ringsAt = Number(ringsPart.offset % BigInt(PAGE_BYTES))
    const ringsBytes = Number(ringsPart.sizeBytes)
    const rings = map(given(answer.rings, 'rings'), Number(ringsPart.offset) - ringsAt, ringsAt + ringsBytes)
    mappings.push(rings)
    const doorbell = map(
      given(answer.doorbell, 'doorbell'),
      Number(doorbellPart.offset),
      Number(doorbellPart.sizeBytes),
    )
    mappings.push(doorbell)
    const kick = new EventFd(sys, given(answer.kick, 'kick'))
    closeAll(fds.filter((fd) => fd !== kick.fd))
    return new ClientQueue(opener, {
      handle,
      payload: answer.payload,
      rings,
      ringsAt,
      ringsBytes,
      doorbell,
      kick,
    })
  } catch (error) {
    for (const mapping of mappings) mapping.revoke()
    closeAll(fds)
    await opener.common('queueDestroy', { handle }).catch(() => {}) // it goes with the open at the latest
    throw error
  }
}

function map(fd: number, offset: number, sizeBytes: number): Mapping {
  const whole = Math.ceil(sizeBytes / PAGE_BYTES) * PAGE_BYTES
  requireSealed(fd, offset + whole)
  return Mapping.map({ fd, offset, sizeBytes: whole, dontFork: true, label: 'a queue' })
}

function given(fd: number | null, what: string): number {
  if (fd !== null) return fd
  throw accelError('ERR_ACCEL_PROTOCOL', `queueCreate gave no descriptor for ${what}`)
}
