import { type Device, poll } from '@uaccel/core'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { type SplitQueue, VirtioDevice } from '@uaccel/virtio'
import { type CipherName, ciphers, type HashName, hashes, type MacName, macs } from './algorithms.js'
import { CONTROL_MEMORY_BYTES, ControlQueue } from './control-queue.js'
import { type CryptoDone, DataQueue, MAX_SEGMENTS, SLOT_BYTES } from './data-queue.js'
import type { CryptoOperation } from './operation.js'
import {
  CONFIG,
  CONTROL_BYTES,
  CONTROL_OP_TYPE,
  CONTROL_PARAMETERS,
  createOpcode,
  DIRECTION,
  destroyOpcode,
  HARDWARE_READY,
  OK,
  SERVICE,
  type Service,
  SYM_OP_CIPHER,
  statusError,
} from './protocol.js'
import { CryptoSession, type SessionKind } from './session.js'
import { MAX_KEY_BYTES } from './uapi.js'

const READY_MS = 1_000
/** Queues are not the limit: QEMU's builtin backend has one and works in its main loop. */
const MAX_DATA_QUEUES = 4
const DATA_ENTRIES = 256
const CONTROL_ENTRIES = 16

/** What a device says of itself. */
export interface CryptoCapabilities {
  readonly dataQueues: number
  readonly services: number
  readonly ciphers: bigint
  readonly hashes: bigint
  readonly macs: bigint
  readonly maxCipherKeyBytes: number
  readonly maxMacKeyBytes: number
  readonly maxRequestBytes: bigint
}

/** An operation that waits for room in a queue. */
interface Waiting {
  readonly operation: CryptoOperation
  readonly done: CryptoDone
}

/** A virtio-crypto device (virtio 1.2, 5.9) that was brought up. All that it takes comes from its `Device` and is released with it. */
export class VirtioCrypto {
  readonly capabilities: CryptoCapabilities
  readonly #virtio: VirtioDevice
  #control!: ControlQueue
  #data: DataQueue[] = []
  readonly #sessions = new Set<CryptoSession>()
  readonly #waiting: Waiting[] = []
  #turn = 0
  #failure: AccelError | undefined

  private constructor(virtio: VirtioDevice, capabilities: CryptoCapabilities) {
    this.#virtio = virtio
    this.capabilities = capabilities
  }

  /**
   * Brings the device up. Errors: those of `VirtioDevice.negotiate` and `openQueues`, `ERR_ACCEL_TIMEOUT` where its hardware does not
   * get ready.
   */
  static async start(dev: Device): Promise<VirtioCrypto> {
    const virtio = await VirtioDevice.negotiate(dev)
    const crypto = new VirtioCrypto(virtio, readCapabilities(virtio))
    const gone = () => crypto.#failAll(dev.signal.reason as AccelError)
    dev.signal.addEventListener('abort', gone, { once: true })
    dev.defer(() => dev.signal.removeEventListener('abort', gone))
    await crypto.#open(dev)
    virtio.start()
    await poll(
      () => crypto.ready,
      (ready) => ready,
      { timeoutMs: READY_MS, what: 'the hardware of the crypto device' },
    )
    return crypto
  }

  /** VIRTIO_CRYPTO_S_HW_READY (5.9.4), as it is now. */
  get ready(): boolean {
    return (this.#virtio.config.u32(CONFIG.status) & HARDWARE_READY) !== 0
  }

  get features(): bigint {
    return this.#virtio.features
  }

  /** The device says that it has to be reset. */
  get needsReset(): boolean {
    return this.#virtio.needsReset
  }

  /** Sessions that there are now. */
  get sessions(): number {
    return this.#sessions.size
  }

  /**
   * Makes a session for one direction of a cipher. Errors: `ERR_ACCEL_UNSUPPORTED` for an algorithm that the device does not offer,
   * `ERR_ACCEL_OUT_OF_RANGE` for a key that is not of its size, what the device answers.
   */
  createCipher(name: CipherName, direction: 'encrypt' | 'decrypt', key: Uint8Array): Promise<CryptoSession> {
    const { number: algorithm, keyBytes, blockBytes, ivBytes } = ciphers[name]
    this.#requireOffered('cipher', name, algorithm, this.capabilities.ciphers)
    const sizes: readonly number[] = keyBytes
    if (!sizes.includes(key.length))
      throw outOfRange(`${name} takes a key of ${sizes.join(', ')} bytes, found ${key.length}`)
    checkKey(name, key, this.capabilities.maxCipherKeyBytes)
    const decrypt = direction === 'decrypt'
    return this.#create(
      { service: 'cipher', algorithm, decrypt, blockBytes, ivBytes, resultBytes: 0 },
      key,
      (view, at) => {
        // struct virtio_crypto_cipher_session_flf
        view.setUint32(at, algorithm, true)
        view.setUint32(at + 4, key.length, true)
        view.setUint32(at + 8, DIRECTION[direction], true)
        view.setUint32(CONTROL_OP_TYPE, SYM_OP_CIPHER, true)
      },
    )
  }

