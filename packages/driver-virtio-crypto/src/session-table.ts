import { createPrivateKey, createPublicKey } from 'node:crypto'
import { accelError, isAccelError } from '@uaccel/uapi'
import {
  type CipherName,
  ciphers,
  type HashName,
  hashes,
  type MacName,
  macs,
  type RsaHashName,
  type RsaUse,
  rsaHashes,
  rsaUses,
} from './algorithms.js'
import type { CryptoCapabilities } from './capabilities.js'
import type { ControlQueue } from './control-queue.js'
import {
  CONTROL_BYTES,
  CONTROL_OP_TYPE,
  CONTROL_PARAMETERS,
  createOpcode,
  DIRECTION,
  destroyOpcode,
  OK,
  RSA,
  SERVICE,
  type Service,
  SYM_OP_CIPHER,
  statusError,
} from './protocol.js'
import { CryptoSession, type SessionKind } from './session.js'
import { MAX_KEY_BYTES, MAX_RSA_BYTES, MAX_RSA_KEY_BYTES } from './uapi.js'

/** Of a signature with SHA-512: its digest, and what PKCS #1 puts around it (RFC 8017, 9.2), have to fit. */
const MIN_RSA_BITS = 1024
/** struct virtio_crypto_create_session_input. */
const CREATED_BYTES = 16

/** The sessions of a device, by the requests of its control queue (virtio 1.2, 5.9.7.2). They outlive its resets. */
export class SessionTable {
  readonly #control: ControlQueue
  readonly #has: CryptoCapabilities
  readonly #sessions = new Set<CryptoSession>()

  constructor(control: ControlQueue, has: CryptoCapabilities) {
    this.#control = control
    this.#has = has
  }

  /** Sessions that there are now. */
  get size(): number {
    return this.#sessions.size
  }

