import { accelError } from '@uaccel/uapi'
import type { Mapped } from './accessors.js'
import { FieldCodec } from './codec.js'
import { checkFields, type Fields, type NoFields } from './fields.js'

/**
 * How a register may be touched. `w1c`: reads as flags, a flag is cleared by writing a one. `rc`: reading clears it, so
 * that nothing but an explicit read may touch it.
 */
export type Access = 'ro' | 'wo' | 'rw' | 'w1c' | 'rc'
/** Width of a register, and of the one bus access that reads or writes it, in bits. */
export type Width = 8 | 16 | 32 | 64

/** A register of a datasheet, in one or, as part of an array, several places. */
export interface Register<W extends Width = Width, A extends Access = Access, F = unknown> {
  readonly kind: 'register'
  readonly width: W
  readonly access: A
  /** Bytes from the start of the BAR, or of the array's element. */
  readonly offset: number
  readonly fields: F
  readonly doc?: string
  readonly reset?: number | bigint
  readonly resetMask?: number | bigint
}

/** `count` elements, `strideBytes` apart; each is one register or a block of several. */
export interface RegisterArray<E extends Register | RegisterBlock = Register | RegisterBlock> {
  readonly kind: 'array'
  readonly count: number
  readonly strideBytes: number
  readonly element: E
}

/** Registers by name. */
export interface RegisterBlock {
  readonly [name: string]: Register | RegisterArray
}

/** What a register says besides its place. */
export interface RegisterOptions {
  /** One line for people: `uaccel reg read` shows it. */
  readonly doc?: string
  /** What it reads as after a reset: for people and for `uaccel reg dump --diff`. No accessor looks at it. */
  readonly reset?: number | bigint
  /** The bits of `reset` that are known; all of them where this is absent. */
  readonly resetMask?: number | bigint
}

/** What a register reads as after a reset, in the bits of `mask`. */
export interface ResetValue {
  readonly value: bigint
  readonly mask: bigint
}

/** One register at one place: `QUEUE[3].HEAD` for a part of an array. */
export interface RegisterEntry {
  readonly name: string
  readonly offset: number
  readonly width: Width
  readonly access: Access
  readonly fields: Fields
  readonly doc?: string
  /** Absent where the map does not say. */
  readonly reset?: ResetValue | undefined
  /** Converts between raw values and fields. */
  readonly codec: FieldCodec
}

interface Define<W extends Width> {
  // A signature of its own: the context of `registers({...})` would otherwise widen the fields of a register without any.
  <const A extends Access>(offset: number, access: A): Register<W, A, NoFields>
  <const A extends Access, const F extends Fields>(
    offset: number,
    access: A,
    fields: F,
    options?: RegisterOptions,
  ): Register<W, A, F>
}

const define =
  (width: Width) =>
  (offset: number, access: Access, fields: Fields = {}, options: RegisterOptions = {}) =>
    ({ kind: 'register', width, access, offset, fields, ...options }) as const

/** An 8-bit register at `offset` bytes. */
export const reg8 = define(8) as Define<8>
/** A 16-bit register at `offset` bytes. */
export const reg16 = define(16) as Define<16>
/** A 32-bit register at `offset` bytes. */
export const reg32 = define(32) as Define<32>
/** A 64-bit register at `offset` bytes: its raw value is a bigint, its fields are numbers. */
export const reg64 = define(64) as Define<64>

/** `count` registers (or blocks of registers, whose offsets count from the element's start), `strideBytes` apart. */
export function regArray<const E extends Register | RegisterBlock>(
  count: number,
  strideBytes: number,
  element: E,
): RegisterArray<E> {
  return { kind: 'array', count, strideBytes, element }
}

/** The registers of a BAR, checked. Made by {@link registers}. */
export class RegisterMap<D = unknown> {
  /** As they were given. */
  readonly definitions: D
  /** Every single register in ascending order, arrays spelt out: what a command line reads and writes by name. */
  readonly entries: readonly RegisterEntry[]
  /** Bytes from the start of the BAR to the end of the last register. */
  readonly sizeBytes: number

