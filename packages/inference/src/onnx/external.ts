import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { isAbsolute, join, relative, sep } from 'node:path'
import { AccelError, accelError } from '@uaccel/uapi'

/** Elements of a tensor that are in another file: which one, below the model's folder, and where in it. */
export interface ExternalData {
  readonly location: string
  readonly offset: number
  readonly sizeBytes: number
}

const corrupt = (message: string, cause?: unknown) =>
  accelError('ERR_ACCEL_CORRUPT_MODEL', message, { cause })

/** Reads the pairs of TensorProto.external_data: location, offset, length (and a checksum, which is not looked at). */
export function externalData(
  pairs: readonly { key: string; value: string }[],
  sizeBytes: number,
  where: string,
): ExternalData {
  const found = new Map(pairs.map(({ key, value }) => [key, value]))
  const number = (key: string, otherwise: number) => {
    const text = found.get(key)
    if (text === undefined) return otherwise
    const value = Number(text)
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
      throw corrupt(`${where}: its external data has the ${key} "${text}", which is no number of bytes`)
    return value
  }
  const location = found.get('location') ?? ''
  if (
    location === '' ||
    /[\\\0]/.test(location) ||
    isAbsolute(location) ||
    location.split('/').includes('..')
  )
    throw corrupt(
      `${where}: its external data lies at "${location}": a path below the model's folder is wanted, without ".."`,
    )
  const length = number('length', sizeBytes)
  if (length !== sizeBytes)
    throw corrupt(`${where} wants ${sizeBytes} bytes, its external data has ${length}`)
  return { location, offset: number('offset', 0), sizeBytes }
}

/** The bytes at that place. Links that lead out of the folder are not followed. */
export async function readExternal(
  folder: string,
  { location, offset, sizeBytes }: ExternalData,
  where: string,
): Promise<Uint8Array> {
  try {
    const root = await realpath(folder)
    const path = await realpath(join(root, location))
    const below = relative(root, path)
    if (below === '..' || below.startsWith(`..${sep}`) || isAbsolute(below))
      throw corrupt(`${where}: its external data "${location}" leads out of the model's folder`)
    // O_NONBLOCK: a pipe in place of a file would be waited for.
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const info = await file.stat()
      if (!info.isFile()) throw corrupt(`${where}: its external data "${location}" is no file`)
      if (offset + sizeBytes > info.size)
        throw corrupt(
          `${where}: its external data are ${sizeBytes} bytes from ${offset} on, "${location}" has ${info.size}`,
        )
      const bytes = new Uint8Array(sizeBytes)
      for (let at = 0; at < sizeBytes; ) {
        const { bytesRead } = await file.read(bytes, at, Math.min(sizeBytes - at, 1 << 30), offset + at)
        if (bytesRead === 0) throw corrupt(`${where}: "${location}" ended while it was read`)
        at += bytesRead
      }
      return bytes
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof AccelError) throw error
    throw corrupt(
      `${where}: its external data "${location}" cannot be read: ${(error as Error).message}`,
      error,
    )
  }
}
