import { createHash } from 'node:crypto'
import { constants, type FileHandle, open } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, isAbsolute, join } from 'node:path'
import { accelError } from '@uaccel/uapi'

/** Largest firmware file that is read, in bytes. */
const MAX_FIRMWARE_BYTES = 256 * 1024 * 1024

/** What a driver knows about the file that it wants. */
export interface FirmwareOptions {
  /** SHA-256 of the file in hexadecimal: another file of that name is passed over. */
  readonly sha256?: string
}

/**
 * Folders that are searched, in order: those given by the application, `UACCEL_FIRMWARE_PATH`
 * (colon-separated), `$XDG_DATA_HOME/uaccel/firmware`, and the kernel's own, /lib/firmware.
 */
export function firmwarePath(
  given: readonly string[] = [],
  env: Readonly<Record<string, string | undefined>> = process.env,
): string[] {
  const data = env.XDG_DATA_HOME || join(homedir(), '.local', 'share')
  const listed = (env.UACCEL_FIRMWARE_PATH ?? '').split(delimiter)
  return [...given, ...listed, join(data, 'uaccel', 'firmware'), '/lib/firmware'].filter(isAbsolute)
}

/**
 * Reads a firmware file.
 *
 * @param name Relative, such as `acme/npu-1.2.bin`; it cannot leave the folders of the search path.
 * @throws ERR_ACCEL_INVALID_ARGUMENT a name or digest that is not of that form
 * @throws ERR_ACCEL_FIRMWARE no such file, or none with that digest; the message says what was found at each place
 */
export async function loadFirmware(
  name: string,
  { sha256 }: FirmwareOptions,
  folders: readonly string[],
): Promise<Uint8Array> {
  const parts = name.split('/')
  if (isAbsolute(name) || name.includes('\0') || parts.some((part) => ['', '.', '..'].includes(part))) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `Firmware is named relative to the search path and without "..", not ${JSON.stringify(name)}`,
    )
  }
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256)) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `"${sha256}" is not a SHA-256 in hexadecimal`)
  }
  const looked: string[] = []
  for (const folder of folders) {
    const path = join(folder, name)
    const found = await readIfThere(path)
    if (typeof found === 'string') {
      looked.push(`${path}: ${found}`)
      continue
    }
    const digest = createHash('sha256').update(found).digest('hex')
    if (sha256 === undefined || digest === sha256.toLowerCase()) return found
    looked.push(`${path}: SHA-256 is ${digest}`)
  }
  const wanted = sha256 === undefined ? '' : ` with SHA-256 ${sha256.toLowerCase()}`
  throw accelError(
    'ERR_ACCEL_FIRMWARE',
    `No firmware ${name}${wanted}. Put it into one of these places or name its folder in UACCEL_FIRMWARE_PATH:\n${looked
      .map((line) => `  ${line}`)
      .join('\n')}`,
    { details: { name, looked } },
  )
}

/** The file's bytes, or why there are none. */
async function readIfThere(path: string): Promise<Uint8Array | string> {
  let file: FileHandle | undefined
  try {
    // Not blocking, so that a FIFO in the way is looked at and refused instead of waited for.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stat = await file.stat()
    if (!stat.isFile()) return 'not a file'
    if (stat.size > MAX_FIRMWARE_BYTES) return `too large (${stat.size} bytes)`
    return new Uint8Array(await file.readFile())
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  } finally {
    await file?.close()
  }
}
