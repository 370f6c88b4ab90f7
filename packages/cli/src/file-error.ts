import { accelError } from '@uaccel/uapi'

/** The error of a file that could not be `done` (read, written), by what the system said. */
export function fileError(path: string, done: string, cause: unknown): Error {
  const { code, message } = cause as NodeJS.ErrnoException
  return accelError(
    code === 'ENOENT'
      ? 'ERR_ACCEL_NOT_FOUND'
      : code === 'EACCES'
        ? 'ERR_ACCEL_PERMISSION'
        : 'ERR_ACCEL_SYSTEM',
    `${path} cannot be ${done}: ${message}`,
    { cause },
  )
}
