import {
  type DmaAccess,
  type DmaMapper,
  type DmaMapRequest,
  type Iova,
  type IovaRange,
  offsetInPage,
  PageMap,
  type PageRange,
  pageOf,
} from '@uaccel/memory'
import { abi, requireSealed } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { PART_BYTES, type SharedFile, SharedFiles } from './shared-files.js'
import type { ModelDma, RemoteAccess } from './types.js'
import { hex, type Violations } from './violations.js'

/** Limits of the emulated IOMMU, which tests choose. */
export interface DmaSpaceOptions {
  /** Addresses that can be mapped. Default: all 64 bits. */
  readonly ranges?: readonly IovaRange[]
  /** Default: no limit. */
  readonly maxMappings?: number
  /**
   * Refuse descriptors that are not sealed against shrinking. Default true. A virtual machine's memory is never
   * sealed: a server for those switches it off, and trusts its client not to truncate the file (which is SIGBUS).
   */
  readonly requireSealed?: boolean
}

/** What the space needs to know of the device whose transfers it serves. */
export interface DmaDevice {
  readonly name: string
  readonly addressBits: number
  readonly violations: Violations
  checkPresent(): void
  /** Throws where the device may not transfer now: bus mastering off, inside a register access, or an injected fault. */
  checkMayTransfer(iova: bigint, sizeBytes: number, access: DmaAccess): void
}

interface Entry extends PageRange {
  readonly first: bigint
  readonly last: bigint
  readonly access: DmaAccess
  /** The file that holds it, from `fdOffset` on; absent where only messages reach it. */
  readonly file?: SharedFile
  readonly fdOffset: number
  readonly remote?: RemoteAccess
}

const PAGE_BYTES = abi.PAGE_SIZE_BYTES
const PAGE = BigInt(PAGE_BYTES)
const LAST_ADDRESS = (1n << 64n) - 1n
const everything: readonly IovaRange[] = [{ first: 0n, last: LAST_ADDRESS }]
/** Up to here a copy byte by byte is faster than making the view that a copy in one go takes. */
const SMALL_BYTES = 64

/** Host memory as one device reaches it: mappings sorted by address, each of a file or of messages to its owner. */
export class DmaSpace implements DmaMapper, ModelDma {
  readonly pageSizeBytes = abi.PAGE_SIZE_BYTES
  readonly maxMappings: number
  readonly locksMemory = false
  readonly #ranges: readonly IovaRange[]
  readonly #requireSealed: boolean
  readonly #device: DmaDevice
  readonly #entries = new PageMap<Entry>()
  readonly #files: SharedFiles
  /** The page after the last that the device can address. */
  readonly #endPage: number

  constructor(device: DmaDevice, options: DmaSpaceOptions = {}) {
    this.#device = device
    this.#ranges = options.ranges ?? everything
    this.maxMappings = options.maxMappings ?? Number.POSITIVE_INFINITY
    this.#requireSealed = options.requireSealed ?? true
    this.#files = new SharedFiles(`DMA memory of ${device.name}`)
    this.#endPage = 2 ** device.addressBits / PAGE_BYTES
  }

  ranges(): readonly IovaRange[] {
    return this.#ranges
  }

  /** How many mappings there are. */
  get size(): number {
    return this.#entries.size
  }

