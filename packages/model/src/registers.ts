import { accelError } from '@uaccel/uapi'
import { hex } from './violations.js'

/** Width of one access in bytes. Registers of 8 bytes have bigint values, all others numbers. */
export type Width = 1 | 2 | 4 | 8
/** What a driver may do: read, both, write, write ones to clear, read to clear. */
export type Access = 'ro' | 'rw' | 'wo' | 'w1c' | 'rc'
type ValueOf<W extends Width> = W extends 8 ? bigint : number

/** One register of a model, or an array of equal ones, in the words of its specification. */
interface Spec<W extends Width> {
  readonly name: string
  readonly offset: number
  readonly width: W
  readonly access: Access
  /** Widths that an access at the register's own offset may have. Narrower writes are zero-extended. Default: `width` alone. */
  readonly widths?: readonly Width[]
  /** An array: element `i` lies at `offset + i * strideBytes`, and handlers get `i`. */
  readonly count?: number
  readonly strideBytes?: number
  /** Value after power-on and reset. Default 0. */
  readonly reset?: ValueOf<W>
  /** Answers a read in place of the kept value. */
  read?(index: number): ValueOf<W>
  /** Takes a write in place of the access kind's own effect on the kept value. */
  write?(value: ValueOf<W>, index: number): void
}
export type RegisterSpec = Spec<8> | Spec<1 | 2 | 4>

interface Register {
  readonly spec: RegisterSpec
  readonly index: number
  readonly widths: readonly Width[]
  value: number | bigint
}

/** The registers of one BAR of a model. */
export interface RegisterBank<Name extends string = string> {
  /** What one read of `width` bytes answers; undefined where no register of that width may be read. */
  read(offset: number, width: Width): number | bigint | undefined
  /** False where no register of that width may be written. */
  write(offset: number, width: Width, value: number | bigint): boolean
  /** The kept value, without side effects. */
  get(name: Name, index?: number): number
  get64(name: Name, index?: number): bigint
  set(name: Name, value: number | bigint, index?: number): void
  /** Sets all kept values to those of power-on. Calls no handler. */
  reset(): void
  /** What is declared at or around `offset`, for messages. */
  describe(offset: number): string
}

/** Zero-extends or cuts to `width` bytes, as a number below 8 and as a bigint at 8. */
function fit(value: number | bigint, width: Width): number | bigint {
  if (width === 8) return BigInt.asUintN(64, typeof value === 'bigint' ? value : BigInt(value))
  const low = typeof value === 'bigint' ? Number(BigInt.asUintN(32, value)) : value
  return width === 4 ? low >>> 0 : low & (width === 2 ? 0xffff : 0xff)
}

function clearOnes(kept: number | bigint, ones: number | bigint): number | bigint {
  return typeof kept === 'bigint' ? kept & ~(ones as bigint) : (kept & ~(ones as number)) >>> 0
}

/** Builds a bank. @throws ERR_ACCEL_INVALID_ARGUMENT where registers overlap or one name is given twice. */
export function registerBank<const Specs extends readonly RegisterSpec[]>(
  specs: Specs,
): RegisterBank<Specs[number]['name']> {
  const byOffset = new Map<number, Register>()
  const byName = new Map<string, Register[]>()
  for (const spec of specs) {
    const elements: Register[] = []
    if (byName.has(spec.name)) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `Register ${spec.name} is declared twice.`)
    }
    byName.set(spec.name, elements)
    for (let index = 0; index < (spec.count ?? 1); index++) {
      const register = {
        spec,
        index,
        widths: spec.widths ?? [spec.width],
        value: fit(spec.reset ?? 0, spec.width),
      }
      elements.push(register)
      const offset = spec.offset + index * (spec.strideBytes ?? spec.width)
      const other = byOffset.get(offset)
      if (other !== undefined) throw overlapping(register, other)
      byOffset.set(offset, register)
    }
  }
  const sorted = [...byOffset.entries()].sort(([a], [b]) => a - b)
  sorted.forEach(([offset, register], i) => {
    const next = sorted[i + 1]
    if (next !== undefined && offset + register.spec.width > next[0]) throw overlapping(register, next[1])
  })

  function find(name: string, index: number): Register {
    const register = byName.get(name)?.[index]
    if (register === undefined) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `The model declares no register ${name}[${index}].`)
    }
    return register
  }

  return {
    read(offset, width) {
      const register = byOffset.get(offset)
      if (register === undefined || !register.widths.includes(width)) return undefined
      const { spec, index, value } = register
      if (spec.access === 'wo') return undefined
      if (spec.access === 'rc') register.value = fit(0, spec.width)
      return fit(spec.read === undefined ? value : spec.read(index), width)
    },
    write(offset, width, raw) {
      const register = byOffset.get(offset)
      if (register === undefined || !register.widths.includes(width)) return false
      const { spec, index } = register
      if (spec.access === 'ro' || spec.access === 'rc') return false
      const value = fit(fit(raw, width), spec.width)
      // A handler takes what `fit` made of the width that it declared; the union of both kinds hides that.
      if (spec.write !== undefined) (spec as Spec<Width>).write!(value as never, index)
      else register.value = spec.access === 'w1c' ? clearOnes(register.value, value) : value
      return true
    },
    get: (name, index = 0) => Number(find(name, index).value),
    get64: (name, index = 0) => BigInt(find(name, index).value),
    set(name, value, index = 0) {
      const register = find(name, index)
      register.value = fit(value, register.spec.width)
    },
    reset() {
      for (const register of byOffset.values())
        register.value = fit(register.spec.reset ?? 0, register.spec.width)
    },
    describe(offset) {
      const at = sorted.findLast(([start]) => start <= offset)
      if (at === undefined || at[0] + at[1].spec.width <= offset) return `no register at ${hex(offset)}`
      const [start, { spec, index, widths }] = at
      const name = spec.count === undefined ? spec.name : `${spec.name}[${index}]`
      return `${name} at ${hex(start)} (${spec.access}, ${widths.join(' or ')} bytes)`
    },
  }
}

function overlapping(a: Register, b: Register): Error {
  return accelError('ERR_ACCEL_INVALID_ARGUMENT', `Registers ${a.spec.name} and ${b.spec.name} overlap.`)
}

export function isWidth(length: number): length is Width {
  return length === 1 || length === 2 || length === 4 || length === 8
}

/** What a read answers where nobody does. */
export function allOnes(width: Width): number | bigint {
  return width === 8 ? (1n << 64n) - 1n : 2 ** (8 * width) - 1
}
