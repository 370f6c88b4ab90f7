import { abi, type Window as MemoryWindow, type SharedRange } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import {
  type AnyRegister,
  type Mapped,
  makeAccessor,
  type Place,
  type Trace,
  type Trap,
  truncated,
  type Window,
} from './accessors.js'
import {
  isRegister,
  type Register,
  type RegisterBlock,
  type RegisterEntry,
  type RegisterMap,
} from './registers.js'
import type { DeviceTap } from './tap.js'
import type { AccessWidth, Area, Transport } from './transport.js'

/** Memory of a device by offset: on-card memory, or a page of doorbells. Single accesses are exactly one of that width. */
export interface Mmio {
  readonly sizeBytes: number
  /** True where accesses go straight to the device; false where each is a call. */
  readonly mapped: boolean
  read8(offset: number): number
  read16(offset: number): number
  read32(offset: number): number
  read64(offset: number): bigint
  write8(offset: number, value: number): void
  write16(offset: number, value: number): void
  write32(offset: number, value: number): void
  write64(offset: number, value: bigint): void
  /** Copies memory of the device into `into`, in accesses of any width: for memory, not for registers. */
  readBytes(offset: number, into: Uint8Array): void
  /** Copies `from` into memory of the device, in accesses of any width. */
  writeBytes(offset: number, from: Uint8Array): void
}

/** The error of every touch after a device is gone, or while it cannot be reached. */
export function goneError(what: string, reason: unknown): AccelError {
  const why = reason instanceof Error ? reason.message : String(reason)
  return accelError('ERR_ACCEL_NO_DEVICE', `${what} cannot be reached: ${why}`, { cause: reason })
}

/** What a {@link BarWindow} stands on: a mapping, or in a worker thread a view of one. */
export interface Exposed {
  readonly window: MemoryWindow
  revoke(): void
  /** Absent in a worker thread, which does not own it. */
  share?(): SharedRange
}

/**
 * A mapped part of a BAR. Accessors read its arrays at each access, so that replacing them reaches every accessor.
 *
 * It inherits them, and to replace them is to replace its prototype, which gives it a hidden class of its own. V8 compiles an access of a
 * window that it knows into one of a fixed address, and takes that back when the window's class changes: of no other window. A field that
 * is stored a second time would cost that for every window of the thread, and for good. See docs/design/0021-register-access.md.
 */
export class BarWindow implements Window {
  readonly region: number
  readonly area: Area
  readonly label: string
  /** Set by who follows the device. */
  tap: DeviceTap | undefined = undefined
  declare readonly u8: Uint8Array
  declare readonly u16: Uint16Array
  declare readonly u32: Uint32Array
  declare readonly u64: BigUint64Array
  #mapping: Exposed

  constructor(region: number, area: Area, label: string, mapping: Exposed) {
    this.region = region
    this.area = area
    this.label = label
    this.#mapping = mapping
    this.expose(mapping)
  }

  /** Makes the accessors reach this mapping: at first, and again after a reset. */
  expose(mapping: Exposed): void {
    this.#mapping = mapping
    const { u8, u16, u32, u64 } = mapping.window
    this.#inherit({ u8, u16, u32, u64 })
  }

  /** Keeps the addresses of the present mapping from being reused while another thread may see them. */
  share(): SharedRange {
    return this.#mapping.share!()
  }

  /** Takes the mapping back. Every access from now on throws `ERR_ACCEL_NO_DEVICE` with `reason` as cause. */
  revoke(reason: unknown): void {
    const refuse = (): never => {
      throw goneError(this.label, reason)
    }
    this.#inherit({
      get u8() {
        return refuse()
      },
      get u16() {
        return refuse()
      },
      get u32() {
        return refuse()
      },
      get u64() {
        return refuse()
      },
    })
    this.#mapping.revoke()
  }

  #inherit(arrays: Pick<Window, 'u8' | 'u16' | 'u32' | 'u64'>): void {
    Object.setPrototypeOf(this, Object.setPrototypeOf(arrays, BarWindow.prototype))
  }
}

/** What reaches a region by calls. */
type Calls = Pick<Transport, 'read' | 'write' | 'read64' | 'write64' | 'readBytes' | 'writeBytes'>

/** Tells a tap of the calls. */
function followedCalls(calls: Calls, tap: DeviceTap): Calls {
  return {
    read(region, offset, width) {
      const value = calls.read(region, offset, width)
      tap.read(region, offset, width, value)
      return value
    },
    write(region, offset, width, value) {
      tap.write(region, offset, width, value)
      calls.write(region, offset, width, value)
    },
    read64(region, offset) {
      const value = calls.read64(region, offset)
      tap.read(region, offset, 8, value)
      return value
    },
    write64(region, offset, value) {
      tap.write(region, offset, 8, value)
      calls.write64(region, offset, value)
    },
    readBytes(region, offset, into) {
      calls.readBytes(region, offset, into)
      tap.copied('host', region, offset, into.length)
    },
    writeBytes(region, offset, from) {
      tap.copied('device', region, offset, from.length)
      calls.writeBytes(region, offset, from)
    },
  }
}