  /** Makes a session for a hash. Errors as for {@link createCipher}. */
  createHash(name: HashName): Promise<CryptoSession> {
    const { number: algorithm, resultBytes } = hashes[name]
    this.#requireOffered('hash', name, algorithm, this.capabilities.hashes)
    return this.#create(digestKind('hash', algorithm, resultBytes), new Uint8Array(), (view, at) => {
      // struct virtio_crypto_hash_create_session_flf
      view.setUint32(at, algorithm, true)
      view.setUint32(at + 4, resultBytes, true)
    })
  }

  /** Makes a session for a MAC. Errors as for {@link createCipher}. */
  createMac(name: MacName, key: Uint8Array): Promise<CryptoSession> {
    const { number: algorithm, resultBytes } = macs[name]
    this.#requireOffered('mac', name, algorithm, this.capabilities.macs)
    checkKey(name, key, this.capabilities.maxMacKeyBytes)
    return this.#create(digestKind('mac', algorithm, resultBytes), key, (view, at) => {
      // struct virtio_crypto_mac_create_session_flf
      view.setUint32(at, algorithm, true)
      view.setUint32(at + 4, resultBytes, true)
      view.setUint32(at + 8, key.length, true)
    })
  }

  /** Gives a session back, once its operations have ended. One that went with a reset is gone already. Idempotent. */
  async destroy(session: CryptoSession): Promise<void> {
    if (session.closed) return
    session.closed = true
    // The device may give its number to another session at once, whose key an operation of this one would then use.
    if (session.operations > 0) {
      await new Promise<void>((resolve) => {
        session.idle = resolve
      })
    }
    // Gone with a reset meanwhile, or with the device.
    if (!this.#sessions.delete(session) || this.#failure?.code === 'ERR_ACCEL_NO_DEVICE') return
    const view = request(destroyOpcode(session.kind.service), 0, 0)
    view.setInt32(CONTROL_PARAMETERS, session.idLow, true)
    view.setInt32(CONTROL_PARAMETERS + 4, session.idHigh, true)
    const status = (await this.#control.request(bytesOf(view), 1)).getUint8(0)
    if (status !== OK) throw statusError('A session was to be destroyed', status)
  }

  /**
   * Queues an operation; {@link flush} tells the device of all that were queued. `done` is called in a later turn of the event loop. What
   * does not fit the queues waits here. `ERR_ACCEL_CLOSED` for a session that was given back.
   */
  submit(operation: CryptoOperation, done: CryptoDone): void {
    if (this.#failure !== undefined) throw this.#failure
    if (operation.session.closed)
      throw accelError(
        'ERR_ACCEL_CLOSED',
        'The session of a crypto operation was destroyed, or went with a reset',
      )
    if (this.#waiting.length === 0 && this.#push(operation, done)) return
    operation.session.operations++ // it keeps its session while it waits
    this.#waiting.push({ operation, done })
  }

  /** Notifies the device of what was submitted, once for each queue that got something. */
  flush(): void {
    for (let i = 0; i < this.#data.length; i++) this.#data[i].flush()
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
          done(error)
        }
      }
      this.flush()
    })
  }

  /** Resets the device: operations under way end with `ERR_ACCEL_IO`, and sessions are gone. */
  async recover(): Promise<void> {
    const error = accelError('ERR_ACCEL_IO', 'The virtio-crypto device was reset under this operation')
    this.#failure = error
    this.#control.fail(error)
    await this.#virtio.reset()
    this.#failAll(error)
    for (const session of this.#sessions) session.closed = true
    this.#sessions.clear()
    await this.#virtio.restart()
    this.#failure = undefined
    this.#control.restart()
  }

  async #open(dev: Device): Promise<void> {
    const { dataQueues } = this.capabilities
    const used = Math.min(dataQueues, MAX_DATA_QUEUES)
    const data = Array.from({ length: used }, (_, index) => ({
      index,
      entries: DATA_ENTRIES,
      maxSegments: MAX_SEGMENTS,
      used: () => this.#poll(this.#data[index]!),
    }))
    // Behind all data queues that the device has, also those that are not used (5.9.2).
    const control = {
      index: dataQueues,
      entries: CONTROL_ENTRIES,
      maxSegments: 2,
      used: () => this.#poll(this.#control),
    }
    const queues = await this.#virtio.openQueues([...data, control])
    const dataQueue = (queue: SplitQueue) =>
      new DataQueue(queue, dev.dma.alloc(queue.entries * SLOT_BYTES, { name: `crypto queue ${queue.index}` }))
    this.#data = queues.slice(0, used).map(dataQueue)
    const memory = dev.dma.alloc(CONTROL_MEMORY_BYTES, { name: 'crypto control queue' })
    this.#control = new ControlQueue(queues[used]!, memory)
  }

  #push(operation: CryptoOperation, done: CryptoDone): boolean {
    for (let tries = 0; tries < this.#data.length; tries++) {
      const queue = this.#data[this.#turn]
      this.#turn = (this.#turn + 1) % this.#data.length
      if (queue.push(operation, done)) return true
    }
    return false
  }

  #poll(queue: { poll(): unknown }): void {
    try {
      queue.poll()
      if (this.#waiting.length > 0 && this.#failure === undefined) this.#advance()
    } catch (error) {
      if (!isAccelError(error)) throw error
      // Nothing that it says can be believed any more; it may still write. Whoever waits has it recovered.
      this.#failAll(error)
    }
  }

  #advance(): void {
    for (;;) {
      const next = this.#waiting[0]
      if (next === undefined || !this.#push(next.operation, next.done)) break
      this.#waiting.shift()
      next.operation.session.operations--
    }
    this.flush()
  }

  /** Ends everything, and refuses more. */
  #failAll(error: AccelError): void {
    this.#failure = error
    this.#control?.fail(error)
    for (const queue of this.#data) queue.fail(error)
    for (const { operation, done } of this.#waiting.splice(0)) {
      operation.session.left()
      done(error)
    }
  }

  async #create(
    kind: SessionKind,
    key: Uint8Array,
    fill: (view: DataView, at: number) => void,
  ): Promise<CryptoSession> {
    const view = request(createOpcode(kind.service), kind.algorithm, key.length)
    fill(view, CONTROL_PARAMETERS)
    const bytes = bytesOf(view)
    bytes.set(key, CONTROL_BYTES)
    try {
      // struct virtio_crypto_create_session_input
      const answer = await this.#control.request(bytes, 16)
      const status = answer.getUint32(8, true)
      if (status !== OK) throw statusError('A session was to be made', status)
      const session = new CryptoSession(kind, answer.getInt32(0, true), answer.getInt32(4, true))
      this.#sessions.add(session)
      return session
    } finally {
      bytes.fill(0)
    }
  }

  #requireOffered(service: Service, name: string, algorithm: number, offered: bigint): void {
    const has = (this.capabilities.services & (1 << SERVICE[service])) !== 0
    if (has && ((offered >> BigInt(algorithm)) & 1n) === 1n) return
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      has
        ? `The virtio-crypto device does not offer ${name}: of that service it has 0x${offered.toString(16)}`
        : `The virtio-crypto device does not offer ${name}: it has the services 0x${this.capabilities.services.toString(16)}`,
    )
  }
}

