import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto'
import { type VirtioBehaviour, type VirtioRequest, virtioModel } from '@uaccel/virtio/model'

/** What the device offers, and how it fails. */
export interface VirtioCryptoOptions {
  /** Data queues; the control queue is behind them. Default 1. The model has 2. */
  readonly dataQueues?: 1 | 2
  /** Services, as a set of bits. Default: ciphers, hashes and MACs. */
  readonly services?: number
  /** Sessions that it has room for. Default 256. */
  readonly maxSessions?: number
  /** Told of each change of the number of sessions. */
  readonly onSessions?: (count: number) => void
  /** What the device writes into the answer to a request of that queue, in the place of what is right. */
  readonly tamper?: (queue: number, answer: Uint8Array) => Uint8Array
}

// Numbers of virtio 1.2, 5.9, where VIRTIO_CRYPTO_F_REVISION_1 is not offered.
const DEVICE_ID = 20
const STATUS_OK = 0
const STATUS_ERR = 1
const STATUS_NOTSUPP = 3
const STATUS_INVSESS = 4
const QUEUE_ENTRIES = 256
const AES_CBC = 3
const AES_CTR = 4
const CIPHERS: Readonly<Record<number, string>> = { [AES_CBC]: 'cbc', [AES_CTR]: 'ctr' }
const HASHES: Readonly<Record<number, string>> = { 2: 'sha1', 4: 'sha256', 6: 'sha512' }
const REQUEST_HEADER = 24
const OPERATION_BYTES = 72
const CONTROL_BYTES = 72

interface Session {
  readonly service: number
  readonly algorithm: number
  readonly encrypt: boolean
  readonly key: Uint8Array
}

/** A virtio-crypto device: AES in CBC and CTR mode, three hashes and their HMACs, computed by Node. */
export const virtioCryptoModel = virtioModel<VirtioCryptoOptions>({
  name: 'virtio-crypto',
  deviceId: DEVICE_ID,
  classCode: 0x00ff00,
  queues: [QUEUE_ENTRIES, QUEUE_ENTRIES, QUEUE_ENTRIES],
  config({ dataQueues = 1, services = 0b111 }) {
    const view = new DataView(new ArrayBuffer(56))
    const bit = (table: Readonly<Record<number, string>>) =>
      Object.keys(table).reduce((set, number) => set | (1 << Number(number)), 0)
    view.setUint32(0, 1, true)
    view.setUint32(4, dataQueues, true)
    view.setUint32(8, services, true)
    view.setUint32(12, bit(CIPHERS), true)
    view.setUint32(20, bit(HASHES), true)
    view.setUint32(24, bit(HASHES), true)
    view.setUint32(36, 64, true)
    view.setUint32(40, 512, true)
    view.setBigUint64(48, 1n << 40n, true)
    return new Uint8Array(view.buffer)
  },
  create: (options) => new Crypto(options),
})

class Crypto implements VirtioBehaviour {
  readonly #options: VirtioCryptoOptions
  readonly #controlQueue: number
  readonly #sessions = new Map<bigint, Session>()
  #next = 0x1_0000_0000n

  constructor(options: VirtioCryptoOptions) {
    this.#options = options
    this.#controlQueue = options.dataQueues ?? 1
  }

  serve({ queue, input, roomBytes }: VirtioRequest): Uint8Array {
    const { tamper = (_queue, answer) => answer } = this.#options
    const view = new DataView(input.buffer, input.byteOffset, input.length)
    const isControl = queue === this.#controlQueue
    return tamper(queue, isControl ? this.#control(view, input) : this.#data(view, input, roomBytes))
  }

  reset(): void {
    this.#sessions.clear()
    this.#changed()
  }

  #changed(): void {
    this.#options.onSessions?.(this.#sessions.size)
  }

  #control(view: DataView, input: Uint8Array): Uint8Array {
    if (input.length < CONTROL_BYTES) return Uint8Array.of(STATUS_ERR)
    const { maxSessions = 256 } = this.#options
    const operation = view.getUint8(0)
    const service = view.getUint8(1)
    const answer = new DataView(new ArrayBuffer(16))
    if (operation === 3) {
      const known = this.#sessions.delete(view.getBigUint64(16, true))
      this.#changed()
      return Uint8Array.of(known ? STATUS_OK : STATUS_ERR)
    }
    const algorithm = view.getUint32(16, true)
    const [lengthAt, table] = service === 0 ? [20, CIPHERS] : [24, HASHES]
    const keyBytes = service === 1 ? 0 : view.getUint32(lengthAt, true)
    const key = input.slice(CONTROL_BYTES)
    let status = STATUS_OK
    if (operation !== 2 || table[algorithm] === undefined) status = STATUS_NOTSUPP
    else if (key.length !== keyBytes || this.#sessions.size >= maxSessions) status = STATUS_ERR
    else if (service === 0 && view.getUint32(64, true) !== 1) status = STATUS_NOTSUPP
    if (status === STATUS_OK) {
      const encrypt = service === 0 && view.getUint32(24, true) === 1
      this.#sessions.set(this.#next, { service, algorithm, encrypt, key })
      this.#changed()
      answer.setBigUint64(0, this.#next++, true)
    }
    answer.setUint32(8, status, true)
    return new Uint8Array(answer.buffer)
  }

  #data(view: DataView, input: Uint8Array, roomBytes: number): Uint8Array {
    const fail = (status: number) => {
      const answer = new Uint8Array(roomBytes)
      answer[roomBytes - 1] = status
      return answer
    }
    if (input.length < OPERATION_BYTES) return fail(STATUS_ERR)
    const session = this.#sessions.get(view.getBigUint64(8, true))
    if (session === undefined) return fail(STATUS_INVSESS)
    if (view.getUint8(1) !== session.service) return fail(STATUS_ERR)
    const at = REQUEST_HEADER
    const result = session.service === 0 ? cipher(session, view, input) : digest(session, input)
    const wanted = view.getUint32(at + (session.service === 0 ? 8 : 4), true)
    if (result === undefined || result.length !== wanted || roomBytes !== wanted + 1) return fail(STATUS_ERR)
    const answer = new Uint8Array(roomBytes)
    answer.set(result)
    answer[roomBytes - 1] = STATUS_OK
    return answer
  }
}

function cipher(session: Session, view: DataView, input: Uint8Array): Uint8Array | undefined {
  const encrypt = view.getUint8(0) === 0
  const [ivBytes, sourceBytes] = [view.getUint32(24, true), view.getUint32(28, true)]
  const data = input.subarray(OPERATION_BYTES + ivBytes)
  if (view.getUint32(64, true) !== 1 || encrypt !== session.encrypt || data.length !== sourceBytes)
    return undefined
  const name = `aes-${8 * session.key.length}-${CIPHERS[session.algorithm]}`
  const iv = input.subarray(OPERATION_BYTES, OPERATION_BYTES + ivBytes)
  try {
    const engine = encrypt ? createCipheriv(name, session.key, iv) : createDecipheriv(name, session.key, iv)
    engine.setAutoPadding(false)
    return Buffer.concat([engine.update(data), engine.final()])
  } catch {
    return undefined
  }
}

function digest(session: Session, input: Uint8Array): Uint8Array {
  const name = HASHES[session.algorithm]!
  const engine = session.service === 1 ? createHash(name) : createHmac(name, session.key)
  return engine.update(input.subarray(OPERATION_BYTES)).digest()
}
