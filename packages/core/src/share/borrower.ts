import { receiveMessageOnPort } from 'node:worker_threads'
import { type Iova, MemoryViews } from '@uaccel/memory'
import { EventFd, mappingFromAddress, sys, type Window } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { Mapped, Place, Trap } from '../accessors.js'
import type { IrqHandler, WaitSyncOptions } from '../irq.js'
import { BarWindow, buildBar, contains, MappedMmio, type Mmio } from '../mmio.js'
import type { RegisterEntry, RegisterMap } from '../registers.js'
import { EventLine } from './event-line.js'
import {
  CHANGES,
  CLAIM,
  Claim,
  type OwnerMessage,
  type SentError,
  type SharedArea,
  type SharedBarToken,
  type SharedEventToken,
  type SharedMemoryToken,
  type ShareToken,
  TAKEN_BACK,
  type View,
  type WorkerMessage,
} from './tokens.js'

/** DMA memory of a device, in a worker thread. Its views throw `ERR_ACCEL_REVOKED` once it was freed. */
export class SharedMemory extends MemoryViews {
  readonly name: string
  readonly iova: Iova
  #bytes: Uint8Array | undefined

  /** @internal */
  constructor({ name, iova, sizeBytes }: SharedMemoryToken, window: Window) {
    super(sizeBytes)
    this.name = name
    this.iova = iova as Iova
    this.#bytes = window.u8.subarray(0, sizeBytes)
  }

  /** @internal */
  revoke(): void {
    this.#bytes = undefined
  }

  protected override bytes(): Uint8Array {
    if (this.#bytes === undefined)
      throw accelError('ERR_ACCEL_REVOKED', `DMA region ${this.name} was freed and then touched`)
    return this.#bytes
  }
}

/** The mapped parts of a BAR, in a worker thread. */
export interface SharedBar {
  /** Accessors for the registers. Those outside of the shared parts throw `ERR_ACCEL_UNSUPPORTED` when they are touched. */
  registers<D>(map: RegisterMap<D>): Mapped<D>
  /** The shared part by offset. `ERR_ACCEL_UNSUPPORTED` where not all of it is mapped. */
  memory(): Mmio
}

/**
 * A device that another thread opened: what its `DeviceShare` gave is opened here. All of it is used without that thread. What happens
 * to the device is told by messages, which {@link sync} takes without waiting for the event loop.
 */
export class SharedDevice {
  readonly name: string
  readonly #token: ShareToken
  readonly #abort = new AbortController()
  readonly #windows = new Map<number, BarWindow>()
  readonly #placed = new Map<number, View>()
  readonly #memories = new Map<number, SharedMemory>()
  readonly #revoked = new Set<number>()
  readonly #lines: EventLine[] = []
  readonly #wake: EventFd
  #views = 0
  #seen = 0
  #away: AccelError | undefined
  #detached = false
  #onMessage: ((value: unknown) => void) | undefined
  readonly #unheard: unknown[] = []

