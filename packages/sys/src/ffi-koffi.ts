import { createRequire } from 'node:module'
import type { KoffiFunc, LibraryHandle } from 'koffi'
import type { FfiProvider } from './ffi.js'
import { type RawCalls, type ResultType, signatures } from './raw-calls.js'

const require = createRequire(import.meta.url)

/** koffi itself, loaded when first needed: it is a native addon. */
export function loadKoffi(): typeof import('koffi') {
  return require('koffi')
}

type Koffi = typeof import('koffi')
type Native = KoffiFunc<(...args: unknown[]) => number | bigint>

const koffiTypes = {
  i32: 'int32_t',
  u32: 'uint32_t',
  u64: 'uint64_t',
  i64: 'int64_t',
  address: 'int64_t',
  str: 'const char *',
  buffer: 'void *',
} as const

function negateErrno(koffi: Koffi, native: Native, result: ResultType) {
  if (result === 'address') {
    return (...args: unknown[]) => {
      const value = native(...args)
      return value === -1 ? BigInt(-koffi.errno()) : BigInt(value)
    }
  }
  return (...args: unknown[]) => {
    const value = native(...args)
    return value === -1 ? -koffi.errno() : value
  }
}

function declare(libc: LibraryHandle, name: keyof RawCalls): Native {
  const { symbol, result, args } = signatures[name]
  return libc.func(
    symbol,
    koffiTypes[result],
    args.map((arg) => koffiTypes[arg]),
  )
}

/** System calls through koffi: 74-207 ns a call. */
export function koffiProvider(): FfiProvider {
  const koffi = loadKoffi()
  const libc = koffi.load('libc.so.6')
  const names = Object.keys(signatures) as (keyof RawCalls)[]
  const raw = Object.fromEntries(
    names.map((name) => [name, negateErrno(koffi, declare(libc, name), signatures[name].result)]),
  ) as unknown as RawCalls
  const [ioctl, close] = [declare(libc, 'ioctl'), declare(libc, 'close')]
  const onThread = (native: Native, ...args: unknown[]) =>
    new Promise<number>((resolve, reject) => {
      native.async(...args, (error: unknown, result: unknown) => {
        // errno is that of the call only while this callback runs
        if (error) reject(error)
        else resolve(result === -1 ? -koffi.errno() : Number(result))
      })
    })
  return {
    name: 'koffi',
    raw,
    ioctlAsync: (fd, request, arg) => onThread(ioctl, fd, request, arg),
    closeAsync: (fd) => onThread(close, fd),
    view: (address, sizeBytes) => koffi.view(address, sizeBytes),
  }
}
