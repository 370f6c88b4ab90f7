import { type Device, poll } from '@uaccel/core'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { type SplitQueue, VirtioDevice, type VirtioIrq } from '@uaccel/virtio'
import type { CipherName, HashName, MacName, RsaHashName, RsaUse } from './algorithms.js'
import { type CryptoCapabilities, readCapabilities } from './capabilities.js'
import { CONTROL_MEMORY_BYTES, CONTROL_SEGMENTS, ControlQueue } from './control-queue.js'
import { type CryptoDone, DataQueue, MAX_SEGMENTS, MIN_SEGMENTS, SLOT_BYTES } from './data-queue.js'
import { DataQueues } from './data-queues.js'
import type { CryptoOperation } from './operation.js'
import { CONFIG, HARDWARE_READY } from './protocol.js'
import type { CryptoSession } from './session.js'
import { SessionTable } from './session-table.js'

const READY_MS = 1_000
/** Queues are not the limit: QEMU's builtin backend has one and works in its main loop. */
const MAX_DATA_QUEUES = 4
const DATA_ENTRIES = 256
const CONTROL_ENTRIES = 16
/** An emulated device takes up to a second for 16 MiB, and has a turn of its event loop between: this is for one that hangs. */
const DEFAULT_TIMEOUT_MS = 5_000
/** Turns of the watchdog in that time. */
const TURNS = 5
/** How long operations may take to end by themselves before a reset ends them. */
const DRAIN_MS = 500

/** How the driver learns of what the device is done with. */
export type IrqMode = VirtioIrq | 'poll'

/** How a device is brought up. */
export interface VirtioCryptoOptions {
  /** Default: the first of MSI-X and INTx that is there. With `poll` it is polled as long as something is under way. */
  readonly irq?: IrqMode | 'auto'
  /** Operations in a queue of which none has ended for so long end with `ERR_ACCEL_TIMEOUT`, and the device is reset. Default 5,000 ms. */
  readonly timeoutMs?: number
}

/**
 * A virtio-crypto device (virtio 1.2, 5.9) that was brought up. All that it takes comes from its `Device` and is released with it.
 *
 * Sessions outlive a reset, whoever asked for it: the device is given them anew. Operations that it was told of before end with
 * `ERR_ACCEL_AGAIN`, and what they were to write is undefined; those that waited for room go on.
 */
export class VirtioCrypto {
  readonly capabilities: CryptoCapabilities
  readonly irqMode: IrqMode
  readonly #dev: Device
  readonly #virtio: VirtioDevice
  readonly #control: ControlQueue
  readonly #data: DataQueues
  readonly #sessions: SessionTable
  readonly #broke: (error: AccelError) => void
  #dead: AccelError | undefined
  #resetting: Promise<void> | undefined
  /** Somebody else resets it. */
  #yielded = false
  #spin: NodeJS.Immediate | undefined
  /** Resets since it was brought up. */
  resets = 0

  private constructor(
    dev: Device,
    virtio: VirtioDevice,
    capabilities: CryptoCapabilities,
    queues: readonly SplitQueue[],
    timeoutMs: number,
    broke: (error: AccelError) => void,
  ) {
    this.#dev = dev
    this.#virtio = virtio
    this.capabilities = capabilities
    this.irqMode = (virtio.irqs?.type as VirtioIrq | undefined) ?? 'poll'
    this.#broke = broke
    const dataQueue = (queue: SplitQueue) =>
      new DataQueue(queue, dev.dma.alloc(queue.entries * SLOT_BYTES, { name: `crypto queue ${queue.index}` }))
    this.#data = new DataQueues(queues.slice(0, -1).map(dataQueue))
    const memory = dev.dma.alloc(CONTROL_MEMORY_BYTES, { name: 'crypto control queue' })
    this.#control = new ControlQueue(queues.at(-1)!, memory, timeoutMs, () => this.#kick())
    this.#sessions = new SessionTable(this.#control, capabilities)
  }

