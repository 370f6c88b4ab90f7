import { isAccelError } from '@uaccel/uapi'
import { sys } from './system-calls.js'

/**
 * Closes descriptors that came with a message and are of no use. What the file behind one has to say to that is its owner's
 * business: the descriptor is gone. Only closing one twice is an error.
 */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) {
    try {
      sys.close(fd)
    } catch (error) {
      if (!isAccelError(error) || error.errno === 'EBADF') throw error
    }
  }
}

/** A second descriptor for each of them, or for none. */
export function duplicates(fds: readonly number[]): readonly number[] {
  const copies: number[] = []
  try {
    for (const fd of fds) copies.push(sys.dup(fd))
    return copies
  } catch (error) {
    closeAll(copies)
    throw error
  }
}
