import type { FieldInputs, FieldValues } from './fields.js'
import type { Access, Register, RegisterArray, RegisterEntry, Width } from './registers.js'
import type { DeviceTap } from './tap.js'
import type { AccessWidth } from './transport.js'

/** Raw value of a register: a bigint where it has 64 bits, else an unsigned number. */
export type Raw<W extends Width> = W extends 64 ? bigint : number
type Writable<W extends Width> = W extends 64 ? bigint | number : number
type Written<W extends Width, F> = keyof F extends never ? Writable<W> : Writable<W> | FieldInputs<F>

/** What every register can do without touching the device. */
export interface RegisterCodec<W extends Width, F> {
  readonly entry: RegisterEntry
  /** All fields of a raw value that was read. */
  decode(raw: Raw<W>): FieldValues<F>
  /** One field of a raw value that was read. Makes no object: for interrupt handlers. */
  extract<K extends keyof F & string>(raw: Raw<W>, field: K): FieldValues<F>[K]
  /** The raw value with these fields and zeros elsewhere: computed once, then written often. */
  encode(fields: FieldInputs<F>): Raw<W>
}

/** A register that can be read. */
export interface ReadableRegister<W extends Width, F> extends RegisterCodec<W, F> {
  /** Exactly one bus read of the register's width, also where the value is not used. */
  read(): Raw<W>
  /** One read, decoded. */
  get(): FieldValues<F>
}

/** A register that can be written. */
export interface WritableRegister<W extends Width, F> extends RegisterCodec<W, F> {
  /** Exactly one bus write of the register's width. Fields that are not named are written as zero. */
  write(value: Written<W, F>): void
}

/** A register that reads as what was written. */
export interface UpdatableRegister<W extends Width, F>
  extends ReadableRegister<W, F>,
    WritableRegister<W, F> {
  /** One read, then one write with these fields replaced. */
  update(fields: FieldInputs<F>): void
}

/** A register of flags that are cleared by writing ones. */
export interface ClearableRegister<W extends Width, F> extends ReadableRegister<W, F> {
  /** One write: clears the flags that are set in `flags`, and no others. */
  clear(flags: Written<W, F>): void
}

/** The accessor of a register by its access kind: what the kind forbids does not compile. */
export type RegisterAccessor<W extends Width, A extends Access, F> = A extends 'ro' | 'rc'
  ? ReadableRegister<W, F>
  : A extends 'wo'
    ? WritableRegister<W, F>
    : A extends 'w1c'
      ? ClearableRegister<W, F>
      : UpdatableRegister<W, F>

/** Accessors for a block of definitions. */
export type Mapped<D> = {
  readonly [K in keyof D]: D[K] extends RegisterArray<infer E>
    ? readonly MappedElement<E>[]
    : MappedElement<D[K]>
}
type MappedElement<E> = E extends Register<infer W, infer A, infer F> ? RegisterAccessor<W, A, F> : Mapped<E>

/** The typed arrays over a mapped part of a BAR. They are replaced, in place, when the mapping is taken back. */
export interface Window {
  readonly u8: Uint8Array
  readonly u16: Uint16Array
  readonly u32: Uint32Array
  readonly u64: BigUint64Array
  readonly region: number
  /**
   * Told of each access. V8 takes it for a constant until somebody first follows the window, and compiles nothing for it; from then on it costs
   * this window a load and a branch, and no other (docs/design/0024-tracing.md).
   */
  readonly tap: DeviceTap | undefined
}

/** Reaches a BAR by calls, where it is not mapped. */
export interface Trap {
  read(offset: number, width: AccessWidth): number
  write(offset: number, width: AccessWidth, value: number): void
  read64(offset: number): bigint
  write64(offset: number, value: bigint): void
}

/** One traced access. `value` is a bigint for 64-bit registers. */
export type Trace = (op: 'read' | 'write', entry: RegisterEntry, value: number | bigint) => void

/** A register of any kind, as a command line sees it: check `entry.access` first. */
export interface AnyRegister {
  readonly entry: RegisterEntry
  read(): number | bigint
  write(value: number | bigint | FieldObject): void
}

type FieldObject = Readonly<Record<string, unknown>>

// V8 deletes a load whose value nobody uses once the code is hot, and with it the bus access: a posted-write flush or a
// read-to-clear. A store of the value into memory that outlives the call keeps the load, without allocating for 2^31 and above.
// A buffer of its own lies outside the heap, where V8 knows its address: a small array without one is moved about.
const sink32 = new Uint32Array(new ArrayBuffer(4))
const sink64 = new BigUint64Array(new ArrayBuffer(8))

