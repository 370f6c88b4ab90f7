import { constants } from 'node:buffer'
import { type AccelError, accelError } from '@uaccel/uapi'
import * as abi from './abi.js'
import { type SystemCalls, sys } from './system-calls.js'

/**
 * Typed arrays over one range of mapped memory, to be read through the window at each access (`w.u32[i]`): a
 * revoked window has arrays whose every use throws ERR_ACCEL_REVOKED. Never keep, hand out or print an array:
 * one over a BAR reads the hardware.
 */
export class Window {
  readonly sizeBytes: number
  u8!: Uint8Array
  u16!: Uint16Array
  u32!: Uint32Array
  i32!: Int32Array
  u64!: BigUint64Array
  readonly #offset: number
  #state: 'live' | 'withdrawn' | 'revoked' = 'live'

  /** @internal Without a buffer it is revoked. */
  constructor(buffer: ArrayBuffer | undefined, offset: number, sizeBytes: number, label = 'memory') {
    this.#offset = offset
    this.sizeBytes = sizeBytes
    if (buffer) this.expose(buffer)
    else this.withdraw(label)
  }

  get revoked(): boolean {
    return this.#state !== 'live'
  }

  /** @internal Makes the arrays real: at first, and again after a remap, but never once `revoke` was called. */
  expose(buffer: ArrayBuffer): void {
    if (this.#state === 'revoked') return
    const at = this.#offset
    this.u8 = new Uint8Array(buffer, at, this.sizeBytes)
    this.u16 = new Uint16Array(buffer, at, Math.floor(this.sizeBytes / 2))
    this.u32 = new Uint32Array(buffer, at, Math.floor(this.sizeBytes / 4))
    this.i32 = new Int32Array(buffer, at, Math.floor(this.sizeBytes / 4))
    this.u64 = new BigUint64Array(buffer, at, Math.floor(this.sizeBytes / 8))
    this.#state = 'live'
  }

  /** Takes this window back for good. The memory stays mapped: for a part whose owner is done with it. */
  revoke(label = 'memory'): void {
    this.withdraw(label)
    this.#state = 'revoked'
  }

  /** @internal Takes it back with the whole mapping, until that is mapped again. */
  withdraw(label: string): void {
    if (this.#state !== 'live') return
    this.#state = 'withdrawn'
    const error = () =>
      accelError(
        'ERR_ACCEL_REVOKED',
        `The mapping of ${label} was taken back (released, reset or removed) and then touched. Stop using it, or map it again.`,
      )
    this.u8 = poison(Uint8Array, error)
    this.u16 = poison(Uint16Array, error)
    this.u32 = poison(Uint32Array, error)
    this.i32 = poison(Int32Array, error)
    this.u64 = poison(BigUint64Array, error)
  }
}

/** A stand-in for a typed array, whose every use throws. */
function poison<T extends object>(type: new (length: number) => T, error: () => AccelError): T {
  const refuse = (): never => {
    throw error()
  }
  return new Proxy(new type(0), {
    get: refuse,
    set: refuse,
    has: refuse,
    ownKeys: refuse,
    defineProperty: refuse,
  })
}

/** What to map, and how. */
export interface MapOptions {
  fd: number
  /** Bytes from the start of the file; a multiple of the page size. */
  offset: number | bigint
  sizeBytes: number
  /**
   * `abi.PROT_*`; read and write unless told. A store to memory mapped with PROT_READ alone kills the process: a
   * typed array cannot refuse it, so whoever asks for that must check each access.
   */
  prot?: number
  /** Writes reach the file and its other users; true unless told. */
  shared?: boolean
  /**
   * How far behind `offset` what is wanted begins, a multiple of the page size, in files that are mapped from their start or
   * not at all (UIO's): the bytes before it are mapped too, and given back at once. Not for what is to be mapped again.
   */
  leadBytes?: number
  /** Keeps the range out of forked children: for BARs, which a child must not touch. */
  dontFork?: boolean
  /** Alignment of the address, a power of two of at least a page: 2 MiB lets an IOMMU use large pages. */
  alignBytes?: number
  /** Names the memory in errors, such as `BAR 0 of 0000:00:05.0`. */
  label?: string
}

interface Range {
  readonly address: bigint
  readonly sizeBytes: number
  readonly calls: SystemCalls
  /** How often it is shared with other threads, whose views cannot be seen from this one. */
  holders: number
  /** No view of this thread is left. */
  collected: boolean
}

/** An address range that other threads may view: see {@link Mapping.share}. */
export interface SharedRange {
  readonly address: bigint
  readonly sizeBytes: number
  /** No view of it is left in the thread that it was shared with. Again is harmless. */
  release(): void
}

/*
 * A range that was viewed is given back to the kernel only when the ArrayBuffer over it is collected, never at revoke: until
 * then a stale typed array could reach whatever was mapped at the same address next. Revoked, it is anonymous
 * memory without reserve, which costs address space and nothing else.
 *
 * The ArrayBuffer is made at the first look: V8 counts its bytes as its own, and collects garbage the more often the more there
 * are, as it would for nothing where memory is only passed on.
 */
const ranges = new FinalizationRegistry<Range>((range) => {
  range.collected = true
  giveBack(range)
})

function giveBack({ address, sizeBytes, calls, holders, collected }: Range): void {
  if (collected && holders === 0) calls.munmap(address, sizeBytes)
}

/** A range that is mapped MAP_FIXED over must be reserved already: what was there before is unmapped silently. */
function reserve(calls: SystemCalls, sizeBytes: number, alignBytes: number): bigint {
  const flags = abi.MAP_PRIVATE | abi.MAP_ANONYMOUS | abi.MAP_NORESERVE
  const slack = alignBytes > abi.PAGE_SIZE_BYTES ? alignBytes : 0
  const start = calls.mmap(0n, sizeBytes + slack, abi.PROT_NONE, flags, -1, 0)
  if (slack === 0) return start
  const align = BigInt(alignBytes)
  const address = ((start + align - 1n) / align) * align
  const before = Number(address - start)
  if (before > 0) calls.munmap(start, before)
  if (slack - before > 0) calls.munmap(address + BigInt(sizeBytes), slack - before)
  return address
}

function view(calls: SystemCalls, address: bigint, sizeBytes: number): ArrayBuffer {
  const buffer = calls.provider.view(address, sizeBytes)
  // a runtime with V8's sandbox copies instead, and writes would then reach nothing
  if (calls.addressOf(new Uint8Array(buffer)) !== address) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      'This runtime cannot wrap mapped memory without a copy (Electron and other sandboxed V8 builds). Run it on Node.',
    )
  }
  return buffer
}