  /**
   * Maps the request's file, once for all ranges of it. Its `address` is not used: the device has a view of its own, as hardware would.
   *
   * @throws ERR_ACCEL_INVALID_ARGUMENT not whole pages, or no sealed descriptor
   * @throws ERR_ACCEL_OUT_OF_RANGE outside the ranges, or behind the end of the file
   * @throws ERR_ACCEL_BUSY a part is mapped already
   * @throws ERR_ACCEL_PERMISSION the descriptor was not opened for that access
   * @throws ERR_ACCEL_MAPPING_LIMIT
   */
  map({ iova, sizeBytes, access, fd, fdOffset }: DmaMapRequest): void {
    const place = this.#place(iova, sizeBytes)
    if (!Number.isSafeInteger(fdOffset) || fdOffset < 0 || fdOffset % PAGE_BYTES !== 0) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `A file is mapped from a page of it on, not from byte ${fdOffset}.`,
      )
    }
    if (this.#requireSealed) requireSealed(fd, fdOffset + sizeBytes)
    const file = this.#files.open(fd, fdOffset, sizeBytes, access !== 'read')
    this.#entries.add({ ...place, access, file, fdOffset })
  }

  /** As {@link map}, for memory that only messages reach. */
  addRemote(iova: Iova, sizeBytes: number, access: DmaAccess, remote: RemoteAccess): void {
    this.#entries.add({ ...this.#place(iova, sizeBytes), access, remote, fdOffset: 0 })
  }

  /** Takes back exactly one mapping. @throws ERR_ACCEL_NOT_FOUND where there is none of that address and size */
  unmap(iova: Iova, sizeBytes: number): void {
    const entry = this.#entries.find(pageOf(iova))
    if (entry === undefined || entry.first !== iova || entry.last !== iova + BigInt(sizeBytes) - 1n) {
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `No mapping of ${sizeBytes} bytes at IOVA ${hex(iova)} to take back; ${this.#near(iova)}. Unmap what was mapped, whole.`,
      )
    }
    this.#remove(entry)
  }

  /** Takes back all mappings that lie in a range, which may be none. @throws ERR_ACCEL_INVALID_ARGUMENT where it cuts one: then all stay */
  unmapWithin(first: bigint, end: bigint): void {
    if (end <= first || first > LAST_ADDRESS) return
    const last = end <= LAST_ADDRESS ? end - 1n : LAST_ADDRESS
    const met = this.#entries.meeting({ firstPage: pageOf(first), endPage: pageOf(last) + 1 })
    const cut = met.find((entry) => entry.first < first || entry.last > last)
    if (cut !== undefined) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `IOVA ${hex(first)}-${hex(last)} has only a part of ${describeEntry(cut)}. Unmap what was mapped, whole.`,
      )
    }
    for (const entry of met) this.#remove(entry)
  }

  /** Takes all mappings back. */
  clear(): void {
    for (const { file } of this.#entries.clear()) if (file !== undefined) this.#files.close(file)
  }

  read(iova: bigint, into: Uint8Array): void {
    this.#move(iova, into, 'read')
  }

  write(iova: bigint, from: Uint8Array): void {
    this.#move(iova, from, 'write')
  }

  view(iova: bigint, sizeBytes: number, access: DmaAccess): Uint8Array | undefined {
    this.#check(iova, sizeBytes, access)
    const page = pageOf(iova)
    const entry = this.#entries.find(page)
    if (entry?.file === undefined) return undefined
    const at = (page - entry.firstPage) * PAGE_BYTES + offsetInPage(iova)
    const start = (entry.fdOffset + at) % PART_BYTES
    if (at + sizeBytes > bytesOf(entry) || start + sizeBytes > PART_BYTES) return undefined
    return partAt(entry.file, entry.fdOffset + at).subarray(start, start + sizeBytes)
  }

  /** Moves bytes between the device's memory and the host's, range by range, without an allocation for small ones. */
  #move(iova: bigint, bytes: Uint8Array, access: 'read' | 'write'): void {
    this.#check(iova, bytes.length, access)
    let page = pageOf(iova)
    let inPage = offsetInPage(iova)
    for (let done = 0; done < bytes.length; ) {
      const entry = this.#still(page, access)
      const at = (page - entry.firstPage) * PAGE_BYTES + inPage
      let moved = Math.min(bytesOf(entry) - at, bytes.length - done)
      if (entry.file === undefined) {
        entry.remote![access](iova + BigInt(done), bytes.subarray(done, done + moved))
      } else {
        const offset = entry.fdOffset + at
        const start = offset % PART_BYTES
        const part = partAt(entry.file, offset)
        moved = Math.min(moved, PART_BYTES - start)
        if (access === 'read') copy(part, start, bytes, done, moved)
        else copy(bytes, done, part, start, moved)
      }
      done += moved
      inPage += moved
      page += Math.floor(inPage / PAGE_BYTES)
      inPage %= PAGE_BYTES
    }
  }

  /** Before the first byte moves, all of them must be allowed to. */
  #check(iova: bigint, sizeBytes: number, access: DmaAccess): void {
    this.#device.checkMayTransfer(iova, sizeBytes, access)
    const page = pageOf(iova)
    const lastPage = page + Math.floor((offsetInPage(iova) + sizeBytes - 1) / PAGE_BYTES)
    if (iova < 0n || iova > LAST_ADDRESS || lastPage >= this.#endPage) {
      const { addressBits } = this.#device
      throw this.#fault(
        iova,
        sizeBytes,
        access,
        `the device has ${addressBits} address bits. Map the buffer below ${hex(1n << BigInt(addressBits))}`,
      )
    }
    for (let at = page; at <= lastPage; ) {
      const entry = this.#entries.find(at)
      if (entry === undefined) {
        const hole = at === page ? iova : BigInt(at) * PAGE
        throw this.#fault(iova, sizeBytes, access, `nothing is mapped at ${hex(hole)}; ${this.#near(hole)}`)
      }
      if (!allows(entry, access)) {
        throw this.#fault(iova, sizeBytes, access, `${describeEntry(entry)} does not allow it`)
      }
      at = entry.endPage
    }
  }

  /**
   * What was checked before may have been taken back while a message to its owner was under way, and mapped anew for another
   * access: a store to a file that is mapped to be read ends the process.
   */
  #still(page: number, access: DmaAccess): Entry {
    const entry = this.#entries.find(page)
    if (entry !== undefined && allows(entry, access)) return entry
    throw this.#fault(BigInt(page) * PAGE, 1, access, 'its mapping was taken back meanwhile')
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry)
    if (entry.file !== undefined) this.#files.close(entry.file)
  }

  #fault(iova: bigint, sizeBytes: number, access: DmaAccess, why: string): Error {
    const { name, violations } = this.#device
    return violations.record(
      'ERR_ACCEL_DMA_FAULT',
      `${name}: ${describeTransfer(iova, sizeBytes, access)}: ${why}. The driver gave the device a wrong address, or unmapped it too early.`,
      { details: { device: name, iova, sizeBytes, access, nearest: this.#nearest(iova) } },
    )
  }

  /** Checks a new range. */
  #place(iova: bigint, sizeBytes: number): Pick<Entry, 'first' | 'last' | 'firstPage' | 'endPage'> {
    this.#device.checkPresent()
    if (
      !Number.isSafeInteger(sizeBytes) ||
      sizeBytes <= 0 ||
      sizeBytes % this.pageSizeBytes !== 0 ||
      iova % PAGE !== 0n
    ) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `A DMA mapping is whole pages of ${this.pageSizeBytes} bytes, not ${sizeBytes} bytes at IOVA ${hex(iova)}.`,
      )
    }
    const last = iova + BigInt(sizeBytes) - 1n
    if (!this.#ranges.some((range) => iova >= range.first && last <= range.last)) {
      const ranges = this.#ranges.map((range) => `${hex(range.first)}-${hex(range.last)}`).join(', ')
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `IOVA ${hex(iova)}-${hex(last)} cannot be mapped: the IOMMU translates ${ranges}.`,
      )
    }
    if (this.#entries.size >= this.maxMappings) {
      throw accelError(
        'ERR_ACCEL_MAPPING_LIMIT',
        `All ${this.maxMappings} DMA mappings are taken. Use fewer, larger ones.`,
        { details: { maxMappings: this.maxMappings } },
      )
    }
    const range = { first: iova, last, firstPage: pageOf(iova), endPage: pageOf(last) + 1 }
    const [taken] = this.#entries.meeting(range)
    if (taken !== undefined) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `IOVA ${hex(iova)}-${hex(last)} overlaps ${describeEntry(taken)}. Unmap that first.`,
        { errno: 'EEXIST' },
      )
    }
    return range
  }

  #nearest(iova: bigint): string | undefined {
    const [below, above] = this.#entries.around(pageOf(iova))
    if (below === undefined || above === undefined) {
      const only = below ?? above
      return only === undefined ? undefined : describeEntry(only)
    }
    return describeEntry(iova - below.last <= above.first - iova ? below : above)
  }

  #near(iova: bigint): string {
    const nearest = this.#nearest(iova)
    return nearest === undefined ? 'nothing is mapped at all' : `the nearest mapping is ${nearest}`
  }
}

function allows(entry: Entry, access: DmaAccess): boolean {
  return entry.access === 'readwrite' || entry.access === access
}

function bytesOf({ firstPage, endPage }: PageRange): number {
  return (endPage - firstPage) * PAGE_BYTES
}

/** The part of a file that an offset lies in. What a range needs of its file was mapped with it. */
function partAt(file: SharedFile, offset: number): Uint8Array {
  return file.parts[Math.floor(offset / PART_BYTES)]!.window.u8
}

function copy(from: Uint8Array, start: number, into: Uint8Array, at: number, length: number): void {
  if (length > SMALL_BYTES) into.set(from.subarray(start, start + length), at)
  else for (let i = 0; i < length; i++) into[at + i] = from[start + i]!
}

/** A transfer in words, for what went wrong with it. */
export function describeTransfer(iova: bigint, sizeBytes: number, access: DmaAccess): string {
  return `DMA ${access} of ${sizeBytes} bytes at IOVA ${hex(iova)}`
}

function describeEntry({ first, last, access }: Entry): string {
  return `the ${access} mapping ${hex(first)}-${hex(last)}`
}