// What each access needs is in declared fields, which the constructor stores once: V8 takes a field for a constant until its
// second store, and compiles an accessor into the load or store of one fixed address. A private name, or a field that is declared
// without `declare`, is stored first as undefined.

abstract class NumberRegister {
  declare readonly entry: RegisterEntry

  constructor(entry: RegisterEntry) {
    this.entry = entry
  }

  abstract read(): number
  abstract write(value: number | FieldObject): void

  decode(raw: number): object {
    return this.entry.codec.decode(raw)
  }
  extract(raw: number, field: string): unknown {
    return this.entry.codec.extract(raw, field)
  }
  encode(fields: FieldObject): number {
    return this.entry.codec.encode(fields)
  }
  get(): object {
    return this.entry.codec.decode(this.read())
  }
  update(fields: FieldObject): void {
    this.write(this.entry.codec.encode(fields, this.read()))
  }
  clear(flags: number | FieldObject): void {
    this.write(flags)
  }
}

abstract class BigRegister {
  declare readonly entry: RegisterEntry

  constructor(entry: RegisterEntry) {
    this.entry = entry
  }

  abstract read(): bigint
  abstract write(value: bigint | number | FieldObject): void

  decode(raw: bigint): object {
    return this.entry.codec.decode64(raw)
  }
  extract(raw: bigint, field: string): unknown {
    return this.entry.codec.extract64(raw, field)
  }
  encode(fields: FieldObject): bigint {
    return this.entry.codec.encode64(fields)
  }
  get(): object {
    return this.entry.codec.decode64(this.read())
  }
  update(fields: FieldObject): void {
    this.write(this.entry.codec.encode64(fields, this.read()))
  }
  clear(flags: bigint | number | FieldObject): void {
    this.write(flags)
  }
  protected raw(value: bigint | number | FieldObject): bigint {
    if (typeof value === 'bigint') return value
    return typeof value === 'number' ? BigInt.asUintN(64, BigInt(value)) : this.entry.codec.encode64(value)
  }
}

function tellRead({ tap, region }: Window, { offset, width }: RegisterEntry, value: number | bigint): void {
  tap!.read(region, offset, (width / 8) as AccessWidth | 8, value)
}

/** Of a window that was taken back nobody is told: to look at its arrays throws. */
function tellWrite(
  { tap, region, u8 }: Window,
  { offset, width }: RegisterEntry,
  value: number | bigint,
): void {
  const bytes = (width / 8) as AccessWidth | 8
  if (u8 !== undefined) tap!.write(region, offset, bytes, truncated(bytes, value))
}

/** What a typed array keeps of a value. */
export function truncated(bytes: AccessWidth | 8, value: number | bigint): number | bigint {
  if (typeof value === 'bigint') return BigInt.asUintN(64, value)
  return bytes === 4 ? value >>> 0 : value & (2 ** (8 * bytes) - 1)
}

// One class per width, so that each access compiles to one load or store of that width and call sites stay monomorphic.
// Plain loads and stores only: Atomics compile to locked read-modify-writes, which read the register as well.

class Mapped8 extends NumberRegister {
  declare private readonly window: Window
  declare private readonly index: number

  constructor(entry: RegisterEntry, window: Window, byteOffset: number) {
    super(entry)
    this.window = window
    this.index = byteOffset
  }
  read(): number {
    const { window } = this
    const value = window.u8[this.index]
    sink32[0] = value
    if (window.tap !== undefined) tellRead(window, this.entry, value)
    return value
  }
  write(value: number | FieldObject): void {
    const { window } = this
    const raw = typeof value === 'number' ? value : this.entry.codec.encode(value)
    if (window.tap !== undefined) tellWrite(window, this.entry, raw)
    window.u8[this.index] = raw
  }
}

class Mapped16 extends NumberRegister {
  declare private readonly window: Window
  declare private readonly index: number

  constructor(entry: RegisterEntry, window: Window, byteOffset: number) {
    super(entry)
    this.window = window
    this.index = byteOffset / 2
  }
  read(): number {
    const { window } = this
    const value = window.u16[this.index]
    sink32[0] = value
    if (window.tap !== undefined) tellRead(window, this.entry, value)
    return value
  }
  write(value: number | FieldObject): void {
    const { window } = this
    const raw = typeof value === 'number' ? value : this.entry.codec.encode(value)
    if (window.tap !== undefined) tellWrite(window, this.entry, raw)
    window.u16[this.index] = raw
  }
}

class Mapped32 extends NumberRegister {
  declare private readonly window: Window
  declare private readonly index: number