/** Reaches a BAR by calls of the transport. */
export class BarTrap implements Trap {
  readonly #transport: Transport
  #calls: Calls
  readonly #region: number
  readonly #label: string
  #gone: { readonly reason: unknown } | undefined

  constructor(transport: Transport, region: number, label: string) {
    this.#transport = transport
    this.#calls = transport
    this.#region = region
    this.#label = label
  }

  /** Has a tap follow what is reached, or nobody. */
  follow(tap: DeviceTap | undefined): void {
    this.#calls = tap === undefined ? this.#transport : followedCalls(this.#transport, tap)
  }

  read(offset: number, width: AccessWidth): number {
    return this.#live().read(this.#region, offset, width)
  }
  write(offset: number, width: AccessWidth, value: number): void {
    this.#live().write(this.#region, offset, width, value)
  }
  read64(offset: number): bigint {
    return this.#live().read64(this.#region, offset)
  }
  write64(offset: number, value: bigint): void {
    this.#live().write64(this.#region, offset, value)
  }
  readBytes(offset: number, into: Uint8Array): void {
    this.#live().readBytes(this.#region, offset, into)
  }
  writeBytes(offset: number, from: Uint8Array): void {
    this.#live().writeBytes(this.#region, offset, from)
  }

  /** Ends all access, as {@link BarWindow.revoke} does. */
  revoke(reason: unknown): void {
    this.#gone = { reason }
  }
  /** Allows access again, after a reset. */
  restore(): void {
    this.#gone = undefined
  }

  #live(): Calls {
    if (this.#gone !== undefined) throw goneError(this.#label, this.#gone.reason)
    return this.#calls
  }
}

/** The whole pages of a mappable area that hold bytes `first` to `end` (exclusive), all of which lie in the area. */
export function pagesOf(area: Area, first: number, end: number): Area {
  const page = abi.PAGE_SIZE_BYTES
  const offset = Math.max(area.offset, Math.floor(first / page) * page)
  const last = Math.min(area.offset + area.sizeBytes, Math.ceil(end / page) * page)
  return { offset, sizeBytes: last - offset }
}

/** True where all of these bytes lie in the area. */
export function contains(area: Area, offset: number, sizeBytes: number): boolean {
  return offset >= area.offset && offset + sizeBytes <= area.offset + area.sizeBytes
}

/** Builds the accessor object of a register map, with each register's class chosen once. */
export function buildBar<D>(
  map: RegisterMap<D>,
  placeOf: (entry: RegisterEntry) => Place,
  trace?: Trace,
): Mapped<D> {
  const byName = new Map<string, AnyRegister>()
  for (const entry of map.entries) byName.set(entry.name, makeAccessor(entry, placeOf(entry), trace))
  return build(map.definitions as RegisterBlock, '', byName) as Mapped<D>
}

function build(block: RegisterBlock, prefix: string, byName: ReadonlyMap<string, AnyRegister>): object {
  const element = (item: Register | RegisterBlock, name: string) =>
    isRegister(item) ? byName.get(name) : build(item, `${name}.`, byName)
  return Object.freeze(
    Object.fromEntries(
      Object.entries(block).map(([key, item]) => {
        const name = prefix + key
        if (item.kind === 'register') return [key, element(item, name)]
        return [
          key,
          Object.freeze(Array.from({ length: item.count }, (_, i) => element(item.element, `${name}[${i}]`))),
        ]
      }),
    ),
  )
}

// Keeps loads whose values nobody uses; see accessors.ts, and there why the fields are declared.
const sink32 = new Uint32Array(new ArrayBuffer(4))
const sink64 = new BigUint64Array(new ArrayBuffer(8))

abstract class CheckedMmio {
  declare readonly sizeBytes: number
  declare private readonly label: string

  constructor(label: string, sizeBytes: number) {
    this.label = label
    this.sizeBytes = sizeBytes
  }

  /** Typed arrays ignore a store behind their end, so the range is checked at each access. */
  protected check(offset: number, width: number): number {
    if (offset < 0 || offset + width > this.sizeBytes || offset % width !== 0) this.refuse(offset, width)
    return offset
  }

  protected checkBytes(offset: number, sizeBytes: number): number {
    if (!(offset >= 0 && offset + sizeBytes <= this.sizeBytes)) this.refuse(offset, sizeBytes)
    return offset
  }

