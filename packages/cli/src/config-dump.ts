import { accelError } from '@uaccel/uapi'
import { clean } from './text.js'

/** The sizes that config space has: the header, a conventional function's, a PCI Express function's. */
const sizes = [64, 256, 4096]
const lineBytes = 16

/** Config space as `lspci -xxxx` prints it, and `lspci -F` reads it. The line before the bytes begins with an address: 00:00.0 where that is none. */
export function configDump(target: string, bytes: Uint8Array): string {
  const address = /^[0-9a-f:.]+$/i.test(target) ? target : '00:00.0'
  const lines = [`${address} ${target}`]
  for (let at = 0; at < bytes.length; at += lineBytes) {
    const row = [...bytes.subarray(at, at + lineBytes)].map((byte) => byte.toString(16).padStart(2, '0'))
    lines.push(`${at.toString(16).padStart(2, '0')}: ${row.join(' ')}`)
  }
  return `${lines.join('\n')}\n`
}

/**
 * Config space of a file: the bytes themselves, as sysfs has them, or the first device of what `lspci -x`, `-xxx` or `-xxxx` printed.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT for anything else
 */
export function parseConfigDump(path: string, file: Uint8Array): Uint8Array {
  const text = Buffer.from(file.subarray(0, 1 << 20)).toString('latin1')
  const rows = [...text.matchAll(/^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ?){1,16})\s*$/gim)]
  if (rows.length === 0 && sizes.includes(file.length)) return file
  const bytes: number[] = []
  for (const [line, at, row] of rows) {
    const offset = Number.parseInt(at!, 16)
    if (offset === 0 && bytes.length > 0) break // the next device
    if (offset !== bytes.length || offset >= sizes.at(-1)!) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${path}: "${clean(line.trimEnd())}" follows ${bytes.length} bytes: wanted each line of lspci -xxxx in its turn.`,
      )
    }
    bytes.push(
      ...row!
        .trim()
        .split(' ')
        .map((digits) => Number.parseInt(digits, 16)),
    )
  }
  if (bytes.length > 0) return Uint8Array.from(bytes)
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `${path} holds ${file.length} bytes, and no config space: wanted ${sizes.join(', ')} bytes, or lines of lspci -xxxx such as "00: 34 12 e8 11 ...".`,
  )
}
