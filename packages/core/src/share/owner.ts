import { MessageChannel, type MessagePort } from 'node:worker_threads'
import type { DmaRegion } from '@uaccel/memory'
import { EventFd, type SharedRange, sys, type WatchHelper } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { IrqVectors } from '../irq.js'
import type { BarWindow } from '../mmio.js'
import { EventLine } from './event-line.js'
import {
  CHANGES,
  CLAIM,
  Claim,
  type OwnerMessage,
  type PlacedWindow,
  type SentError,
  type SharedBarToken,
  type SharedEventToken,
  type SharedMemoryToken,
  type ShareToken,
  TAKEN_BACK,
  type View,
  type WorkerMessage,
} from './tokens.js'

/** A window that the device opened for a share alone. */
export interface OpenWindow {
  readonly window: BarWindow
  close(): void
}

/** What a share needs of its device. */
export interface ShareHost {
  readonly name: string
  readonly signal: AbortSignal
  /** Maps every mappable part of a range of a BAR; throws where there is none. */
  open(
    index: number,
    offset: number,
    sizeBytes: number | undefined,
  ): { label: string; sizeBytes: number; windows: OpenWindow[] }
  /** The share is of no use any more. */
  ended(share: DeviceShare): void
}

/** A part of a BAR to be shared. */
export interface ShareBarOptions {
  /** Bytes from the start of the BAR, a multiple of 8; default 0. */
  readonly offset?: number
  /** Default: up to the end of the BAR. */
  readonly sizeBytes?: number
}

/**
 * What one worker thread gets of an open device: made by `Device.share`, opened there by `attachDevice`. The device stays this
 * thread's: a reset, a loss or a release reaches the worker as it reaches the driver here. Its views turn inert in the moment
 * in which the mapping is taken back, and throw as soon as it has heard why.
 */
export class DeviceShare {
  readonly token: ShareToken
  /** For `postMessage(message, transfer)` or `transferList` of a new worker. */
  readonly transfer: readonly MessagePort[]
  readonly #host: ShareHost
  readonly #port: MessagePort
  readonly #words = new Int32Array(new SharedArrayBuffer(12))
  readonly #wake = new EventFd()
  readonly #ranges = new Map<number, SharedRange>()
  readonly #windows = new Map<number, OpenWindow>()
  readonly #events: EventLine[] = []
  readonly #fds: number[] = []
  readonly #forget = new Set<() => void>()
  readonly #detached: Promise<void>
  #settle: () => void = () => {}
  #onMessage: (value: unknown) => void = () => {}
  #helper: WatchHelper | undefined
  #lastId = 0
  #ended = false

  /** @internal */
  constructor(host: ShareHost) {
    this.#host = host
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    this.token = { kind: 'device', name: host.name, words: this.#words, wake: this.#wake.fd, port: port2 }
    this.transfer = [port2]
    this.#detached = new Promise((resolve) => {
      this.#settle = resolve
    })
    port1.on('message', (message: WorkerMessage) => this.#receive(message))
    port1.on('close', () => this.#closed())
    port1.unref()
    const gone = () => this.#end(host.signal.reason as AccelError)
    host.signal.addEventListener('abort', gone)
    this.#forget.add(() => host.signal.removeEventListener('abort', gone))
  }

  /** Resolves when the worker has let go: it said so, it ended, or it never took the token. */
  get detached(): Promise<void> {
    return this.#detached
  }

  /** True from when a worker took the token. */
  get taken(): boolean {
    return Atomics.load(this.#words, CLAIM) === Claim.TAKEN
  }

  /** Whether waiting for {@link detached} keeps the process alive. It does not, unless told. */
  ref(): this {
    this.#port.ref()
    return this
  }

  /**
   * Maps the mappable parts of a BAR for the worker. `ERR_ACCEL_UNSUPPORTED` where there are none: accesses by calls go through
   * the transport, which belongs to this thread. Other errors as for `Device.mapMemory`.
   */
  bar(index: number, { offset = 0, sizeBytes }: ShareBarOptions = {}): SharedBarToken {
    this.#checkLive()
    const opened = this.#host.open(index, offset, sizeBytes)
    const areas = opened.windows.map((open) => {
      const id = ++this.#lastId
      this.#windows.set(id, open)
      const { region, area } = open.window
      return { window: id, region, offset: area.offset, sizeBytes: area.sizeBytes }
    })
    this.#place(areas.map(({ window }) => window))
    return { kind: 'bar', label: opened.label, offset, sizeBytes: opened.sizeBytes, areas }
  }

  /**
   * Lets the worker use memory that was allocated with `separate: true`: of an arena it would still see what others get after this
   * was freed. `free()` it only when the device is done with it; the worker's views are inert from then on.
   */
  memory(region: DmaRegion): SharedMemoryToken {
    this.#checkLive()
    if (!region.separate) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `DMA region ${region.name} lies in an arena, beside memory of others: allocate it with { separate: true } to share it`,
      )
    }
    const view = this.#view(region.buffer.share())
    const forget = region.buffer.onDestroy(() => {
      this.#forget.delete(forget)
      this.#post({ kind: 'revoked', id: view.id })
    })
    this.#forget.add(forget)
    return { kind: 'memory', name: region.name, view, sizeBytes: region.sizeBytes, iova: region.iova }
  }

