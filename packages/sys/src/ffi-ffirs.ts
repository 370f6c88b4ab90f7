import { createRequire } from 'node:module'
import type { FfiProvider } from './ffi.js'
import { type RawCalls, signatures } from './raw-calls.js'

const require = createRequire(import.meta.url)

type FfiRs = typeof import('ffi-rs')
type Outcome = { value: number | bigint; errnoCode: number }

const LIBRARY = 'uaccel-libc'

/** System calls through ffi-rs: the second opinion. 9-28 us a call. */
export function ffiRsProvider(): FfiProvider {
  const ffi = require('ffi-rs') as FfiRs
  ffi.open({ library: LIBRARY, path: 'libc.so.6' })
  // Node unloads an addon with the last thread that loaded it, and ffi-rs's thread-local destructors then run in
  // memory that is gone (SIGSEGV at the end of a worker): opened once more, it stays
  const addon = Object.keys(require.cache).find((file) => /ffi-rs[^/]*\.node$/.test(file))
  if (addon !== undefined) ffi.open({ library: 'uaccel-stay-loaded', path: addon })
  // ffi-rs's U64 goes through a double: BigInt (an int64) is the only exact 64-bit type
  const types = {
    i32: ffi.DataType.I32,
    u32: ffi.DataType.U32,
    u64: ffi.DataType.BigInt,
    i64: ffi.DataType.BigInt,
    address: ffi.DataType.BigInt,
    str: ffi.DataType.String,
    buffer: ffi.DataType.U8Array,
  } as const

  function parameters(name: keyof RawCalls, retType: number, values: readonly unknown[]) {
    const { symbol, args } = signatures[name]
    return {
      library: LIBRARY,
      funcName: symbol,
      retType,
      paramsType: args.map((arg) => types[arg]),
      paramsValue: values.map((value, i) =>
        args[i] === 'u64' ? BigInt.asIntN(64, BigInt(value as number | bigint)) : value,
      ),
    }
  }

  function bind(name: keyof RawCalls) {
    const { result } = signatures[name]
    return (...values: unknown[]) => {
      const outcome = ffi.load({
        ...parameters(name, types[result], values),
        errno: true,
      }) as unknown as Outcome
      const value = Number(outcome.value) === -1 ? -outcome.errnoCode : outcome.value
      return result === 'address' ? BigInt(value) : Number(value)
    }
  }

  async function onThread(name: keyof RawCalls, values: readonly unknown[]): Promise<number> {
    const outcome = (await ffi.load({
      ...parameters(name, types.i32, values),
      errno: true,
      runInNewThread: true,
    })) as unknown as Outcome
    return outcome.value === -1 ? -outcome.errnoCode : Number(outcome.value)
  }

  const names = Object.keys(signatures) as (keyof RawCalls)[]
  const raw = Object.fromEntries(names.map((name) => [name, bind(name)])) as unknown as RawCalls

  return {
    name: 'ffi-rs',
    raw,
    ioctlAsync: (fd, request, arg) => onThread('ioctl', [fd, request, arg]),
    closeAsync: (fd) => onThread('close', [fd]),
    view(address, sizeBytes) {
      // a pointer object that ffi-rs takes is what a C function answers: memmove(p, p, 0) is p
      const pointer = ffi.load({
        library: LIBRARY,
        funcName: 'memmove',
        retType: ffi.DataType.External,
        paramsType: [ffi.DataType.BigInt, ffi.DataType.BigInt, ffi.DataType.BigInt],
        paramsValue: [address, address, 0n],
      })
      return ffi.createExternalBuffer(pointer as never, sizeBytes).buffer as ArrayBuffer
    },
  }
}
