import { type SystemCalls, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'

/** The system calls that the kernel transport makes: tests put a kernel of their own in their place. */
export type VfioCalls = Pick<
  SystemCalls,
  'open' | 'close' | 'closeAsync' | 'ioctl' | 'ioctlAsync' | 'read' | 'write' | 'pread' | 'pwrite'
>

export const kernelCalls: VfioCalls = {
  open: (path, flags, mode) => sys.open(path, flags, mode),
  close: (fd) => sys.close(fd),
  // The last close of a device resets it, which can take long.
  closeAsync: (fd) => sys.closeAsync(fd),
  ioctl: (fd, request, arg, what) => sys.ioctl(fd, request, arg, what),
  ioctlAsync: (fd, request, arg, what) => sys.ioctlAsync(fd, request, arg, what),
  read: (fd, buffer) => sys.read(fd, buffer),
  write: (fd, buffer) => sys.write(fd, buffer),
  pread: (fd, buffer, offset) => sys.pread(fd, buffer, offset),
  pwrite: (fd, buffer, offset) => sys.pwrite(fd, buffer, offset),
}

/** Waits for a call on another thread, but not for ever. */
export async function within<T>(limitMs: number, what: string, call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          accelError(
            'ERR_ACCEL_TIMEOUT',
            `${what} did not end within ${limitMs} ms; the kernel still waits for the device`,
          ),
        ),
      limitMs,
    )
  })
  try {
    return await Promise.race([call, limit])
  } finally {
    clearTimeout(timer)
  }
}
