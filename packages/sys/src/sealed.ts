import { accelError, isAccelError } from '@uaccel/uapi'
import * as abi from './abi.js'
import { type SystemCalls, sys } from './system-calls.js'

/**
 * Anonymous memory behind a descriptor that can be shared, with its size sealed for good.
 *
 * @param name Shown in /proc/PID/maps.
 * @param flags More of `abi.MFD_*`, such as those for huge pages; `sizeBytes` is then a multiple of their size.
 */
export function createSealedMemory(
  name: string,
  sizeBytes: number,
  calls: SystemCalls = sys,
  flags = 0,
): { fd: number; sizeBytes: number } {
  const fd = calls.memfdCreate(name, abi.MFD_ALLOW_SEALING | flags)
  try {
    calls.ftruncate(fd, sizeBytes)
    calls.addSeals(fd, abi.F_SEAL_SHRINK | abi.F_SEAL_GROW | abi.F_SEAL_SEAL)
    return { fd, sizeBytes }
  } catch (error) {
    calls.close(fd)
    throw error
  }
}

/** The seals of a file; 0 for one that can have none. */
export function getSealsOrNone(fd: number, calls: SystemCalls = sys): number {
  try {
    return calls.getSeals(fd)
  } catch (error) {
    if (!isAccelError(error)) throw error
    if (error.errno === 'EINVAL') return 0 // not a memfd
    // A path alone (O_PATH of open(2)) takes no other calls than this one, which throws for what is not open at all.
    if (error.errno === 'EBADF' && (calls.getFlags(fd) & abi.O_PATH) !== 0) return 0
    throw error
  }
}

/**
 * Checks a descriptor that came from another process before it is mapped: it must be memory that nobody can
 * shrink (a page behind the end of a file is SIGBUS, which JavaScript cannot catch) and be large enough.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT not sealed against shrinking, or cannot be
 * @throws ERR_ACCEL_OUT_OF_RANGE shorter than `minBytes`
 */
export function requireSealed(fd: number, minBytes: number, calls: SystemCalls = sys): void {
  if ((getSealsOrNone(fd, calls) & abi.F_SEAL_SHRINK) === 0) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      'Memory from another process must be a memfd sealed with F_SEAL_SHRINK; this descriptor is not. Seal it before sending it.',
    )
  }
  const { sizeBytes } = calls.fstat(fd) // after the seals were seen, so that it cannot shrink any more
  if (sizeBytes < minBytes) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `Memory from another process has ${sizeBytes} bytes; at least ${minBytes} are needed.`,
      { details: { sizeBytes, minBytes } },
    )
  }
}
