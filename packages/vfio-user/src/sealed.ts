import { requireSealed } from '@uaccel/sys'
import { isAccelError } from '@uaccel/uapi'

/** True for memory that its owner can no longer shrink, so that touching what was mapped of it cannot raise SIGBUS. */
export function isSealed(fd: number): boolean {
  try {
    requireSealed(fd, 0)
    return true
  } catch (error) {
    if (isAccelError(error, 'ERR_ACCEL_INVALID_ARGUMENT')) return false
    throw error
  }
}
