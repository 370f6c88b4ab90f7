import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  privateEncrypt,
  publicDecrypt,
  publicEncrypt,
} from 'node:crypto'
import {
  type VirtioAnswer,
  type VirtioBehaviour,
  type VirtioRequest,
  virtioModel,
} from '@uaccel/virtio/model'

/** What the device offers, and how it fails. */
export interface VirtioCryptoOptions {
  /** Data queues; the control queue is behind them. Default 1. The model has 2. */
  readonly dataQueues?: 1 | 2
  /** Services, as a set of bits. Default: ciphers, hashes, MACs and asymmetric ciphers. */
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

const AKCIPHER = 4
const AKCIPHER_RSA = 1
const STATUS_KEY_REJECTED = 6
const PKCS1_PADDING = 1
/** Hashes of RSA by number: what stands before a digest of theirs in a signature (RFC 8017, 9.2, note 1). */
const DIGEST_INFO: Readonly<Record<number, string>> = {
  4: '3020300c06082a864886f70d020505000410',
  5: '3021300906052b0e03021a05000414',
  6: '3031300d060960864801650304020105000420',
  8: '3051300d060960864801650304020305000440',
}

interface RsaSession {
  readonly key: KeyObject
  readonly prefix: Buffer
}

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
  config({ dataQueues = 1, services = 0b10111 }) {
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
    view.setUint32(44, 1 << AKCIPHER_RSA, true)
    view.setBigUint64(48, 1n << 40n, true)
    return new Uint8Array(view.buffer)
  },
  create: (options) => new Crypto(options),
})

class Crypto implements VirtioBehaviour {
  readonly #options: VirtioCryptoOptions
  readonly #controlQueue: number
  readonly #sessions = new Map<bigint, Session>()
  readonly #rsa = new Map<bigint, RsaSession>()
  #next = 0x1_0000_0000n

  constructor(options: VirtioCryptoOptions) {
    this.#options = options
    this.#controlQueue = options.dataQueues ?? 1
  }

  serve({ queue, input, roomBytes }: VirtioRequest): Uint8Array | VirtioAnswer {
    const { tamper = (_queue, answer) => answer } = this.#options
    const view = new DataView(input.buffer, input.byteOffset, input.length)
    const isControl = queue === this.#controlQueue
    const rsa =
      isControl || input.length < OPERATION_BYTES ? undefined : this.#rsa.get(view.getBigUint64(8, true))
    if (rsa !== undefined) return rsaAnswer(rsaOperation(rsa, view, input), roomBytes)
    return tamper(queue, isControl ? this.#control(view, input) : this.#data(view, input, roomBytes))
  }

  reset(): void {
    this.#sessions.clear()
    this.#rsa.clear()
    this.#changed()
  }

  #changed(): void {
    this.#options.onSessions?.(this.#sessions.size + this.#rsa.size)
  }

  #control(view: DataView, input: Uint8Array): Uint8Array {
    if (input.length < CONTROL_BYTES) return Uint8Array.of(STATUS_ERR)
    const { maxSessions = 256 } = this.#options
    const operation = view.getUint8(0)
    const service = view.getUint8(1)
    const answer = new DataView(new ArrayBuffer(16))
    if (service === AKCIPHER && operation === 4) return this.#createRsa(view, input)
    if (operation === 3 || (service === AKCIPHER && operation === 5)) {
      const id = view.getBigUint64(16, true)
      const known = service === AKCIPHER ? this.#rsa.delete(id) : this.#sessions.delete(id)
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

  #createRsa(view: DataView, input: Uint8Array): Uint8Array {
    const [algorithm, type, keyBytes, padding, hash] = [16, 20, 24, 28, 32].map((at) =>
      view.getUint32(at, true),
    )
    const der = Buffer.from(input.subarray(CONTROL_BYTES))
    const answer = new DataView(new ArrayBuffer(16))
    const prefix = DIGEST_INFO[hash!]
    let status = STATUS_OK
    if (algorithm !== AKCIPHER_RSA || padding !== PKCS1_PADDING || prefix === undefined)
      status = STATUS_NOTSUPP
    else if (der.length !== keyBytes) status = STATUS_ERR
    else {
      const form = { key: der, format: 'der', type: 'pkcs1' } as const
      const key = type === 1 ? createPublicKey(form) : createPrivateKey(form)
      this.#rsa.set(this.#next, { key, prefix: Buffer.from(prefix, 'hex') })
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

/** The status is the last byte that may be written, however short the result is; the length counts both. */
function rsaAnswer(result: Uint8Array | number, roomBytes: number): VirtioAnswer {
  const bytes = new Uint8Array(roomBytes)
  if (typeof result === 'number') {
    bytes[roomBytes - 1] = result
    return { bytes, usedBytes: roomBytes }
  }
  if (result.length >= roomBytes) return rsaAnswer(STATUS_ERR, roomBytes)
  bytes.set(result)
  bytes[roomBytes - 1] = STATUS_OK
  return { bytes, usedBytes: result.length + 1 }
}

/** Without zeros in front, as QEMU's device answers what is a number to it. */
const asNumber = (bytes: Uint8Array) => bytes.subarray(bytes.findIndex((byte) => byte !== 0))

/** RSA with the padding of PKCS #1: a result, or a status. */
function rsaOperation({ key, prefix }: RsaSession, view: DataView, input: Uint8Array): Uint8Array | number {
  const [sourceBytes, otherBytes] = [view.getUint32(24, true), view.getUint32(28, true)]
  const data = input.subarray(OPERATION_BYTES)
  const verifies = view.getUint8(0) === 3
  if (view.getUint8(1) !== AKCIPHER) return STATUS_ERR
  if (data.length !== sourceBytes + (verifies ? otherBytes : 0)) return STATUS_ERR
  const padded = { key, padding: constants.RSA_PKCS1_PADDING }
  try {
    switch (view.getUint8(0)) {
      case 0:
        return asNumber(publicEncrypt(padded, data))
      case 1: {
        // Node removes no padding of this kind any more: it is 0, 2, at least eight bytes that are not 0, 0, and the message.
        const plain = privateDecrypt({ key, padding: constants.RSA_NO_PADDING }, data)
        const end = plain.indexOf(0, 2)
        return plain[0] === 0 && plain[1] === 2 && end >= 10 ? plain.subarray(end + 1) : STATUS_ERR
      }
      case 2:
        return asNumber(privateEncrypt(padded, Buffer.concat([prefix, data])))
      default: {
        const [signature, digest] = [data.subarray(0, sourceBytes), data.subarray(sourceBytes)]
        const found = publicDecrypt(padded, signature)
        return found.equals(Buffer.concat([prefix, digest])) ? new Uint8Array() : STATUS_KEY_REJECTED
      }
    }
  } catch {
    return verifies ? STATUS_KEY_REJECTED : STATUS_ERR
  }
}
