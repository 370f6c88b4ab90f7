import { accelError } from '@uaccel/uapi'

const BLOCK_BYTES = 16

/** A message padded to whole blocks of AES, as PKCS #7 has it (RFC 5652, 6.3): the device takes no others in CBC and ECB. */
export function padPkcs7(message: Uint8Array): Uint8Array {
  const added = BLOCK_BYTES - (message.length % BLOCK_BYTES)
  const padded = new Uint8Array(message.length + added).fill(added)
  padded.set(message)
  return padded
}

/**
 * The message in what {@link padPkcs7} made: a view. `ERR_ACCEL_INVALID_ARGUMENT` where it is none. Who decrypts what others may have
 * changed checks a MAC first: that this call fails tells them of the plain text.
 */
export function unpadPkcs7(padded: Uint8Array): Uint8Array {
  const added = padded.at(-1) ?? 0
  const message = padded.subarray(0, padded.length - added)
  const right =
    padded.length % BLOCK_BYTES === 0 &&
    added >= 1 &&
    added <= BLOCK_BYTES &&
    padded.subarray(message.length).every((byte) => byte === added)
  if (right) return message
  throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${padded.length} bytes do not end in a padding of PKCS #7`)
}