  constructor(definitions: D & RegisterBlock) {
    this.definitions = definitions
    this.entries = flatten(definitions, '', 0).sort((a, b) => a.offset - b.offset)
    this.sizeBytes = Math.max(0, ...this.entries.map(endOf))
    checkOverlaps(this.entries)
  }

  /** The register of that name, such as `STATUS` or `QUEUE[3].HEAD`. `ERR_ACCEL_NOT_FOUND` where there is none. */
  find(name: string): RegisterEntry {
    const entry = this.entries.find((e) => e.name === name)
    if (entry !== undefined) return entry
    const names = this.entries.slice(0, 40).map((e) => e.name)
    const more = this.entries.length > names.length ? ', ...' : ''
    throw accelError('ERR_ACCEL_NOT_FOUND', `no register ${name}; there are ${names.join(', ')}${more}`)
  }
}

/**
 * Declares the registers of a BAR. Throws `ERR_ACCEL_INVALID_ARGUMENT` for a misaligned offset, registers or fields that
 * overlap, and fields beyond the width. A register that is only read and one that is only written may share a place.
 */
export function registers<const D extends RegisterBlock>(definitions: D): RegisterMap<D> {
  return new RegisterMap<D>(definitions)
}

/** The accessor object that `mapBar` answers for a map: `Bar<typeof Bar0>`. */
export type Bar<M> = M extends RegisterMap<infer D> ? Mapped<D> : never

function endOf(entry: RegisterEntry): number {
  return entry.offset + entry.width / 8
}

function flatten(block: RegisterBlock, prefix: string, base: number): RegisterEntry[] {
  return Object.entries(block).flatMap(([key, item]) => {
    const name = prefix + key
    if (item.kind === 'register') return [entryOf(name, item, base)]
    if (
      !Number.isInteger(item.count) ||
      item.count < 1 ||
      !Number.isInteger(item.strideBytes) ||
      item.strideBytes < 1
    ) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `register array ${name}: ${item.count} elements, ${item.strideBytes} bytes apart`,
      )
    }
    return Array.from({ length: item.count }, (_, i) => {
      const at = base + i * item.strideBytes
      return isRegister(item.element)
        ? [entryOf(`${name}[${i}]`, item.element, at)]
        : flatten(item.element, `${name}[${i}].`, at)
    }).flat()
  })
}

/** Tells a register from a block of registers, which has no `kind` of type string. */
export function isRegister(item: Register | RegisterBlock): item is Register {
  return item.kind === 'register'
}

function entryOf(name: string, register: Register, base: number): RegisterEntry {
  const { width, access, doc } = register
  const fields = register.fields as Fields
  const offset = base + register.offset
  if (!Number.isSafeInteger(offset) || offset < 0 || offset % (width / 8) !== 0) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `register ${name}: ${width} bits at offset ${offset} are not naturally aligned`,
    )
  }
  checkFields(name, width, fields)
  return {
    name,
    offset,
    width,
    access,
    fields,
    ...(doc === undefined ? {} : { doc }),
    reset: resetOf(name, register), // always a property: accessors see entries of as few shapes as without it
    codec: new FieldCodec(name, fields),
  }
}

function resetOf(name: string, { width, reset, resetMask }: Register): ResetValue | undefined {
  if (reset === undefined && resetMask === undefined) return undefined
  const all = (1n << BigInt(width)) - 1n
  const [value, mask] = [reset, resetMask ?? all].map((part) => {
    const exact = typeof part === 'bigint' || Number.isSafeInteger(part) ? BigInt(part!) : -1n
    if (exact >= 0n && exact <= all) return exact
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `register ${name}: reset ${part} is no value of ${width} bits; past 2^53 it takes a bigint`,
    )
  })
  return { value: value & mask, mask }
}

function checkOverlaps(entries: readonly RegisterEntry[]): void {
  const readers = entries.filter((e) => e.access !== 'wo')
  const writers = entries.filter((e) => e.access !== 'ro' && e.access !== 'rc')
  for (const list of [readers, writers]) {
    for (let i = 1; i < list.length; i++) {
      if (list[i].offset >= endOf(list[i - 1])) continue
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `registers ${list[i - 1].name} and ${list[i].name} overlap at offset 0x${list[i].offset.toString(16)}`,
      )
    }
  }
}