  /**
   * Brings the device up. `broke` is told of what no operation is told of: that the device was reset, or that it could not be. Errors:
   * those of `VirtioDevice.negotiate` and `openQueues`, `ERR_ACCEL_TIMEOUT` where its hardware does not get ready.
   */
  static async start(
    dev: Device,
    { irq = 'auto', timeoutMs = DEFAULT_TIMEOUT_MS }: VirtioCryptoOptions = {},
    broke: (error: AccelError) => void = () => {},
  ): Promise<VirtioCrypto> {
    const virtio = await VirtioDevice.negotiate(dev)
    const capabilities = readCapabilities(virtio.config)
    let crypto: VirtioCrypto | undefined
    const types: readonly VirtioIrq[] = irq === 'auto' ? ['msix', 'intx'] : irq === 'poll' ? [] : [irq]
    const queues = await virtio.openQueues(
      queueRequests(capabilities.dataQueues, (position) => crypto?.pollOne(position)),
      types,
    )
    crypto = new VirtioCrypto(dev, virtio, capabilities, queues, timeoutMs, broke)
    await crypto.#start(timeoutMs)
    return crypto
  }

  async #start(timeoutMs: number): Promise<void> {
    const dev = this.#dev
    const gone = () => void this.#leave(dev.signal.reason as AccelError)
    dev.signal.addEventListener('abort', gone, { once: true })
    const watchdog = setInterval(() => this.#watch(), timeoutMs / TURNS).unref()
    dev.defer(async () => {
      clearInterval(watchdog)
      this.#data.hold()
      try {
        await this.#virtio.reset() // who waits for operations is told when it touches their memory no more
      } finally {
        dev.signal.removeEventListener('abort', gone)
        this.#lose(accelError('ERR_ACCEL_NO_DEVICE', 'The virtio-crypto device was released by its driver'))
        this.#sessions.clear()
      }
    })
    this.#virtio.onConfigChange(() => this.#watchStatus())
    this.#virtio.start()
    await this.#readied()
    this.#data.resume()
  }

