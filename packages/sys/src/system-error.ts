import { type AccelError, accelError, type ErrorCode } from '@uaccel/uapi'
import { errnoName } from './ffi.js'

const codeOfErrno: Record<string, ErrorCode> = {
  EACCES: 'ERR_ACCEL_PERMISSION',
  EPERM: 'ERR_ACCEL_PERMISSION',
  ENODEV: 'ERR_ACCEL_NO_DEVICE',
  ENXIO: 'ERR_ACCEL_NO_DEVICE',
  EBUSY: 'ERR_ACCEL_BUSY',
  ENOMEM: 'ERR_ACCEL_NO_MEMORY',
  ENOENT: 'ERR_ACCEL_NOT_FOUND',
  EPIPE: 'ERR_ACCEL_CLOSED',
  ECONNRESET: 'ERR_ACCEL_CLOSED',
  ETIMEDOUT: 'ERR_ACCEL_TIMEOUT',
}

/**
 * The typed error of a failed call. Most errnos are `ERR_ACCEL_SYSTEM`; those with a meaning of their own have
 * the code for it. `errno` and `syscall` are always set.
 *
 * @param result `-errno`, as a raw call answered it.
 * @param what What the call was for, such as a path or `fd 7`.
 */
export function systemError(syscall: string, result: number, what: string): AccelError {
  const errno = errnoName(result)
  return accelError(codeOfErrno[errno] ?? 'ERR_ACCEL_SYSTEM', `${syscall}: ${errno} (${what})`, {
    errno,
    syscall,
  })
}