  /** Has an interrupt vector fire in the worker and no longer here, until `irqs.handle` takes it back. */
  vector(irqs: IrqVectors, vector: number): SharedEventToken {
    this.#checkLive()
    // A descriptor of its own: the number of a closed one would soon be somebody else's, and the worker may be late.
    const fd = sys.dup(irqs.handOver(vector))
    this.#fds.push(fd)
    return { kind: 'event', fd }
  }

  /** A line between the two threads that needs no message: either side may signal it, the other handles it. */
  event(): { readonly token: SharedEventToken; readonly line: EventLine } {
    this.#checkLive()
    const line = new EventLine()
    this.#events.push(line)
    return { token: { kind: 'event', fd: line.fd }, line }
  }

  /** Sends what the driver wants to say; it reaches `SharedDevice.onMessage`, also from within `sync`. Nothing, once the share has ended. */
  post(value: unknown): void {
    if (!this.#ended) this.#post({ kind: 'driver', value })
  }

  /** Called with what the worker's side posts. */
  set onMessage(listener: (value: unknown) => void) {
    this.#onMessage = listener
  }

  /** Takes everything back. The worker is told with `ERR_ACCEL_CLOSED`; its views are inert at once. Idempotent. */
  close(): void {
    this.#end(accelError('ERR_ACCEL_CLOSED', `${this.#host.name} was taken back from the worker thread`))
  }

  /** @internal The BARs are about to be unmapped, for a reset. */
  suspend(reason: AccelError): void {
    if (!this.#ended) this.#post({ kind: 'away', reason: sent(reason) })
  }

  /** @internal The BARs are mapped again. */
  resume(): void {
    if (!this.#ended) this.#place([...this.#windows.keys()], true)
  }

  #place(ids: readonly number[], back = false): void {
    const windows: PlacedWindow[] = ids.map((window) => ({
      window,
      view: this.#view(this.#windows.get(window)!.window.share()),
    }))
    this.#post({ kind: 'placed', windows, back })
  }

  #view(range: SharedRange): View {
    const id = ++this.#lastId
    this.#ranges.set(id, range)
    return { id, address: range.address, sizeBytes: range.sizeBytes }
  }

  #post(message: OwnerMessage): void {
    this.#port.postMessage(message)
    // After the message: whoever sees the new count finds it.
    Atomics.add(this.#words, CHANGES, 1)
    this.#wake.signal()
  }

  #receive(message: WorkerMessage): void {
    if (message.kind === 'driver') this.#onMessage(message.value)
    else if (message.kind === 'collected') this.#release(message.id)
    else if (message.kind === 'watching') this.#helper = message.helper
    else {
      this.#helper = undefined
      this.#letGo()
    }
  }

  #end(reason: AccelError): void {
    if (this.#ended) return
    Atomics.store(this.#words, TAKEN_BACK, 1)
    this.#post({ kind: 'gone', reason: sent(reason) })
    this.#ended = true
    for (const forget of this.#forget) forget()
    this.#forget.clear()
    for (const { close } of this.#windows.values()) close()
    this.#windows.clear()
    // A token that nobody took yet is worth nothing from now on. Otherwise the worker says when it is done, or its end does.
    const claim = Atomics.compareExchange(this.#words, CLAIM, Claim.OFFERED, Claim.WITHDRAWN)
    if (claim === Claim.OFFERED) this.#port.close()
    this.#host.ended(this)
  }

  /** The worker uses no descriptor any more. */
  #letGo(): void {
    this.close()
    for (const line of this.#events.splice(0)) line.close()
    for (const fd of this.#fds.splice(0)) sys.close(fd)
    this.#wake.close()
    this.#port.unref()
    this.#settle()
  }

  /** The worker has ended, or nothing of it holds a view. */
  #closed(): void {
    this.#letGo()
    for (const id of [...this.#ranges.keys()]) this.#release(id)
    const { descriptors, closed } = this.#helper ?? { descriptors: [], closed: new Int32Array(2) }
    for (const [i, fd] of descriptors.entries()) {
      if ((Atomics.or(closed, 1, 1 << i) & (1 << i)) === 0) sys.close(fd)
    }
  }

  #release(id: number): void {
    this.#ranges.get(id)?.release()
    this.#ranges.delete(id)
  }

  #checkLive(): void {
    if (this.#ended)
      throw accelError('ERR_ACCEL_CLOSED', `The share of ${this.#host.name} has ended: make another one`)
  }
}

function sent({ code, message }: AccelError): SentError {
  return { code, message }
}