  /** @internal */
  constructor(token: ShareToken) {
    this.name = token.name
    this.#token = token
    this.#wake = new EventFd(sys, token.wake)
    const { port } = token
    port.on('message', (message: OwnerMessage) => this.#apply(message))
    port.on('close', () =>
      this.#lose({ code: 'ERR_ACCEL_NO_DEVICE', message: `${this.name} was closed by its thread` }),
    )
    port.unref()
    this.sync()
  }

  /** Aborted when the device was released, lost or taken back, with the reason. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** True where the owner announced something that was not applied yet. One load: for loops that never reach the event loop. */
  get changed(): boolean {
    return this.#token.words[CHANGES] !== this.#seen
  }

  /**
   * True from before the end of the share takes memory and BARs from this thread, which read as zeros from then on. As a thread may be
   * halted between {@link changed} and a look at memory, what it read there is to be believed only where this is false afterwards. One load.
   */
  get takenBack(): boolean {
    return Atomics.load(this.#token.words, TAKEN_BACK) === 1
  }

  /** Applies what the owner announced: a reset, a loss, freed memory, messages of the driver. */
  sync(): void {
    // The owner closes the descriptor once this thread let go.
    if (!this.#detached) this.#wake.drain()
    this.#seen = Atomics.load(this.#token.words, CHANGES)
    for (;;) {
      const received = receiveMessageOnPort(this.#token.port)
      if (received === undefined) return
      this.#apply(received.message as OwnerMessage)
    }
  }

  /** Opens mapped parts of a BAR. After a reset they work again. */
  bar({ label, offset, sizeBytes, areas }: SharedBarToken): SharedBar {
    this.sync() // the token may have come by another way, and overtaken what it names
    this.#checkLive()
    const windows = areas.map((area) => this.#window(label, area))
    const within = (at: number, size: number) => windows.find(({ area }) => contains(area, at, size))
    return {
      registers: <D>(map: RegisterMap<D>) => {
        const placeOf = (entry: RegisterEntry): Place => {
          const window = within(entry.offset, entry.width / 8)
          return window === undefined
            ? { trap: new Refusal(`register ${entry.name} of ${label}`) }
            : { window, windowOffset: window.area.offset }
        }
        return buildBar(map, placeOf)
      },
      memory: () => {
        const window = within(offset, sizeBytes)
        if (window === undefined) throw notShared(`All of ${sizeBytes} bytes at offset ${offset} of ${label}`)
        return new MappedMmio(window, offset - window.area.offset, sizeBytes)
      },
    }
  }

  /** Opens DMA memory. `ERR_ACCEL_REVOKED` where it was freed. */
  memory(token: SharedMemoryToken): SharedMemory {
    this.sync()
    this.#checkLive()
    const { id } = token.view
    if (this.#revoked.has(id)) throw accelError('ERR_ACCEL_REVOKED', `DMA region ${token.name} was freed`)
    let memory = this.#memories.get(id)
    if (memory === undefined) {
      memory = new SharedMemory(token, this.#open(token.view))
      this.#memories.set(id, memory)
    }
    return memory
  }

  /** Opens the other end of a line, or an interrupt vector. */
  event({ fd }: SharedEventToken): EventLine {
    this.#checkLive()
    const line = new WorkerLine(fd, {
      wake: this.#wake.fd,
      look: (woken) => {
        if (woken || this.changed) this.sync()
        this.#checkLive()
      },
      post: (message) => this.#post(message),
    })
    this.#lines.push(line)
    return line
  }

  /** Sends what the driver wants to say; it reaches `DeviceShare.onMessage`. Nothing, once the device is gone. */
  post(value: unknown): void {
    if (!this.#detached) this.#post({ kind: 'driver', value })
  }

  /** Called with what the owner's side posts, in the event loop or within {@link sync}. */
  set onMessage(listener: (value: unknown) => void) {
    this.#onMessage = listener
    for (const value of this.#unheard.splice(0)) listener(value)
  }

  /** Resolves when {@link signal} is aborted. Keeps this thread alive until then. */
  ended(): Promise<void> {
    const { signal } = this.#abort
    if (signal.aborted) return Promise.resolve()
    this.#token.port.ref()
    return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  }

  /** Lets go of everything. The owner may then free what it shared. Idempotent. */
  close(): void {
    this.#lose({ code: 'ERR_ACCEL_CLOSED', message: `${this.name} was closed in this thread` })
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #apply(message: OwnerMessage): void {
    switch (message.kind) {
      case 'away':
        this.#away = received(message.reason)
        for (const window of this.#windows.values()) window.revoke(this.#away)
        break
      case 'placed':
        if (message.back) this.#away = undefined
        for (const { window, view } of message.windows) {
          this.#placed.set(window, view)
          this.#windows.get(window)?.expose(this.#exposed(view))
        }
        break
      case 'revoked':
        this.#revoked.add(message.id)
        this.#memories.get(message.id)?.revoke()
        this.#memories.delete(message.id)
        break
      case 'gone':
        this.#lose(message.reason)
        break
      case 'driver':
        if (this.#onMessage === undefined) this.#unheard.push(message.value)
        else this.#onMessage(message.value)
    }
  }

  #lose(sent: SentError): void {
    if (this.#detached) return
    const reason = received(sent)
    this.#token.port.unref()
    this.#abort.abort(reason)
    // Listeners may still have said something.
    this.#detached = true
    for (const window of this.#windows.values()) window.revoke(reason)
    for (const memory of this.#memories.values()) memory.revoke()
    for (const line of this.#lines) line.close()
    this.#windows.clear()
    this.#memories.clear()
    this.#post({ kind: 'detached' })
    this.#closeIfUnseen()
  }

  #window(label: string, { window: id, region, offset, sizeBytes }: SharedArea): BarWindow {
    let window = this.#windows.get(id)
    if (window !== undefined) return window
    const view = this.#placed.get(id)
    if (view === undefined)
      throw accelError('ERR_ACCEL_NO_DEVICE', `${label}: its token is not of ${this.name}`)
    window = new BarWindow(region, { offset, sizeBytes }, label, this.#exposed(view))
    if (this.#away !== undefined) window.revoke(this.#away)
    this.#windows.set(id, window)
    return window
  }

  #exposed(view: View) {
    const window = this.#open(view)
    return { window, revoke: () => window.revoke() }
  }

  #open({ id, address, sizeBytes }: View): Window {
    this.#views++
    return mappingFromAddress(address, sizeBytes, sys, () => {
      this.#views--
      this.#post({ kind: 'collected', id })
      if (this.#detached) this.#closeIfUnseen()
    })
  }

  /** As long as an array is left the owner keeps the addresses from being reused; the end of this thread closes the port, too. */
  #closeIfUnseen(): void {
    if (this.#views === 0) this.#token.port.close()
  }

  #post(message: WorkerMessage): void {
    this.#token.port.postMessage(message)
  }

  #checkLive(): void {
    if (!this.#detached) return
    const { reason } = this.#abort.signal
    throw accelError('ERR_ACCEL_NO_DEVICE', `${this.name} cannot be reached: ${(reason as Error).message}`, {
      cause: reason,
    })
  }
}

/** What a line needs of its device. */
interface LineHost {
  /** See `ShareToken.wake`. */
  readonly wake: number
  /**
   * Applies what was announced; throws once the device is gone.
   * @param woken The wake may be up for what was applied already, as it is signalled last: nothing new is announced then.
   */
  look(woken: boolean): void
  post(message: WorkerMessage): void
}

/** Tells the owner which descriptors to close where this thread is terminated, and hears the owner while it waits. */
class WorkerLine extends EventLine {
  readonly #host: LineHost
  protected override readonly others: readonly number[]

  constructor(fd: number, host: LineHost) {
    super(fd)
    this.#host = host
    this.others = [host.wake]
  }

  override async handle(handler: IrqHandler): Promise<void> {
    const started = super.handle(handler)
    const helper = this.watching?.helper
    if (helper !== undefined) this.#host.post({ kind: 'watching', helper })
    await started
  }

  override waitSync(options: WaitSyncOptions): number {
    this.#host.look(false)
    const count = super.waitSync(options)
    if (count === 0) this.#host.look(true)
    return count
  }
}

/** What is not mapped cannot be reached from here. */
class Refusal implements Trap {
  readonly #what: string

  constructor(what: string) {
    this.#what = what
  }
  read(): never {
    throw notShared(this.#what)
  }
  write(): never {
    throw notShared(this.#what)
  }
  read64(): never {
    throw notShared(this.#what)
  }
  write64(): never {
    throw notShared(this.#what)
  }
}

function notShared(what: string): AccelError {
  return accelError(
    'ERR_ACCEL_UNSUPPORTED',
    `${what} is not in a mapped part that was shared with this thread: leave it to the thread that opened the device`,
  )
}

function received({ code, message }: SentError): AccelError {
  return accelError(code, message)
}

/**
 * Opens what `DeviceShare.token` stands for, in the worker that got it. Once for each token: `ERR_ACCEL_CLOSED` where it was taken
 * back meanwhile, or is in use.
 */
export function attachDevice(token: ShareToken): SharedDevice {
  const claim = Atomics.compareExchange(token.words, CLAIM, Claim.OFFERED, Claim.TAKEN)
  if (claim !== Claim.OFFERED) {
    throw accelError(
      'ERR_ACCEL_CLOSED',
      claim === Claim.TAKEN
        ? `The share of ${token.name} is in use: each worker thread needs one of its own`
        : `The share of ${token.name} was taken back before this thread took it`,
    )
  }
  return new SharedDevice(token)
}
