import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { accelError } from '../errors.js'
import type { Uapi } from '../schema.js'
import { abiOf, formatAbi, parseAbi } from './abi.js'
import { compareAbi, listed, requireCompatible } from './compare.js'

/**
 * For the test of a driver: holds its uAPI against the snapshot that is checked in, and throws where the uAPI breaks who
 * was built against it (`ERR_ACCEL_VERSION`), where the snapshot is not of this uAPI (`ERR_ACCEL_INVALID_ARGUMENT`), or
 * where there is none (`ERR_ACCEL_NOT_FOUND`). `rewrite` is the command that writes it, such as
 * `npx uaccel uapi ./dist/uapi.js --json --write .`.
 */
export function requireSnapshot(uapi: Uapi, file: URL | string, rewrite: string): void {
  const path = typeof file === 'string' ? file : fileURLToPath(file)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `The ABI snapshot of ${uapi.name}, ${path}, cannot be read. Write it, and check it in: ${rewrite}`,
      { cause },
    )
  }
  const before = parseAbi(text, path)
  const now = abiOf(uapi)
  requireCompatible(before, now, rewrite)
  if (text === formatAbi(now)) return
  const changes = compareAbi(before, now)
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `The ABI snapshot ${path} is not that of the uAPI ${uapi.name} as it is now. Nothing breaks: write it anew, and check ` +
      `it in: ${rewrite}\n${listed(changes)}`,
    { details: { changes } },
  )
}
