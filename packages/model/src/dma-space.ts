import type { DmaAccess, DmaMapper, DmaMapRequest, Iova, IovaRange } from '@uaccel/memory'
import { abi, Mapping, requireSealed, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
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
  checkMayTransfer(what: string): void
}

interface Entry {
  readonly first: bigint
  readonly last: bigint
  readonly access: DmaAccess
  readonly mapping?: Mapping
  readonly remote?: RemoteAccess
}

const PAGE = BigInt(abi.PAGE_SIZE_BYTES)
const everything: readonly IovaRange[] = [{ first: 0n, last: (1n << 64n) - 1n }]

/** Host memory as one device reaches it: mappings sorted by address, each of a file or of messages to its owner. */
export class DmaSpace implements DmaMapper, ModelDma {
  readonly pageSizeBytes = abi.PAGE_SIZE_BYTES
  readonly maxMappings: number
  readonly locksMemory = false
  readonly #ranges: readonly IovaRange[]
  readonly #requireSealed: boolean
  readonly #device: DmaDevice
  readonly #entries: Entry[] = []
  #lastHit: Entry | undefined

  constructor(device: DmaDevice, options: DmaSpaceOptions = {}) {
    this.#device = device
    this.#ranges = options.ranges ?? everything
    this.maxMappings = options.maxMappings ?? Number.POSITIVE_INFINITY
    this.#requireSealed = options.requireSealed ?? true
  }

  ranges(): readonly IovaRange[] {
    return this.#ranges
  }

  /** How many mappings there are. */
  get size(): number {
    return this.#entries.length
  }

  /**
   * Maps the request's file. Its `address` is not used: the device has a view of its own, as hardware would.
   *
   * @throws ERR_ACCEL_INVALID_ARGUMENT not whole pages, or no sealed descriptor
   * @throws ERR_ACCEL_OUT_OF_RANGE outside the ranges
   * @throws ERR_ACCEL_BUSY a part is mapped already
   * @throws ERR_ACCEL_MAPPING_LIMIT
   */
  map({ iova, sizeBytes, access, fd, fdOffset }: DmaMapRequest): void {
    const at = this.#place(iova, sizeBytes)
    if (this.#requireSealed) requireSealed(fd, fdOffset + sizeBytes)
    else this.#requireLongEnough(fd, fdOffset + sizeBytes)
    const mapping = Mapping.map({
      fd,
      offset: fdOffset,
      sizeBytes,
      prot: access === 'read' ? abi.PROT_READ : abi.PROT_READ | abi.PROT_WRITE,
      dontFork: true,
      label: `DMA memory of ${this.#device.name} at IOVA ${hex(iova)}`,
    })
    this.#entries.splice(at, 0, { first: iova, last: iova + BigInt(sizeBytes) - 1n, access, mapping })
  }

  /** As {@link map}, for memory that only messages reach. */
  addRemote(iova: Iova, sizeBytes: number, access: DmaAccess, remote: RemoteAccess): void {
    const at = this.#place(iova, sizeBytes)
    this.#entries.splice(at, 0, { first: iova, last: iova + BigInt(sizeBytes) - 1n, access, remote })
  }

  /** Takes back exactly one mapping. @throws ERR_ACCEL_NOT_FOUND where there is none of that address and size */
  unmap(iova: Iova, sizeBytes: number): void {
    const at = this.#entries.findIndex(({ first }) => first === iova)
    const entry = this.#entries[at]
    if (entry === undefined || entry.last !== iova + BigInt(sizeBytes) - 1n) {
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `No mapping of ${sizeBytes} bytes at IOVA ${hex(iova)} to take back; ${this.#near(iova)}. Unmap what was mapped, whole.`,
      )
    }
    this.#entries.splice(at, 1)
    this.#lastHit = undefined
    entry.mapping?.revoke()
  }