  constructor(entry: RegisterEntry, window: Window, byteOffset: number) {
    super(entry)
    this.window = window
    this.index = byteOffset / 4
  }
  read(): number {
    const { window } = this
    const value = window.u32[this.index]
    sink32[0] = value
    if (window.tap !== undefined) tellRead(window, this.entry, value)
    return value
  }
  write(value: number | FieldObject): void {
    const { window } = this
    const raw = typeof value === 'number' ? value : this.entry.codec.encode(value)
    if (window.tap !== undefined) tellWrite(window, this.entry, raw)
    window.u32[this.index] = raw
  }
}

class Mapped64 extends BigRegister {
  declare private readonly window: Window
  declare private readonly index: number

  constructor(entry: RegisterEntry, window: Window, byteOffset: number) {
    super(entry)
    this.window = window
    this.index = byteOffset / 8
  }
  read(): bigint {
    const { window } = this
    const value = window.u64[this.index]
    sink64[0] = value
    if (window.tap !== undefined) tellRead(window, this.entry, value)
    return value
  }
  write(value: bigint | number | FieldObject): void {
    const { window } = this
    const raw = this.raw(value)
    if (window.tap !== undefined) tellWrite(window, this.entry, raw)
    window.u64[this.index] = raw
  }
}

class TrappedNumber extends NumberRegister {
  readonly #trap: Trap
  readonly #bytes: AccessWidth

  constructor(entry: RegisterEntry, trap: Trap) {
    super(entry)
    this.#trap = trap
    this.#bytes = (entry.width / 8) as AccessWidth
  }
  read(): number {
    return this.#trap.read(this.entry.offset, this.#bytes)
  }
  write(value: number | FieldObject): void {
    const raw = typeof value === 'number' ? value >>> 0 : this.entry.codec.encode(value)
    // Truncated as a typed array truncates it, so that both kinds of accessor write the same.
    this.#trap.write(
      this.entry.offset,
      this.#bytes,
      this.#bytes === 4 ? raw : raw & (2 ** (8 * this.#bytes) - 1),
    )
  }
}

class Trapped64 extends BigRegister {
  readonly #trap: Trap

  constructor(entry: RegisterEntry, trap: Trap) {
    super(entry)
    this.#trap = trap
  }
  read(): bigint {
    return this.#trap.read64(this.entry.offset)
  }
  write(value: bigint | number | FieldObject): void {
    this.#trap.write64(this.entry.offset, BigInt.asUintN(64, this.raw(value)))
  }
}

class TracedNumber extends NumberRegister {
  readonly #inner: NumberRegister
  readonly #trace: Trace

  constructor(inner: NumberRegister, trace: Trace) {
    super(inner.entry)
    this.#inner = inner
    this.#trace = trace
  }
  read(): number {
    const value = this.#inner.read()
    this.#trace('read', this.entry, value)
    return value
  }
  write(value: number | FieldObject): void {
    const raw = typeof value === 'number' ? value : this.entry.codec.encode(value)
    this.#trace('write', this.entry, raw)
    this.#inner.write(raw)
  }
}

class Traced64 extends BigRegister {
  readonly #inner: BigRegister
  readonly #trace: Trace

  constructor(inner: BigRegister, trace: Trace) {
    super(inner.entry)
    this.#inner = inner
    this.#trace = trace
  }
  read(): bigint {
    const value = this.#inner.read()
    this.#trace('read', this.entry, value)
    return value
  }
  write(value: bigint | number | FieldObject): void {
    const raw = this.raw(value)
    this.#trace('write', this.entry, raw)
    this.#inner.write(raw)
  }
}

/** Where a register is: in a mapped window that starts at `windowOffset` of the BAR, or behind a trap. */
export type Place = { readonly window: Window; readonly windowOffset: number } | { readonly trap: Trap }

/** Chooses the accessor class for one register, once. */
export function makeAccessor(entry: RegisterEntry, place: Place, trace?: Trace): AnyRegister {
  if (entry.width === 64) {
    const register =
      'trap' in place
        ? new Trapped64(entry, place.trap)
        : new Mapped64(entry, place.window, entry.offset - place.windowOffset)
    return trace === undefined ? register : new Traced64(register, trace)
  }
  const register = numberRegister(entry, place)
  return trace === undefined ? register : new TracedNumber(register, trace)
}

function numberRegister(entry: RegisterEntry, place: Place): NumberRegister {
  if ('trap' in place) return new TrappedNumber(entry, place.trap)
  const Mapped = entry.width === 8 ? Mapped8 : entry.width === 16 ? Mapped16 : Mapped32
  return new Mapped(entry, place.window, entry.offset - place.windowOffset)
}
