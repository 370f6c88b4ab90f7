import { readlinkSync } from 'node:fs'
import { isAccelError } from '@uaccel/uapi'
import { sys } from './system-calls.js'

/** Closes that may wait run one after the other: they never take more than one thread from those that have work. */
let waiting: Promise<void> = Promise.resolve()

/**
 * Closes descriptors that came with a message and are of no use. What the file behind one has to say to that is its owner's
 * business: the descriptor is gone. Only closing one twice is an error.
 *
 * Nobody is waited for: what is neither memory nor an eventfd is closed on another thread, soon. The last close of a socket may wait for
 * its peer (SO_LINGER, socket(7)), each close of a file in user space for whoever serves it (FUSE_FLUSH, fs/fuse/file.c).
 */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) {
    if (closesAtOnce(fd)) tolerant(() => sys.close(fd))
    else waiting = waiting.then(() => sys.closeAsync(fd)).catch((error) => tolerant(() => raise(error)))
  }
}

function raise(error: unknown): never {
  throw error
}

function tolerant(close: () => void): void {
  try {
    close()
  } catch (error) {
    if (!isAccelError(error) || error.errno === 'EBADF') throw error
  }
}

/** Told by what only the kernel can say: a path could be anything in the name space of whoever sent it. */
function closesAtOnce(fd: number): boolean {
  try {
    sys.getSeals(fd)
    return true // memory, sealed or not
  } catch {
    // Something else, or nothing.
  }
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]'
  } catch {
    return true // not open: which closing it says
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