  /** VIRTIO_CRYPTO_S_HW_READY (5.9.4), as it is now. */
  get ready(): boolean {
    return (this.#virtio.config.u32(CONFIG.status) & HARDWARE_READY) !== 0
  }

  get features(): bigint {
    return this.#virtio.features
  }

  /** Why the device has to be reset; `undefined` where it works. */
  get broken(): string | undefined {
    if (this.#dead !== undefined) return this.#dead.message
    if (this.#resetting !== undefined || this.#yielded) return 'it is being reset'
    if (this.#control.failure !== undefined) return this.#control.failure.message
    return this.#virtio.needsReset ? 'DEVICE_NEEDS_RESET is set' : undefined
  }

  /** Sessions that there are now. */
  get sessions(): number {
    return this.#sessions.size
  }

  /**
   * Makes a session for one direction of a cipher. Errors: `ERR_ACCEL_UNSUPPORTED` for an algorithm that the device does not offer,
   * `ERR_ACCEL_OUT_OF_RANGE` for a key that is not of its size, `ERR_ACCEL_AGAIN` under a reset, what the device answers.
   */
  createCipher(name: CipherName, direction: 'encrypt' | 'decrypt', key: Uint8Array): Promise<CryptoSession> {
    return this.#sessions.createCipher(name, direction, key)
  }

  /** Makes a session for a hash. Errors as for {@link createCipher}. */
  createHash(name: HashName): Promise<CryptoSession> {
    return this.#sessions.createHash(name)
  }

  /** Makes a session for a MAC. Errors as for {@link createCipher}. */
  createMac(name: MacName, key: Uint8Array): Promise<CryptoSession> {
    return this.#sessions.createMac(name, key)
  }

  /**
   * Makes a session of RSA with the padding of PKCS #1 (RFC 8017, 7.2 and 8.2), for one use of a DER-encoded key: an RSAPublicKey to
   * encrypt and verify, an RSAPrivateKey to decrypt and sign. `hash` is that of signatures. Errors as for {@link createCipher};
   * `ERR_ACCEL_INVALID_ARGUMENT` for what is no such key.
   */
  createRsa(use: RsaUse, hash: RsaHashName, key: Uint8Array): Promise<CryptoSession> {
    return this.#sessions.createRsa(use, hash, key)
  }

  /** Gives a session back, once its operations have ended. Idempotent. */
  destroy(session: CryptoSession): Promise<void> {
    return this.#sessions.destroy(session)
  }

  /**
   * Queues an operation; {@link flush} tells the device of all that were queued. `done` is called in a later turn of the event loop. What
   * does not fit the queues waits here. Errors: `ERR_ACCEL_CLOSED` for a session that was given back, `ERR_ACCEL_OUT_OF_RANGE` for more
   * parts than the queues of this device take.
   */
  submit(operation: CryptoOperation, done: CryptoDone): void {
    if (this.#dead !== undefined) throw this.#dead
    this.#data.submit(operation, done)
  }

  /** Notifies the device of what was submitted, once for each queue that got something. */
  flush(): void {
    this.#data.flush()
    this.#kick()
  }

  /** Ends what the device is done with: for whoever does not wait for its interrupt. */
  poll(): void {
    for (let position = 0; position <= this.#data.count; position++) this.pollOne(position)
  }

  /** @internal The same for one queue; the control queue comes last. */
  pollOne(position: number): void {
    try {
      if (position < this.#data.count) this.#data.poll(position)
      else this.#control.poll()
    } catch (error) {
      if (!isAccelError(error)) throw error
      // Where its registers are taken away, that is told by other ways. Else nothing that it says can be believed, and it may still write.
      if (error.code !== 'ERR_ACCEL_NO_DEVICE') this.#resetUnasked(error)
    }
  }

  /** Runs operations, and waits for all. Rejects with the first error of any, when the device is done with all. */
  run(operations: readonly CryptoOperation[]): Promise<void> {
    return new Promise((resolve, reject) => {
      let left = operations.length
      let first: AccelError | undefined
      const done: CryptoDone = (error) => {
        first ??= error
        if (--left > 0) return
        if (first === undefined) resolve()
        else reject(first)
      }
      if (left === 0) resolve()
      for (const operation of operations) {
        try {
          this.submit(operation, done)
        } catch (error) {
          if (!isAccelError(error)) throw error
          done(error, 0)
        }
      }
      this.flush()
    })
  }

  /**
   * Brings the device to idle where operations were given up: they have some time to end, then the device is reset. Errors:
   * `ERR_ACCEL_WEDGED`.
   */
  async recover(signal?: AbortSignal): Promise<void> {
    await this.#resetting?.catch(() => {})
    const works = this.#dead === undefined && this.#control.failure === undefined
    if (works && (await this.#drained(signal))) return
    await this.reset(againError('operations were given up and did not end'))
  }

  /** Resets the device, and brings it up again with its sessions. Operations under way end with `why`. Errors: `ERR_ACCEL_WEDGED`. */
  reset(why: AccelError): Promise<void> {
    if (this.#yielded) return Promise.resolve()
    this.#resetting ??= this.#reset(() => why).finally(() => this.#wasReset())
    return this.#resetting
  }

  /** Before somebody else resets the device: stops it where it still listens. */
  async beforeReset(): Promise<void> {
    await this.#resetting?.catch(() => {})
    this.#yielded = true
    this.#data.hold()
    const why = againError('it was reset by somebody else')
    this.#control.fail(why)
    try {
      await this.#virtio.reset()
      this.#data.fail(() => why)
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT')) throw error // the reset is what helps
    }
  }

  /** After somebody else has reset the device: brings it up again with its sessions. */
  async afterReset(): Promise<void> {
    this.resets++
    this.#data.fail(() => againError('it was reset by somebody else'))
    await this.#bringBack()
    this.#yielded = false
    this.#wasReset()
  }

  /** Where nothing interrupts: polls until nothing is under way. */
  #kick(): void {
    if (this.irqMode === 'poll' && this.#spin === undefined) this.#spin = setImmediate(this.#spinOnce)
  }

  readonly #spinOnce = (): void => {
    this.#spin = undefined
    this.poll()
    if (this.#inFlight > 0 && this.#dead === undefined) this.#kick()
  }

  get #inFlight(): number {
    return this.#control.inFlight + this.#data.inFlight
  }

  /** A turn of the watchdog: lost interrupts, a device that wants a reset, and operations that do not end. */
  #watch(): void {
    if (this.#data.held || this.#dead !== undefined) return
    this.poll()
    this.#watchStatus()
    if (this.#data.held) return
    if (this.#control.failure !== undefined) this.#resetUnasked(againError('its control queue hangs'))
    const late = this.#data.tick(TURNS)
    if (late < 0) return
    const [timeout, others] = [timeoutError(), againError('another operation did not end')]
    this.#resetUnasked(timeout, (turn) => (turn <= late ? timeout : others))
  }

  #watchStatus(): void {
    if (this.#data.held || this.#dead !== undefined) return
    try {
      if (!this.#virtio.needsReset) return
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) return // it sleeps, or is reset by its owner
      throw error
    }
    this.#resetUnasked(againError('it asked for a reset (DEVICE_NEEDS_RESET)'))
  }

  /** Resets the device because of itself. */
  #resetUnasked(why: AccelError, errorOf: (turn: number) => AccelError = () => why): void {
    if (this.#resetting !== undefined || this.#yielded) return
    this.#broke(why)
    this.#resetting = this.#reset(errorOf).finally(() => this.#wasReset())
    this.#resetting.catch(() => {}) // `broke` was told, and whoever submits next gets it
  }

  async #reset(errorOf: (turn: number) => AccelError): Promise<void> {
    this.#data.hold()
    this.resets++
    try {
      this.#dev.checkPresent()
      this.#control.fail(againError('it is being reset'))
      try {
        await this.#virtio.reset()
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT') || !this.#dev.resettable) throw error
        await this.#dev.reset()
      }
      this.#data.fail(errorOf)
      await this.#bringBack()
    } catch (cause) {
      if (this.#dev.signal.aborted) throw this.#dead
      // Nothing says that it left the memory alone: whoever waits is told so.
      const dead = accelError('ERR_ACCEL_WEDGED', 'The virtio-crypto device did not come back from a reset', {
        cause,
        details: { idle: false },
      })
      this.#lose(dead)
      this.#broke(dead)
      throw dead
    }
  }

  async #bringBack(): Promise<void> {
    await this.#virtio.restart()
    await this.#readied()
    this.#control.restart()
    await this.#sessions.restore()
    if (!this.#dev.signal.aborted) this.#dead = undefined
  }

  /** A reset is over: what waited goes on. */
  #wasReset(): void {
    this.#resetting = undefined
    if (this.#dead !== undefined) return
    this.#data.resume()
    this.#kick()
  }

  #readied(): Promise<boolean> {
    const what = 'the hardware of the crypto device'
    return poll(
      () => this.ready,
      (ready) => ready,
      { timeoutMs: READY_MS, what },
    )
  }

  /** Waits until the device is done with what it was told of; what is submitted meanwhile waits. */
  async #drained(signal: AbortSignal | undefined): Promise<boolean> {
    this.#data.hold()
    const left = () => {
      this.poll()
      return this.#resetting === undefined ? this.#inFlight : 0
    }
    try {
      await poll(left, (count) => count === 0, {
        timeoutMs: DRAIN_MS,
        signal,
        what: 'the end of crypto operations',
      })
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_TIMEOUT')) return false
      if (this.#resetting === undefined && !this.#yielded) this.#wasReset() // it was given up, and nobody else holds
      throw error
    }
    if (this.#resetting !== undefined) await this.#resetting
    else this.#wasReset()
    return true
  }

  /** The device is gone, or is there and about to be released: then what is under way ends when it was stopped. */
  async #leave(reason: AccelError): Promise<void> {
    this.#dead = reason
    this.#data.hold()
    this.#control.fail(reason)
    try {
      this.#dev.checkPresent()
      await this.#resetting?.catch(() => {})
      await this.#virtio.reset()
    } catch {
      // It is gone; or it does not stop, which its release is told by its own try.
    }
    this.#lose(reason)
  }

  /** Ends everything, and refuses more. */
  #lose(error: AccelError): void {
    // That it is gone says more than that it does not come back.
    if (this.#dead?.code !== 'ERR_ACCEL_NO_DEVICE') this.#dead = error
    this.#control.fail(this.#dead!)
    this.#data.lose(this.#dead!)
  }
}

/** Of all data queues that are used, and of the control queue. */
function queueRequests(dataQueues: number, used: (position: number) => void) {
  const count = Math.min(dataQueues, MAX_DATA_QUEUES)
  const data = Array.from({ length: count }, (_, position) => ({
    index: position,
    entries: DATA_ENTRIES,
    minSegments: MIN_SEGMENTS,
    maxSegments: MAX_SEGMENTS,
    used: () => used(position),
  }))
  const control = {
    index: dataQueues, // behind all data queues that the device has, also those that are not used (5.9.2)
    entries: CONTROL_ENTRIES,
    minSegments: CONTROL_SEGMENTS,
    maxSegments: CONTROL_SEGMENTS,
    used: () => used(count),
  }
  return [...data, control]
}

const againError = (why: string) =>
  accelError('ERR_ACCEL_AGAIN', `The virtio-crypto device was reset: ${why}. Submit it again`)
const timeoutError = () =>
  accelError('ERR_ACCEL_TIMEOUT', 'A crypto operation did not end in time, and the device was reset')