  /** See `VirtioCrypto.createCipher`. */
  createCipher(name: CipherName, direction: 'encrypt' | 'decrypt', key: Uint8Array): Promise<CryptoSession> {
    const { number: algorithm, keyBytes, blockBytes, ivBytes } = ciphers[name]
    this.#requireOffered('cipher', name, algorithm, this.#has.ciphers)
    const sizes: readonly number[] = keyBytes
    if (!sizes.includes(key.length))
      throw outOfRange(`${name} takes a key of ${sizes.join(', ')} bytes, found ${key.length}`)
    checkKey(name, key, this.#has.maxCipherKeyBytes)
    const operation = direction === 'decrypt' ? 1 : 0
    const kind = { service: 'cipher', algorithm, operation, blockBytes, ivBytes, resultBytes: 0 } as const
    return this.#create(kind, key, (view, at) => {
      // struct virtio_crypto_cipher_session_flf
      view.setUint32(at, algorithm, true)
      view.setUint32(at + 4, key.length, true)
      view.setUint32(at + 8, DIRECTION[direction], true)
      view.setUint32(CONTROL_OP_TYPE, SYM_OP_CIPHER, true)
    })
  }

  /** See `VirtioCrypto.createHash`. */
  createHash(name: HashName): Promise<CryptoSession> {
    const { number: algorithm, resultBytes } = hashes[name]
    this.#requireOffered('hash', name, algorithm, this.#has.hashes)
    return this.#create(digestKind('hash', algorithm, resultBytes), new Uint8Array(), (view, at) => {
      // struct virtio_crypto_hash_create_session_flf
      view.setUint32(at, algorithm, true)
      view.setUint32(at + 4, resultBytes, true)
    })
  }

  /** See `VirtioCrypto.createMac`. */
  createMac(name: MacName, key: Uint8Array): Promise<CryptoSession> {
    const { number: algorithm, resultBytes } = macs[name]
    this.#requireOffered('mac', name, algorithm, this.#has.macs)
    checkKey(name, key, this.#has.maxMacKeyBytes)
    return this.#create(digestKind('mac', algorithm, resultBytes), key, (view, at) => {
      // struct virtio_crypto_mac_create_session_flf
      view.setUint32(at, algorithm, true)
      view.setUint32(at + 4, resultBytes, true)
      view.setUint32(at + 8, key.length, true)
    })
  }

  /** See `VirtioCrypto.createRsa`. */
  createRsa(use: RsaUse, hash: RsaHashName, key: Uint8Array): Promise<CryptoSession> {
    const { number: operation, keyType } = rsaUses[use]
    this.#requireOffered('asymmetric', 'RSA', RSA.number, BigInt(this.#has.asymmetric))
    const resultBytes = modulusBytes(key, keyType)
    const kind = {
      service: 'asymmetric',
      algorithm: RSA.number,
      operation,
      blockBytes: 1,
      ivBytes: 0,
    } as const
    const { number: hashNumber, resultBytes: digestBytes } = rsaHashes[hash]
    return this.#create({ ...kind, resultBytes, digestBytes }, key, (view, at) => {
      // struct virtio_crypto_akcipher_create_session_flf, and virtio_crypto_rsa_session_para
      view.setUint32(at, RSA.number, true)
      view.setUint32(at + 4, keyType, true)
      view.setUint32(at + 8, key.length, true)
      view.setUint32(at + 12, RSA.pkcs1, true)
      view.setUint32(at + 16, hashNumber, true)
    })
  }

  /** See `VirtioCrypto.destroy`. */
  async destroy(session: CryptoSession): Promise<void> {
    if (session.closed) return
    session.closed = true
    // The device may give its number to another session at once, whose key an operation of this one would then use.
    if (session.operations > 0) {
      await new Promise<void>((resolve) => {
        session.idle = resolve
      })
    }
    if (!this.#forget(session) || !session.live) return // gone with a reset meanwhile
    const view = request(destroyOpcode(session.kind.service), 0, 0)
    view.setInt32(CONTROL_PARAMETERS, session.idLow, true)
    view.setInt32(CONTROL_PARAMETERS + 4, session.idHigh, true)
    const { resets } = this.#control
    try {
      const status = (await this.#control.request(bytesOf(view), 1)).getUint8(0)
      if (status !== OK) throw statusError('A session was to be destroyed', status)
    } catch (error) {
      const gone = this.#control.resets !== resets || isAccelError(error, 'ERR_ACCEL_NO_DEVICE')
      if (!gone) throw error
    }
  }

  /** The device was reset and listens again: makes all sessions anew. Those that it does not take take no operations any more. */
  async restore(): Promise<void> {
    for (const session of this.#sessions) session.live = false
    for (const session of [...this.#sessions]) {
      if (!session.closed && (await this.#make(session)) !== OK) session.closed = true
      if (session.closed) this.#forget(session)
    }
  }

  /** Forgets all, keys included: the device is released. */
  clear(): void {
    for (const session of [...this.#sessions]) {
      session.closed = true
      this.#forget(session)
    }
  }

  async #create(
    kind: SessionKind,
    key: Uint8Array,
    fill: (view: DataView, at: number) => void,
  ): Promise<CryptoSession> {
    const view = request(createOpcode(kind.service), kind.algorithm, key.length)
    fill(view, CONTROL_PARAMETERS)
    const creation = bytesOf(view)
    creation.set(key, CONTROL_BYTES)
    const session = new CryptoSession(kind, creation)
    try {
      const status = await this.#make(session)
      if (status !== OK) throw statusError('A session was to be made', status)
      this.#sessions.add(session)
      return session
    } catch (error) {
      creation.fill(0)
      throw error
    }
  }

  /** Has the device make a session; answers its status. `ERR_ACCEL_IO` where it names one that there is already. */
  async #make(session: CryptoSession): Promise<number> {
    const answer = await this.#control.request(session.creation, CREATED_BYTES)
    const status = answer.getUint32(8, true)
    if (status !== OK) return status
    const [low, high] = [answer.getInt32(0, true), answer.getInt32(4, true)]
    for (const other of this.#sessions) {
      if (!other.live || other.idLow !== low || other.idHigh !== high) continue
      throw accelError(
        'ERR_ACCEL_IO',
        `The virtio-crypto device gave a new session the number 0x${answer.getBigUint64(0, true).toString(16)}, which another has: ` +
          'one would use the key of the other',
      )
    }
    session.idLow = low
    session.idHigh = high
    session.live = true
    return OK
  }

  #forget(session: CryptoSession): boolean {
    session.creation.fill(0)
    return this.#sessions.delete(session)
  }

  #requireOffered(service: Service, name: string, algorithm: number, offered: bigint): void {
    const has = (this.#has.services & (1 << SERVICE[service])) !== 0
    if (has && ((offered >> BigInt(algorithm)) & 1n) === 1n) return
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      has
        ? `The virtio-crypto device does not offer ${name}: of that service it has 0x${offered.toString(16)}`
        : `The virtio-crypto device does not offer ${name}: it has the services 0x${this.#has.services.toString(16)}`,
    )
  }
}

function digestKind(service: 'hash' | 'mac', algorithm: number, resultBytes: number): SessionKind {
  return { service, algorithm, operation: 0, blockBytes: 1, ivBytes: 0, resultBytes }
}

function checkKey(name: string, key: Uint8Array, deviceBytes: number): void {
  const most = Math.min(deviceBytes, MAX_KEY_BYTES)
  if (key.length === 0 || key.length > most)
    throw outOfRange(`${name} takes a key of 1 to ${most} bytes from this device, found ${key.length}`)
}

/** Bytes of the modulus of a key. */
function modulusBytes(key: Uint8Array, keyType: number): number {
  const copy = Buffer.from(key)
  const form = { key: copy, format: 'der', type: 'pkcs1' } as const
  let bits = 0
  let again: Buffer | undefined
  try {
    const parsed = keyType === rsaUses.encrypt.keyType ? createPublicKey(form) : createPrivateKey(form)
    // createPublicKey takes a private key, too, and both take bytes behind a key: the device would get them for a public key.
    again = parsed.export({ format: 'der', type: 'pkcs1' })
    if (!again.equals(copy)) throw new RangeError('The key is another one when it is encoded again')
    bits = parsed.asymmetricKeyDetails?.modulusLength ?? 0
  } catch (cause) {
    const wanted = keyType === rsaUses.encrypt.keyType ? 'RSAPublicKey' : 'RSAPrivateKey'
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `RSA wants a DER-encoded ${wanted} of PKCS #1 (RFC 8017, A.1), found ${key.length} bytes that are none`,
      { cause },
    )
  } finally {
    copy.fill(0)
    again?.fill(0)
  }
  const bytes = Math.ceil(bits / 8)
  if (bits >= MIN_RSA_BITS && bytes <= MAX_RSA_BYTES && key.length <= MAX_RSA_KEY_BYTES) return bytes
  throw outOfRange(
    `RSA takes a modulus of ${MIN_RSA_BITS} to ${8 * MAX_RSA_BYTES} bits and ${MAX_RSA_KEY_BYTES} bytes of key, found ${bits} bits in ${key.length} bytes`,
  )
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
