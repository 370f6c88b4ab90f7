import {
  accelError,
  array,
  bool,
  bytes,
  cmd,
  doc,
  enumeration,
  type Handle,
  handle,
  struct,
  structCodec,
  u32,
  u64,
  uapi,
} from '@uaccel/uapi'
import { ciphers, hashes, macs, numbersOf, rsaHashes } from './algorithms.js'

export type { CipherName, HashName, MacName, RsaHashName, RsaUse } from './algorithms.js'
export { padPkcs7, unpadPkcs7 } from './pkcs7.js'

/** The most data of a command; more goes into buffers, and through jobs. */
export const MAX_INLINE_BYTES = 4096
/** The longest key of a MAC that a client can give; devices may take less. */
export const MAX_KEY_BYTES = 512
/** The longest digest. */
export const MAX_DIGEST_BYTES = 64
/** The longest modulus of RSA, in bytes: 4,096 bits. What RSA works on is as long. */
export const MAX_RSA_BYTES = 512
/** The longest private key of that modulus, DER-encoded. */
export const MAX_RSA_KEY_BYTES = 2560
/** The longest initialization vector. */
export const MAX_IV_BYTES = 16
/** Parts of buffers that one side of an operation may consist of. */
export const MAX_PARTS = 16

const session = handle('session')
const algorithm = <N extends string>(table: Readonly<Record<N, { readonly number: number }>>) =>
  enumeration(numbersOf(table))

/** What a virtio-crypto device does, for clients. Numbers are the ABI: append-only. */
export const virtioCryptoUapi = uapi({
  name: 'virtio-crypto',
  version: 1,
  commands: {
    identify: cmd(0x40, {
      doc: "What the device offers, from its configuration; bits have the numbers of virtio's algorithms.",
      out: {
        ready: doc('Whether its hardware is ready.', bool),
        dataQueues: doc('Data queues that it has.', u32),
        services: doc('Bit n: service n (0 ciphers, 1 hashes, 2 MACs, 3 AEAD, 4 asymmetric ciphers).', u32),
        ciphers: doc('Bit n: cipher n.', u64),
        hashes: doc('Bit n: hash n.', u64),
        macs: doc('Bit n: MAC n.', u64),
        maxCipherKeyBytes: doc('The longest key of a cipher.', u32),
        maxMacKeyBytes: doc('The longest key of a MAC.', u32),
        maxRequestBytes: doc('The most that the variable parts of one request may have together.', u64),
        features: doc('What was agreed on with the device, as virtio numbers features.', u64),
        asymmetric: doc('Bit n: asymmetric cipher n (1 RSA, 2 DSA, 3 ECDSA).', u32),
      },
      concurrent: true,
    }),
    createCipherSession: cmd(0x41, {
      doc: 'Makes a session for one direction of a cipher. It belongs to the open and goes with it, or with a reset.',
      in: {
        algorithm: doc('The cipher.', algorithm(ciphers)),
        direction: doc('What operations of the session do.', enumeration({ encrypt: 0, decrypt: 1 })),
        key: doc('16, 24 or 32 bytes for AES; two keys of the same size for XTS.', bytes(64)),
      },
      out: { session: doc('Names it in operations.', session) },
    }),
    createHashSession: cmd(0x42, {
      doc: 'Makes a session for a hash.',
      in: { algorithm: doc('The hash.', algorithm(hashes)) },
      out: { session: doc('Names it in operations.', session) },
    }),
    createMacSession: cmd(0x43, {
      doc: 'Makes a session for a MAC.',
      in: {
        algorithm: doc('The MAC.', algorithm(macs)),
        key: doc('The key.', bytes(MAX_KEY_BYTES)),
      },
      out: { session: doc('Names it in operations.', session) },
    }),
    destroySession: cmd(0x44, {
      doc: 'Gives a session back, once its operations have ended.',
      in: { session: doc('The session.', session) },
    }),
    cipher: cmd(0x45, {
      doc: 'Encrypts or decrypts, as the session says.',
      in: {
        session: doc('A session of a cipher.', session),
        iv: doc('Initialization vector or counter: 16 bytes, none with ECB.', bytes(MAX_IV_BYTES)),
        data: doc('What is encrypted or decrypted: a multiple of the block size.', bytes(MAX_INLINE_BYTES)),
      },
      out: { data: doc('As many bytes.', bytes(MAX_INLINE_BYTES)) },
    }),
    digest: cmd(0x46, {
      doc: 'The hash or MAC of a message.',
      in: {
        session: doc('A session of a hash or MAC.', session),
        data: doc('The message.', bytes(MAX_INLINE_BYTES)),
      },
      out: { digest: doc('The digest.', bytes(MAX_DIGEST_BYTES)) },
    }),
    createRsaSession: cmd(0x47, {
      doc: 'Makes a session for one use of an RSA key, with the padding of PKCS #1 v1.5 (RFC 8017, 7.2 and 8.2).',
      in: {
        use: doc(
          'What operations of the session do.',
          enumeration({ encrypt: 0, decrypt: 1, sign: 2, verify: 3 }),
        ),
        hash: doc('Of signatures.', algorithm(rsaHashes)),
        key: doc(
          'DER-encoded RSAPublicKey of PKCS #1 to encrypt and verify, RSAPrivateKey to decrypt and sign.',
          bytes(MAX_RSA_KEY_BYTES),
        ),
      },
      out: {
        session: doc('Names it in operations.', session),
        modulusBytes: doc('Length of what is encrypted, and of signatures.', u32),
      },
    }),
    rsa: cmd(0x48, {
      doc: 'Encrypts, decrypts or signs, as the session says.',
      in: {
        session: doc('A session of RSA that does not verify.', session),
        data: doc('A message, what was encrypted, or the digest that is signed.', bytes(MAX_RSA_BYTES)),
      },
      out: { data: doc('The result.', bytes(MAX_RSA_BYTES)) },
    }),
    rsaVerify: cmd(0x49, {
      doc: 'Whether a signature is that of a digest.',
      in: {
        session: doc('A session of RSA that verifies.', session),
        signature: doc('The signature.', bytes(MAX_RSA_BYTES)),
        digest: doc('The digest.', bytes(MAX_DIGEST_BYTES)),
      },
      out: { valid: doc('Whether it is.', bool) },
    }),
  },
})