  /** Takes all mappings back. */
  clear(): void {
    this.#lastHit = undefined
    for (const entry of this.#entries.splice(0)) entry.mapping?.revoke()
  }

  read(iova: bigint, into: Uint8Array): void {
    this.#check(iova, into.length, 'read')
    for (let done = 0; done < into.length; ) {
      const at = iova + BigInt(done)
      const { first, last, mapping, remote } = this.#still(at, 'read')
      const part = into.subarray(done, done + Number(min(last - at + 1n, BigInt(into.length - done))))
      if (mapping === undefined) remote!.read(at, part)
      else part.set(mapping.window.u8.subarray(Number(at - first), Number(at - first) + part.length))
      done += part.length
    }
  }

  write(iova: bigint, from: Uint8Array): void {
    this.#check(iova, from.length, 'write')
    for (let done = 0; done < from.length; ) {
      const at = iova + BigInt(done)
      const { first, last, mapping, remote } = this.#still(at, 'write')
      const part = from.subarray(done, done + Number(min(last - at + 1n, BigInt(from.length - done))))
      if (mapping === undefined) remote!.write(at, part)
      else mapping.window.u8.set(part, Number(at - first))
      done += part.length
    }
  }

  view(iova: bigint, sizeBytes: number, access: DmaAccess): Uint8Array | undefined {
    this.#check(iova, sizeBytes, access)
    const entry = this.#find(iova)
    if (entry?.mapping === undefined || iova + BigInt(sizeBytes) - 1n > entry.last) return undefined
    const offset = Number(iova - entry.first)
    return entry.mapping.window.u8.subarray(offset, offset + sizeBytes)
  }

  /** Before the first byte moves, all of them must be allowed to. */
  #check(iova: bigint, sizeBytes: number, access: DmaAccess): void {
    this.#device.checkMayTransfer(describe(iova, sizeBytes, access))
    const { addressBits } = this.#device
    const end = iova + BigInt(sizeBytes)
    if (iova < 0n || end > 1n << BigInt(addressBits)) {
      throw this.#fault(
        iova,
        sizeBytes,
        access,
        `the device has ${addressBits} address bits. Map the buffer below ${hex(1n << BigInt(addressBits))}`,
      )
    }
    for (let at = iova; at < end; ) {
      const entry = this.#find(at)
      if (entry === undefined) {
        throw this.#fault(iova, sizeBytes, access, `nothing is mapped at ${hex(at)}; ${this.#near(at)}`)
      }
      if (entry.access !== 'readwrite' && entry.access !== access) {
        throw this.#fault(iova, sizeBytes, access, `${describeEntry(entry)} does not allow it`)
      }
      at = entry.last + 1n
    }
  }

  /** What was checked before may have been taken back while a message to its owner was under way. */
  #still(iova: bigint, access: DmaAccess): Entry {
    const entry = this.#find(iova)
    if (entry === undefined) throw this.#fault(iova, 1, access, 'its mapping was taken back meanwhile')
    return entry
  }

  #fault(iova: bigint, sizeBytes: number, access: DmaAccess, why: string): Error {
    const { name, violations } = this.#device
    return violations.record(
      'ERR_ACCEL_DMA_FAULT',
      `${name}: ${describe(iova, sizeBytes, access)}: ${why}. The driver gave the device a wrong address, or unmapped it too early.`,
      { details: { device: name, iova, sizeBytes, access, nearest: this.#nearest(iova) } },
    )
  }

  #find(iova: bigint): Entry | undefined {
    const last = this.#lastHit
    if (last !== undefined && iova >= last.first && iova <= last.last) return last
    const entry = this.#entries[this.#after(iova) - 1]
    if (entry === undefined || iova > entry.last) return undefined
    this.#lastHit = entry
    return entry
  }

  /** The index of the first entry that starts above `iova`. */
  #after(iova: bigint): number {
    let low = 0
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#entries[middle]!.first <= iova) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Checks a new range and answers the index where it belongs. */
  #place(iova: bigint, sizeBytes: number): number {
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
    if (this.#entries.length >= this.maxMappings) {
      throw accelError(
        'ERR_ACCEL_MAPPING_LIMIT',
        `All ${this.maxMappings} DMA mappings are taken. Use fewer, larger ones.`,
        { details: { maxMappings: this.maxMappings } },
      )
    }
    const at = this.#after(iova)
    const before = this.#entries[at - 1]
    const after = this.#entries[at]
    const taken = before !== undefined && before.last >= iova ? before : after
    if (taken !== undefined && taken.first <= last && taken.last >= iova) {
      throw accelError(
        'ERR_ACCEL_BUSY',
        `IOVA ${hex(iova)}-${hex(last)} overlaps ${describeEntry(taken)}. Unmap that first.`,
      )
    }
    return at
  }

  #requireLongEnough(fd: number, minBytes: number): void {
    const { sizeBytes } = sys.fstat(fd)
    if (sizeBytes < minBytes) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `The file has ${sizeBytes} bytes; ${minBytes} were to be mapped.`,
      )
    }
  }

  #nearest(iova: bigint): string | undefined {
    const at = this.#after(iova)
    const below = this.#entries[at - 1]
    const above = this.#entries[at]
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

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}

function describe(iova: bigint, sizeBytes: number, access: DmaAccess): string {
  return `DMA ${access} of ${sizeBytes} bytes at IOVA ${hex(iova)}`
}

function describeEntry({ first, last, access }: Entry): string {
  return `the ${access} mapping ${hex(first)}-${hex(last)}`
}