  private refuse(offset: number, sizeBytes: number): never {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${this.label}: ${sizeBytes} bytes at offset ${offset} are not aligned or not within its ${this.sizeBytes} bytes`,
    )
  }
}

/** @internal Device memory through a mapped window. */
export class MappedMmio extends CheckedMmio implements Mmio {
  readonly mapped = true
  declare private readonly window: BarWindow
  declare private readonly base: number

  /** @param base Bytes from the start of the window, a multiple of 8. */
  constructor(window: BarWindow, base: number, sizeBytes: number) {
    super(window.label, sizeBytes)
    this.window = window
    this.base = base
  }

  read8(offset: number): number {
    const { window } = this
    const value = window.u8[this.base + this.check(offset, 1)]
    sink32[0] = value
    if (window.tap !== undefined) this.tellRead(offset, 1, value)
    return value
  }
  read16(offset: number): number {
    const { window } = this
    const value = window.u16[(this.base + this.check(offset, 2)) / 2]
    sink32[0] = value
    if (window.tap !== undefined) this.tellRead(offset, 2, value)
    return value
  }
  read32(offset: number): number {
    const { window } = this
    const value = window.u32[(this.base + this.check(offset, 4)) / 4]
    sink32[0] = value
    if (window.tap !== undefined) this.tellRead(offset, 4, value)
    return value
  }
  read64(offset: number): bigint {
    const { window } = this
    const value = window.u64[(this.base + this.check(offset, 8)) / 8]
    sink64[0] = value
    if (window.tap !== undefined) this.tellRead(offset, 8, value)
    return value
  }
  write8(offset: number, value: number): void {
    const { window } = this
    const index = this.base + this.check(offset, 1)
    if (window.tap !== undefined) this.tellWrite(offset, 1, value)
    window.u8[index] = value
  }
  write16(offset: number, value: number): void {
    const { window } = this
    const index = (this.base + this.check(offset, 2)) / 2
    if (window.tap !== undefined) this.tellWrite(offset, 2, value)
    window.u16[index] = value
  }
  write32(offset: number, value: number): void {
    const { window } = this
    const index = (this.base + this.check(offset, 4)) / 4
    if (window.tap !== undefined) this.tellWrite(offset, 4, value)
    window.u32[index] = value
  }
  write64(offset: number, value: bigint): void {
    const { window } = this
    const index = (this.base + this.check(offset, 8)) / 8
    if (window.tap !== undefined) this.tellWrite(offset, 8, value)
    window.u64[index] = value
  }
  readBytes(offset: number, into: Uint8Array): void {
    const { window } = this
    const start = this.base + this.checkBytes(offset, into.length)
    into.set(window.u8.subarray(start, start + into.length))
    window.tap?.copied('host', window.region, this.inRegion(offset), into.length)
  }
  writeBytes(offset: number, from: Uint8Array): void {
    const { window } = this
    const start = this.base + this.checkBytes(offset, from.length)
    const { u8 } = window
    window.tap?.copied('device', window.region, this.inRegion(offset), from.length)
    u8.set(from, start)
  }

  private inRegion(offset: number): number {
    return this.window.area.offset + this.base + offset
  }
  private tellRead(offset: number, width: AccessWidth | 8, value: number | bigint): void {
    this.window.tap!.read(this.window.region, this.inRegion(offset), width, value)
  }
  /** As of registers: see accessors.ts. */
  private tellWrite(offset: number, width: AccessWidth | 8, value: number | bigint): void {
    const { tap, region, u8 } = this.window
    if (u8 !== undefined) tap!.write(region, this.inRegion(offset), width, truncated(width, value))
  }
}

/** @internal Device memory by calls. */
export class TrappedMmio extends CheckedMmio implements Mmio {
  readonly mapped = false
  readonly #trap: BarTrap
  readonly #base: number

  constructor(trap: BarTrap, label: string, base: number, sizeBytes: number) {
    super(label, sizeBytes)
    this.#trap = trap
    this.#base = base
  }

  read8(offset: number): number {
    return this.#trap.read(this.#base + this.check(offset, 1), 1)
  }
  read16(offset: number): number {
    return this.#trap.read(this.#base + this.check(offset, 2), 2)
  }
  read32(offset: number): number {
    return this.#trap.read(this.#base + this.check(offset, 4), 4)
  }
  read64(offset: number): bigint {
    return this.#trap.read64(this.#base + this.check(offset, 8))
  }
  write8(offset: number, value: number): void {
    this.#trap.write(this.#base + this.check(offset, 1), 1, value & 0xff)
  }
  write16(offset: number, value: number): void {
    this.#trap.write(this.#base + this.check(offset, 2), 2, value & 0xffff)
  }
  write32(offset: number, value: number): void {
    this.#trap.write(this.#base + this.check(offset, 4), 4, value >>> 0)
  }
  write64(offset: number, value: bigint): void {
    this.#trap.write64(this.#base + this.check(offset, 8), BigInt.asUintN(64, value))
  }
  readBytes(offset: number, into: Uint8Array): void {
    this.#trap.readBytes(this.#base + this.checkBytes(offset, into.length), into)
  }
  writeBytes(offset: number, from: Uint8Array): void {
    this.#trap.writeBytes(this.#base + this.checkBytes(offset, from.length), from)
  }
}
