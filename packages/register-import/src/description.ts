import { type AccelError, accelError, type ErrorCode } from '@uaccel/uapi'

/** Where in a file something stands: lines and columns count from 1. */
export interface Place {
  readonly file: string
  readonly line: number
  readonly column: number
}

/** What reading a field does: nothing more, clears it, sets it, or something that the file does not say. */
export type ReadEffect = 'none' | 'plain' | 'clears' | 'sets' | 'other'
/** What writing a field does: `oneClears` is w1c, `zeroSets` w0s, `clears` that any write clears; `none`: it cannot be written. */
export type WriteEffect =
  | 'none'
  | 'plain'
  | 'oneClears'
  | 'oneSets'
  | 'oneToggles'
  | 'zeroClears'
  | 'zeroSets'
  | 'zeroToggles'
  | 'clears'
  | 'sets'
  | 'other'

/** How software may touch a field, or a register without fields. */
export interface BitAccess {
  readonly read: ReadEffect
  readonly write: WriteEffect
  /** Only the first write after a reset counts. */
  readonly once: boolean
}

/** A value of a field that has a name. */
export interface NamedValue {
  readonly name: string
  readonly value: bigint
  readonly doc?: string
}

interface Described {
  /** As the file has it. */
  readonly name: string
  readonly doc?: string
  readonly place: Place
}

/** Bits `hi` to `lo` of a register, both included. */
export interface DescribedField extends Described {
  readonly hi: number
  readonly lo: number
  readonly access: BitAccess
  readonly values: readonly NamedValue[]
}

/** `count` times, `strideBytes` apart. */
export interface Dimension {
  readonly count: number
  readonly strideBytes: number
}

/** A register as a file describes it. */
export interface DescribedRegister extends Described {
  readonly kind: 'register'
  /** Bytes from the start of what it stands in. */
  readonly offset: number
  /** In bits. */
  readonly width: number
  readonly dimension?: Dimension
  /** Counts where there are no fields. */
  readonly access: BitAccess
  readonly fields: readonly DescribedField[]
  /** What it reads as after a reset, in the bits of `mask`. */
  readonly reset?: { readonly value: bigint; readonly mask: bigint }
  /** The file says that it stands at the place of another: the other may overlap it. */
  readonly alternate: boolean
}

/** Registers that belong together: a peripheral, an address block, a cluster, a register file. */
export interface DescribedGroup extends Described {
  readonly kind: 'group'
  readonly offset: number
  readonly dimension?: Dimension
  readonly alternate: boolean
  readonly members: readonly DescribedMember[]
}

export type DescribedMember = DescribedRegister | DescribedGroup

/** Something that was understood and could not be kept as it is. */
export interface Warning {
  readonly place: Place
  readonly message: string
}

/** A file of registers, whatever its format. */
export interface Description {
  readonly format: Format
  readonly name: string
  readonly doc?: string
  /** What is mapped on its own: peripherals, memory maps, or the address map at the top. */
  readonly blocks: readonly DescribedGroup[]
  readonly warnings: readonly Warning[]
}

/** CMSIS-SVD 1.3, IP-XACT (IEEE 1685-2009, -2014 and -2022), SystemRDL 2.0. */
export type Format = 'svd' | 'ipxact' | 'rdl'

/** `file:line:column`, as editors and terminals take it. */
export const at = ({ file, line, column }: Place): string => `${file}:${line}:${column}`

/** An error in a file, at its place. */
export function wrongAt(
  place: Place,
  message: string,
  code: ErrorCode = 'ERR_ACCEL_INVALID_ARGUMENT',
): AccelError {
  return accelError(code, `${at(place)}: ${message}`)
}

/** Something in a file that is not taken, at its place. */
export const notTaken = (place: Place, message: string): AccelError =>
  wrongAt(place, message, 'ERR_ACCEL_UNSUPPORTED')

/** What reads and writes plainly. */
export const plainAccess: BitAccess = { read: 'plain', write: 'plain', once: false }

/** The bits of a register that a field takes. */
export const maskOf = (hi: number, lo: number): bigint => ((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)

/** Descriptions are broken into lines by the width of some editor. */
export const oneSpace = (text: string): string => text.replace(/\s+/g, ' ').trim()
