/** A cipher: its number (virtio 1.2, 5.9.7.2.1.3), and what it works on, in bytes. */
export interface Cipher {
  readonly number: number
  readonly keyBytes: readonly number[]
  /** Data is a multiple of it. */
  readonly blockBytes: number
  readonly ivBytes: number
}

/** A hash or MAC: its number (5.9.7.2.1.1, 5.9.7.2.1.2), and what it answers, in bytes. */
export interface Digest {
  readonly number: number
  readonly resultBytes: number
}

const AES_KEYS = [16, 24, 32]
const AES_BLOCK = 16

/** VIRTIO_CRYPTO_CIPHER_*; key sizes of FIPS 197, of XTS (two keys) IEEE 1619. */
export const ciphers = {
  aesEcb: { number: 2, keyBytes: AES_KEYS, blockBytes: AES_BLOCK, ivBytes: 0 },
  aesCbc: { number: 3, keyBytes: AES_KEYS, blockBytes: AES_BLOCK, ivBytes: AES_BLOCK },
  aesCtr: { number: 4, keyBytes: AES_KEYS, blockBytes: 1, ivBytes: AES_BLOCK },
  aesXts: { number: 13, keyBytes: [32, 64], blockBytes: AES_BLOCK, ivBytes: AES_BLOCK },
} as const satisfies Record<string, Cipher>

/** VIRTIO_CRYPTO_HASH_*. */
export const hashes = {
  md5: { number: 1, resultBytes: 16 },
  sha1: { number: 2, resultBytes: 20 },
  sha224: { number: 3, resultBytes: 28 },
  sha256: { number: 4, resultBytes: 32 },
  sha384: { number: 5, resultBytes: 48 },
  sha512: { number: 6, resultBytes: 64 },
  sha3224: { number: 7, resultBytes: 28 },
  sha3256: { number: 8, resultBytes: 32 },
  sha3384: { number: 9, resultBytes: 48 },
  sha3512: { number: 10, resultBytes: 64 },
} as const satisfies Record<string, Digest>

/** VIRTIO_CRYPTO_MAC_*. */
export const macs = {
  hmacMd5: { number: 1, resultBytes: 16 },
  hmacSha1: { number: 2, resultBytes: 20 },
  hmacSha224: { number: 3, resultBytes: 28 },
  hmacSha256: { number: 4, resultBytes: 32 },
  hmacSha384: { number: 5, resultBytes: 48 },
  hmacSha512: { number: 6, resultBytes: 64 },
  cmacAes: { number: 26, resultBytes: 16 },
} as const satisfies Record<string, Digest>

/** VIRTIO_CRYPTO_RSA_*: hashes of signatures of RSA (virtio 1.2, 5.9.7.2.1.6), and their digests in bytes. QEMU has these. */
export const rsaHashes = {
  md5: { number: 4, resultBytes: 16 },
  sha1: { number: 5, resultBytes: 20 },
  sha256: { number: 6, resultBytes: 32 },
  sha512: { number: 8, resultBytes: 64 },
} as const satisfies Record<string, Digest>

/** What a session of RSA does, by the number of its request (5.9.7.4.8): with the public key (1) or the private one (2). */
export const rsaUses = {
  encrypt: { number: 0, keyType: 1 },
  decrypt: { number: 1, keyType: 2 },
  sign: { number: 2, keyType: 2 },
  verify: { number: 3, keyType: 1 },
} as const

export type RsaHashName = keyof typeof rsaHashes
export type RsaUse = keyof typeof rsaUses
export type CipherName = keyof typeof ciphers
export type HashName = keyof typeof hashes
export type MacName = keyof typeof macs

/** The numbers of a table by name, and `none`: for an enumeration. */
export function numbersOf<N extends string>(
  table: Readonly<Record<N, { readonly number: number }>>,
): Readonly<Record<N | 'none', number>> {
  const numbers: Record<string, number> = { none: 0 }
  for (const [name, { number }] of Object.entries<{ readonly number: number }>(table)) numbers[name] = number
  return numbers as Record<N | 'none', number>
}