/** A part of a buffer: `buffer` is its place in the list of the job, counted from 1; `offset` is within that range. */
const part = struct({ offset: u64, buffer: u32, sizeBytes: u32 })

/**
 * One operation of a job. Parts stand for one stretch of bytes each side: what is read, and where the result goes. A payload is one such
 * structure after another; those of one job have no order among themselves.
 */
export const cryptoOperation = structCodec(
  {
    session: handle('session'),
    iv: bytes(MAX_IV_BYTES),
    source: array(part, MAX_PARTS),
    destination: array(part, MAX_PARTS),
  },
  'virtioCrypto.operation',
)

/** A part of a buffer of a job. */
export interface CryptoPart {
  /** Its place in the job's list of buffers, from 0 on. */
  readonly buffer: number
  /** Bytes from the start of that range; default 0. */
  readonly offset?: number
  readonly sizeBytes: number
}

/** An operation as a client writes it. In place: both sides name the same bytes, of a buffer with access `readwrite`. */
export interface CryptoStep {
  readonly session: Handle<'session'>
  /** None for hashes, MACs and ECB. */
  readonly iv?: Uint8Array
  readonly source: readonly CryptoPart[]
  readonly destination: readonly CryptoPart[]
}

/** Puts operations into a payload for SUBMIT. Errors: `ERR_ACCEL_OUT_OF_RANGE` for what does not fit its field. */
export function encodeOperations(steps: readonly CryptoStep[]): Uint8Array {
  const { sizeBytes } = cryptoOperation.layout
  const payload = new Uint8Array(sizeBytes * steps.length)
  for (const [i, { session, iv = new Uint8Array(), source, destination }] of steps.entries()) {
    const encoded = cryptoOperation.encode({
      session,
      iv,
      source: source.map(encodePart),
      destination: destination.map(encodePart),
    })
    payload.set(encoded, sizeBytes * i)
  }
  return payload
}

function encodePart({ buffer, offset = 0, sizeBytes }: CryptoPart) {
  if (Number.isSafeInteger(offset) && offset >= 0)
    return { buffer: buffer + 1, offset: BigInt(offset), sizeBytes }
  throw accelError('ERR_ACCEL_OUT_OF_RANGE', `A part of a buffer wants an offset in bytes, found ${offset}`)
}
