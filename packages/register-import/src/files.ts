import { readFileSync, statSync } from 'node:fs'
import { accelError, isAccelError } from '@uaccel/uapi'
import { MAX_FILE_BYTES } from './limits.js'

/**
 * The text of a file.
 *
 * @throws ERR_ACCEL_NOT_FOUND, ERR_ACCEL_PERMISSION or ERR_ACCEL_SYSTEM where it cannot be read, ERR_ACCEL_OUT_OF_RANGE where it is
 * larger than any register file, ERR_ACCEL_INVALID_ARGUMENT where it is no UTF-8
 */
export function readText(path: string): string {
  try {
    const about = statSync(path)
    if (!about.isFile()) throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} is no regular file.`)
    if (about.size > MAX_FILE_BYTES)
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${path} has ${about.size} bytes; register files are read up to ${MAX_FILE_BYTES}.`,
      )
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path))
  } catch (cause) {
    if (isAccelError(cause)) throw cause
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA')
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${path} is not UTF-8 text: convert it, as with iconv.`,
        {
          cause,
        },
      )
    if (code === 'ENOENT') throw accelError('ERR_ACCEL_NOT_FOUND', `There is no file ${path}.`, { cause })
    throw accelError(
      code === 'EACCES' ? 'ERR_ACCEL_PERMISSION' : 'ERR_ACCEL_SYSTEM',
      `${path} cannot be read: ${message}`,
      { cause },
    )
  }
}