function readCapabilities({ config }: VirtioDevice): CryptoCapabilities {
  const found = config.stable(() => ({
    dataQueues: config.u32(CONFIG.maxDataQueues),
    services: config.u32(CONFIG.services),
    ciphers: config.u64(CONFIG.ciphers),
    hashes: BigInt(config.u32(CONFIG.hashes)),
    macs: config.u64(CONFIG.macs),
    maxCipherKeyBytes: config.u32(CONFIG.maxCipherKeyBytes),
    maxMacKeyBytes: config.u32(CONFIG.maxMacKeyBytes),
    maxRequestBytes: config.u64(CONFIG.maxRequestBytes),
  }))
  // Its control queue comes behind them, and queues have numbers of 16 bits.
  if (found.dataQueues >= 1 && found.dataQueues < 0xffff) return found
  throw accelError(
    'ERR_ACCEL_IO',
    `The virtio-crypto device says that it has ${found.dataQueues} data queues`,
  )
}

function digestKind(service: 'hash' | 'mac', algorithm: number, resultBytes: number): SessionKind {
  return { service, algorithm, decrypt: false, blockBytes: 1, ivBytes: 0, resultBytes }
}

function checkKey(name: string, key: Uint8Array, deviceBytes: number): void {
  const most = Math.min(deviceBytes, MAX_KEY_BYTES)
  if (key.length === 0 || key.length > most)
    throw outOfRange(`${name} takes a key of 1 to ${most} bytes from this device, found ${key.length}`)
}

/** A request of the control queue with room for a key, zero but for its header. */
function request(opcode: number, algorithm: number, keyBytes: number): DataView {
  const view = new DataView(new ArrayBuffer(CONTROL_BYTES + keyBytes))
  view.setUint32(0, opcode, true)
  view.setUint32(4, algorithm, true)
  return view
}

const bytesOf = (view: DataView) => new Uint8Array(view.buffer)
const outOfRange = (what: string) => accelError('ERR_ACCEL_OUT_OF_RANGE', what)
