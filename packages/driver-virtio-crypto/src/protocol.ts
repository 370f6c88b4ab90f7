import { type AccelError, accelError, type ErrorCode } from '@uaccel/uapi'

/** Services (VIRTIO_CRYPTO_SERVICE_*, virtio 1.2, 5.9.5). */
export const SERVICE = { cipher: 0, hash: 1, mac: 2, asymmetric: 4 } as const
export type Service = keyof typeof SERVICE

/** VIRTIO_CRYPTO_OPCODE (5.9.7.2). */
const opcode = (service: Service, operation: number) => (SERVICE[service] << 8) | operation

/** Requests of the control queue (5.9.7.2). */
export const createOpcode = (service: Service) => opcode(service, service === 'asymmetric' ? 0x04 : 0x02)
export const destroyOpcode = (service: Service) => opcode(service, service === 'asymmetric' ? 0x05 : 0x03)
/** Requests of data queues (5.9.7.4); decryption is operation 1 of its service. */
export const dataOpcode = opcode

/**
 * Sizes of requests where VIRTIO_CRYPTO_F_REVISION_1 was not agreed on: a header, then 56 or 48 bytes that depend on the operation
 * (VIRTIO_CRYPTO_CTRLQ_OP_SPEC_HDR_LEGACY and VIRTIO_CRYPTO_DATAQ_OP_SPEC_HDR_LEGACY).
 */
export const CONTROL_BYTES = 16 + 56
export const DATA_BYTES = 24 + 48
/** Offset of what depends on the operation, in a control request. */
export const CONTROL_PARAMETERS = 16
/** Offset of `op_type` in struct virtio_crypto_sym_create_session_flf and virtio_crypto_sym_data_flf, and its one value here. */
export const CONTROL_OP_TYPE = CONTROL_PARAMETERS + 48
export const DATA_OP_TYPE = 24 + 40
export const SYM_OP_CIPHER = 1
/** VIRTIO_CRYPTO_AKCIPHER_RSA and VIRTIO_CRYPTO_RSA_PKCS1_PADDING (5.9.7.2.1.6). */
export const RSA = { number: 1, pkcs1: 1 } as const
/** VIRTIO_CRYPTO_OP_* (5.9.7.2.1.3). */
export const DIRECTION = { encrypt: 1, decrypt: 2 } as const

/** The configuration (5.9.4), in bytes from its start. */
export const CONFIG = {
  status: 0,
  maxDataQueues: 4,
  services: 8,
  ciphers: 12,
  hashes: 20,
  macs: 24,
  maxCipherKeyBytes: 36,
  maxMacKeyBytes: 40,
  asymmetric: 44,
  maxRequestBytes: 48,
} as const
/** VIRTIO_CRYPTO_S_HW_READY. */
export const HARDWARE_READY = 1

/** VIRTIO_CRYPTO_OK (5.9.7.1); and of a signature that is not that of its digest. */
export const OK = 0
export const KEY_REJECTED = 6
/** What stands in the place of a status until the device has written one. */
export const NO_STATUS = 0xff

/** enum VIRTIO_CRYPTO_STATUS (5.9.7.1). */
const failures: Readonly<Record<number, readonly [name: string, code: ErrorCode]>> = {
  1: ['ERR', 'ERR_ACCEL_IO'],
  2: ['BADMSG', 'ERR_ACCEL_IO'],
  3: ['NOTSUPP', 'ERR_ACCEL_UNSUPPORTED'],
  4: ['INVSESS', 'ERR_ACCEL_NOT_FOUND'],
  5: ['NOSPC', 'ERR_ACCEL_NO_MEMORY'],
  6: ['KEY_REJECTED', 'ERR_ACCEL_INVALID_ARGUMENT'],
}

/** The error for a status that is not OK. */
export function statusError(what: string, status: number): AccelError {
  const [name, code] = failures[status] ?? [`${status}`, 'ERR_ACCEL_IO' as const]
  return accelError(code, `${what}: the virtio-crypto device answered ${name}`, { details: { status } })
}
