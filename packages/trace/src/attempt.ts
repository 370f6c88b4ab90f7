import { accelError } from '@uaccel/uapi'

/** Does something with the file of a trace: what the system refuses is an error of the table. */
export function attempt<T>(path: string, what: 'made' | 'read' | 'written', work: () => T): T {
  try {
    return work()
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const kind =
      code === 'ENOENT'
        ? 'ERR_ACCEL_NOT_FOUND'
        : code === 'EACCES' || code === 'EPERM'
          ? 'ERR_ACCEL_PERMISSION'
          : 'ERR_ACCEL_IO'
    const why = cause instanceof Error ? cause.message : cause
    throw accelError(kind, `The trace ${path} cannot be ${what}: ${why}`, { cause })
  }
}