/** Bytes that one view can have: 4 GiB in Node 20. koffi ends the process when it is asked for more. */
export const MAX_MAPPING_BYTES = constants.MAX_LENGTH

function checkSize(sizeBytes: number): void {
  checkPages(sizeBytes, 'The size of a mapping')
  if (sizeBytes > MAX_MAPPING_BYTES) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `A mapping of ${sizeBytes} bytes: this runtime views at most ${MAX_MAPPING_BYTES} at once. Map it in parts.`,
      { details: { sizeBytes, maxBytes: MAX_MAPPING_BYTES } },
    )
  }
}

function checkPages(value: number, what: string): void {
  if (!Number.isSafeInteger(value) || value <= 0 || value % abi.PAGE_SIZE_BYTES !== 0) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${what} must be a positive multiple of ${abi.PAGE_SIZE_BYTES}, not ${value}.`,
    )
  }
}

function checkAlignment(alignBytes: number): void {
  checkPages(alignBytes, 'An alignment')
  if (!Number.isInteger(Math.log2(alignBytes))) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `An alignment must be a power of two, not ${alignBytes}.`)
  }
}

/** Mapped memory that can be taken back from whoever still holds a view of it. */
export class Mapping {
  readonly sizeBytes: number
  readonly label: string
  #range: Range
  #buffer: ArrayBuffer | undefined
  #window: Window | undefined
  readonly #options: MapOptions | undefined
  readonly #slices = new Set<WeakRef<Window>>()
  #revoked = false
  /** Nobody may look at it, even where the kernel has no room to take it back. */
  #withdrawn = false
  /** The range is the kernel's again. */
  #givenBack = false

  private constructor(range: Range, label: string, options?: MapOptions) {
    this.sizeBytes = range.sizeBytes
    this.label = label
    this.#range = range
    this.#options = options
    ranges.register(this, range, this)
  }

  get address(): bigint {
    return this.#range.address
  }

  /**
   * Over all of it. Read its arrays through it at each access.
   *
   * @throws ERR_ACCEL_UNSUPPORTED the runtime cannot view mapped memory
   */
  get window(): Window {
    if (this.#window === undefined) {
      this.#window = new Window(this.#withdrawn ? undefined : this.#view(), 0, this.sizeBytes, this.label)
    }
    return this.#window
  }

  #view(): ArrayBuffer {
    if (this.#buffer === undefined) {
      const { calls, address, sizeBytes } = this.#range
      this.#buffer = view(calls, address, sizeBytes)
      ranges.unregister(this)
      ranges.register(this.#buffer, this.#range)
    }
    return this.#buffer
  }

  /**
   * Maps a file or device. `fd` may be closed afterwards. A file of somebody else must pass `requireSealed`
   * first: touching memory behind the end of a file kills the process.
   *
   * @throws ERR_ACCEL_INVALID_ARGUMENT size or alignment that is not whole pages
   * @throws ERR_ACCEL_OUT_OF_RANGE behind the end of the file, or more than `MAX_MAPPING_BYTES`
   * @throws ERR_ACCEL_SYSTEM, ERR_ACCEL_NO_MEMORY and so on: mmap failed
   */
  static map(options: MapOptions, calls: SystemCalls = sys): Mapping {
    const { sizeBytes, alignBytes = abi.PAGE_SIZE_BYTES, label = `fd ${options.fd}` } = options
    checkSize(sizeBytes)
    checkAlignment(alignBytes)
    const { leadBytes = 0 } = options
    if (leadBytes !== 0) checkPages(leadBytes, 'What is mapped before it')
    const start = reserve(calls, leadBytes + sizeBytes, alignBytes)
    const range = { address: start + BigInt(leadBytes), sizeBytes, calls, holders: 0, collected: false }
    try {
      place({ ...range, address: start, sizeBytes: leadBytes + sizeBytes }, options)
      const mapping = new Mapping(range, label, options)
      if (leadBytes > 0) calls.munmap(start, leadBytes)
      return mapping
    } catch (error) {
      calls.munmap(start, leadBytes + sizeBytes)
      throw error
    }
  }

  /** Private zeroed memory, such as a buffer that nobody else maps. */
  static anonymous(
    sizeBytes: number,
    { alignBytes = abi.PAGE_SIZE_BYTES, label = 'anonymous memory' } = {},
    calls: SystemCalls = sys,
  ): Mapping {
    checkSize(sizeBytes)
    checkAlignment(alignBytes)
    const address = reserve(calls, sizeBytes, alignBytes)
    const range = { address, sizeBytes, calls, holders: 0, collected: false }
    try {
      placeAnonymous(range)
      return new Mapping(range, label)
    } catch (error) {
      calls.munmap(address, sizeBytes)
      throw error
    }
  }

  get revoked(): boolean {
    return this.#revoked
  }

  /**
   * A window on a part, revoked with the whole.
   *
   * @param offset In bytes, a multiple of 8.
   * @throws ERR_ACCEL_OUT_OF_RANGE, ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_REVOKED
   */
  slice(offset: number, sizeBytes: number): Window {
    if (this.revoked) throw accelError('ERR_ACCEL_REVOKED', `The mapping of ${this.label} was taken back.`)
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(sizeBytes) || offset % 8 !== 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `A window starts at a multiple of 8 bytes and has a whole size, not offset ${offset}, size ${sizeBytes}.`,
      )
    }
    if (offset < 0 || sizeBytes < 0 || offset + sizeBytes > this.sizeBytes) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A window of ${sizeBytes} bytes at ${offset} does not fit ${this.label}, which has ${this.sizeBytes} bytes.`,
      )
    }
    const window = new Window(this.#view(), offset, sizeBytes)
    for (const slice of this.#slices) if (slice.deref() === undefined) this.#slices.delete(slice)
    this.#slices.add(new WeakRef(window))
    return window
  }

  /**
   * What another thread needs to view this memory, with `mappingFromAddress`. That thread's views are not seen from
   * here, so the address range is not reused until `release()` is called, which nobody has to do.
   */
  share(): SharedRange {
    if (this.#givenBack) throw accelError('ERR_ACCEL_REVOKED', `The mapping of ${this.label} was taken back.`)
    const range = this.#range
    let held = true
    range.holders++
    const release = () => {
      if (!held) return
      held = false
      range.holders--
      giveBack(range)
    }
    return { address: range.address, sizeBytes: range.sizeBytes, release }
  }

  /**
   * Takes the memory back: whoever holds a window gets ERR_ACCEL_REVOKED; a raw array that outlived it, in this
   * thread or another, reaches inert memory. The file or device is released. Again is harmless.
   */
  revoke(): void {
    if (this.#revoked) return
    // First what cannot fail: where the kernel has no room for the exchange (ENOMEM), windows are dead all the same.
    this.#withdrawn = true
    this.#window?.withdraw(this.label)
    for (const slice of this.#slices) slice.deref()?.withdraw(this.label)
    if (this.#buffer === undefined && this.#range.holders === 0) {
      ranges.unregister(this)
      this.#givenBack = true
      this.#revoked = true
      this.#range.calls.munmap(this.address, this.sizeBytes)
      return
    }
    placeAnonymous(this.#range)
    this.#revoked = true
  }

  /**
   * Maps again what `revoke` took back, with the same options, and at the same address where anybody had looked at it: after a
   * device reset. Its windows work again, except those revoked by themselves.
   */
  remap(fd: number, offset: number | bigint): void {
    if (this.#options === undefined || (this.#options.leadBytes ?? 0) > 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `${this.label} is not of a file, or has no place of its own in it, and cannot be mapped again.`,
      )
    }
    if (this.#givenBack) {
      const { calls, sizeBytes } = this.#range
      const address = reserve(calls, sizeBytes, this.#options.alignBytes ?? abi.PAGE_SIZE_BYTES)
      this.#range = { address, sizeBytes, calls, holders: 0, collected: false }
      this.#givenBack = false
      ranges.register(this, this.#range, this)
    }
    place(this.#range, { ...this.#options, fd, offset })
    this.#revoked = false
    this.#withdrawn = false
    if (this.#window === undefined && this.#slices.size === 0) return
    const buffer = this.#view()
    this.#window?.expose(buffer)
    for (const slice of this.#slices) slice.deref()?.expose(buffer)
  }

  [Symbol.dispose](): void {
    this.revoke()
  }
}

function place({ address, sizeBytes, calls }: Range, options: MapOptions): void {
  const { fd, offset, prot = abi.PROT_READ | abi.PROT_WRITE, shared = true, dontFork = false } = options
  checkEnd(calls, { ...options, sizeBytes })
  calls.mmap(
    address,
    sizeBytes,
    prot,
    (shared ? abi.MAP_SHARED : abi.MAP_PRIVATE) | abi.MAP_FIXED,
    fd,
    offset,
  )
  if (dontFork) calls.madvise(address, sizeBytes, abi.MADV_DONTFORK)
}

/** S_IFMT and S_IFREG. include/uapi/linux/stat.h */
const FILE_TYPE_MASK = 0o170000
const REGULAR_FILE = 0o100000

/** Memory behind the end of a file is SIGBUS. Devices have no size and answer for themselves. */
function checkEnd(calls: SystemCalls, { fd, offset, sizeBytes }: MapOptions): void {
  const file = calls.fstat(fd)
  if ((file.mode & FILE_TYPE_MASK) !== REGULAR_FILE) return
  const pages = Math.ceil(file.sizeBytes / abi.PAGE_SIZE_BYTES)
  if (Number(offset) + sizeBytes <= pages * abi.PAGE_SIZE_BYTES) return
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `Cannot map ${sizeBytes} bytes at offset 0x${offset.toString(16)} of a file that has ${file.sizeBytes} bytes.`,
    { details: { offset, sizeBytes, fileBytes: file.sizeBytes } },
  )
}

function placeAnonymous({ address, sizeBytes, calls }: Range): void {
  const flags = abi.MAP_PRIVATE | abi.MAP_ANONYMOUS | abi.MAP_NORESERVE | abi.MAP_FIXED
  calls.mmap(address, sizeBytes, abi.PROT_READ | abi.PROT_WRITE, flags, -1, 0)
}

const collections = new FinalizationRegistry<() => void>((collected) => collected())

/**
 * A window on memory that another thread of this process mapped and shared (`Mapping.share`). It is not poisoned
 * when that thread revokes the mapping: accesses then reach inert memory.
 *
 * @param collected Called once no array over the memory is left in this thread.
 */
export function mappingFromAddress(
  address: bigint,
  sizeBytes: number,
  calls: SystemCalls = sys,
  collected?: () => void,
): Window {
  checkSize(sizeBytes)
  const buffer = view(calls, address, sizeBytes)
  if (collected !== undefined) collections.register(buffer, collected)
  return new Window(buffer, 0, sizeBytes)
}
