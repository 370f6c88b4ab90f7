import { abi, Mapping, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import { BarWindow, MappedMmio } from '../mmio.js'
import type { AccessWidth, Area } from '../transport.js'

/** How one region of a UIO device is reached. Offsets were not checked before. */
export interface RegionAccess {
  read(offset: number, width: AccessWidth): number
  write(offset: number, width: AccessWidth, value: number): void
  read64(offset: number): bigint
  write64(offset: number, value: bigint): void
  readBytes(offset: number, into: Uint8Array): void
  writeBytes(offset: number, from: Uint8Array): void
  /** Absent for what cannot be mapped. */
  map?(area: Area): Mapping
  close(): void
}

/** Where the memory of a region is in a file. */
export interface MappedPlace {
  readonly region: number
  readonly label: string
  readonly sizeBytes: number
  /** Opens the file; the caller closes it. */
  open(): number
  /** Bytes from the start of the file to the first page of the region. */
  readonly fileOffset: number
  /** Bytes from the start of that page to the region. */
  readonly inPage: number
  /** The file is mapped from there or not at all: no part of the region is mapped without what is before it. */
  readonly whole: boolean
}

/**
 * Memory of a device. Such files cannot be read or written, only mapped: accesses by calls go through a mapping of our own,
 * made at the first one.
 */
export class MappedAccess implements RegionAccess {
  readonly #place: MappedPlace
  #window: BarWindow | undefined
  #memory: MappedMmio | undefined

  constructor(place: MappedPlace) {
    this.#place = place
  }

  read(offset: number, width: AccessWidth): number {
    const memory = this.#open()
    if (width === 1) return memory.read8(offset)
    return width === 2 ? memory.read16(offset) : memory.read32(offset)
  }
  write(offset: number, width: AccessWidth, value: number): void {
    const memory = this.#open()
    if (width === 1) memory.write8(offset, value)
    else if (width === 2) memory.write16(offset, value)
    else memory.write32(offset, value)
  }
  read64(offset: number): bigint {
    return this.#open().read64(offset)
  }
  write64(offset: number, value: bigint): void {
    this.#open().write64(offset, value)
  }
  readBytes(offset: number, into: Uint8Array): void {
    this.#open().readBytes(offset, into)
  }
  writeBytes(offset: number, from: Uint8Array): void {
    this.#open().writeBytes(offset, from)
  }

  map({ offset, sizeBytes }: Area): Mapping {
    const { open, fileOffset, whole, label } = this.#place
    const fd = open()
    try {
      return Mapping.map({
        fd,
        offset: whole ? fileOffset : fileOffset + offset,
        leadBytes: whole ? offset : 0,
        sizeBytes,
        dontFork: true, // a child must not reach the device
        label,
      })
    } finally {
      sys.close(fd)
    }
  }

  close(): void {
    this.#window?.revoke(accelError('ERR_ACCEL_NO_DEVICE', `${this.#place.label} was closed`))
    this.#window = undefined
    this.#memory = undefined
  }

  #open(): MappedMmio {
    if (this.#memory !== undefined) return this.#memory
    const { region, label, sizeBytes, inPage } = this.#place
    const pages = Math.ceil((inPage + sizeBytes) / abi.PAGE_SIZE_BYTES) * abi.PAGE_SIZE_BYTES
    const area = { offset: 0, sizeBytes: pages }
    this.#window = new BarWindow(region, area, label, this.map(area))
    this.#memory = new MappedMmio(this.#window, inPage, sizeBytes)
    return this.#memory
  }
}

/** What is reached by reading and writing a file: config space and I/O ports (drivers/pci/pci-sysfs.c). One call is one access of its width. */
export class FileAccess implements RegionAccess {
  readonly #fd: number
  readonly #label: string
  readonly #sizeBytes: number
  readonly #scratch: Readonly<Record<AccessWidth | 8, Uint8Array>>
  readonly #view: DataView

  /** Takes the descriptor over. */
  constructor(fd: number, sizeBytes: number, label: string) {
    this.#fd = fd
    this.#sizeBytes = sizeBytes
    this.#label = label
    const scratch = new ArrayBuffer(8)
    this.#view = new DataView(scratch)
    const bytes = (width: number) => new Uint8Array(scratch, 0, width)
    this.#scratch = { 1: bytes(1), 2: bytes(2), 4: bytes(4), 8: bytes(8) }
  }

  read(offset: number, width: AccessWidth): number {
    this.readBytes(offset, this.#scratch[width])
    if (width === 1) return this.#view.getUint8(0)
    return width === 2 ? this.#view.getUint16(0, true) : this.#view.getUint32(0, true)
  }
  write(offset: number, width: AccessWidth, value: number): void {
    if (width === 1) this.#view.setUint8(0, value)
    else if (width === 2) this.#view.setUint16(0, value, true)
    else this.#view.setUint32(0, value, true)
    this.writeBytes(offset, this.#scratch[width])
  }
  read64(offset: number): bigint {
    this.readBytes(offset, this.#scratch[8])
    return this.#view.getBigUint64(0, true)
  }
  write64(offset: number, value: bigint): void {
    this.#view.setBigUint64(0, value, true)
    this.writeBytes(offset, this.#scratch[8])
  }
  readBytes(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length)
    this.#whole('read', offset, into.length, sys.pread(this.#fd, into, offset))
  }
  writeBytes(offset: number, from: Uint8Array): void {
    this.#check(offset, from.length)
    this.#whole('written', offset, from.length, sys.pwrite(this.#fd, from, offset))
  }

  close(): void {
    sys.close(this.#fd)
  }

  #check(offset: number, sizeBytes: number): void {
    if (offset >= 0 && offset + sizeBytes <= this.#sizeBytes) return
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${this.#label}: ${sizeBytes} bytes at offset ${offset}, which has ${this.#sizeBytes}`,
    )
  }

  #whole(verb: string, offset: number, wanted: number, done: number): void {
    if (done === wanted) return
    throw accelError(
      'ERR_ACCEL_IO',
      `${this.#label}: ${done} of ${wanted} bytes at offset ${offset} were ${verb}`,
    )
  }
}
