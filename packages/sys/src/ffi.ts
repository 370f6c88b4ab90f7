import { endianness } from 'node:os'
import { getSystemErrorName } from 'node:util'
import { accelError } from '@uaccel/uapi'
import type { RawCalls, Word } from './raw-calls.js'

export type ProviderName = 'koffi' | 'ffi-rs'

/** What a foreign function library must give. Small on purpose: it can be replaced. */
export interface FfiProvider {
  readonly name: ProviderName
  readonly raw: RawCalls
  /** ioctl on another thread: result or `-errno`. The memory at `arg` must stay alive until it settles. */
  ioctlAsync(fd: number, request: Word, arg: Word): Promise<number>
  /** close on another thread: result or `-errno`. */
  closeAsync(fd: number): Promise<number>
  /** An ArrayBuffer over native memory, without a copy. It does not own the memory. */
  view(address: bigint, sizeBytes: number): ArrayBuffer
}

/** The symbolic name of a `-errno` result, such as `EBADF`. */
export function errnoName(result: number): string {
  return getSystemErrorName(result)
}

/**
 * Refuses platforms other than little-endian x86-64 Linux, when a native call is first needed.
 * Structure layouts, call numbers and the order of stores to device memory are only right there.
 *
 * @throws ERR_ACCEL_UNSUPPORTED
 */
export function requirePlatform(platform: string = process.platform, arch: string = process.arch): void {
  if (platform === 'linux' && arch === 'x64' && endianness() === 'LE') return
  throw accelError(
    'ERR_ACCEL_UNSUPPORTED',
    `uaccel's native calls need Linux on x86-64; this is ${platform} on ${arch}. Run it on such a machine.`,
    { details: { platform, arch } },
  )
}
