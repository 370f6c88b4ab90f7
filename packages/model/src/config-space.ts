import { accelError } from '@uaccel/uapi'
import type { ModelDefinition } from './types.js'

// Registers of a type 0 header: PCI Local Bus 3.0, section 6.1, and where named its subsections.
const COMMAND = 0x04
const COMMAND_MEMORY = 1 << 1 // 6.2.2
const COMMAND_BUS_MASTER = 1 << 2
const COMMAND_PARITY = 1 << 6
const COMMAND_SERR = 1 << 8
const COMMAND_INTX_DISABLE = 1 << 10
const STATUS = 0x06
const STATUS_INTX = 1 << 3 // 6.2.3
const STATUS_CAPABILITIES = 1 << 4
const STATUS_ERRORS = 0xf900 // bits 8 and 11-15: cleared by writing 1
const REVISION = 0x08
const CACHE_LINE = 0x0c
const LATENCY_TIMER = 0x0d
const BAR0 = 0x10
const BAR_TYPE_64 = 0b10 << 1 // 6.2.5.1
const BAR_PREFETCHABLE = 1 << 3
const SUBSYSTEM_VENDOR = 0x2c
const CAPABILITIES_POINTER = 0x34
const INTERRUPT_LINE = 0x3c
const INTERRUPT_PIN = 0x3d
const FIRST_CAPABILITY = 0x40

// Capability ids: PCI Code and ID Assignment 1.11, section 2.
const CAP_POWER = 0x01
const CAP_MSI = 0x05
const CAP_VENDOR = 0x09
const CAP_EXPRESS = 0x10
const CAP_MSIX = 0x11

// MSI, 64-bit with per-vector masking: PCI 3.0, 6.8.1. Offsets from the capability.
const MSI_CONTROL = 0x02
const MSI_ENABLE = 1 << 0
const MSI_ALLOCATED_SHIFT = 4
const MSI_64_BIT = 1 << 7
const MSI_MASKABLE = 1 << 8
const MSI_ADDRESS = 0x04
const MSI_DATA = 0x0c
const MSI_MASK = 0x10
const MSI_PENDING = 0x14
const MSI_BYTES = 0x18

// MSI-X: PCI 3.0, 6.8.2.
const MSIX_CONTROL = 0x02
const MSIX_FUNCTION_MASK = 1 << 14
const MSIX_ENABLE = 1 << 15
const MSIX_TABLE = 0x04
const MSIX_PBA = 0x08
const MSIX_BYTES = 0x0c

// PCI Express: PCI Express Base 3.0, 7.8.
const EXPRESS_VERSION_2_ENDPOINT = 0x0002
const EXPRESS_DEVICE_CAPABILITIES = 0x04
const EXPRESS_FLR_CAPABLE = 1 << 28
const EXPRESS_DEVICE_CONTROL = 0x08
const EXPRESS_START_FLR = 1 << 15
const EXPRESS_BYTES = 0x3c

// Power management: PCI Power Management 1.2, 3.2.
const POWER_VERSION_3 = 0x0003
const POWER_CONTROL = 0x04
const POWER_STATE = 0b11
const POWER_NO_SOFT_RESET = 1 << 3
const POWER_BYTES = 0x08

// Vendor-specific: PCI 3.0, 6.8 and appendix H. The length counts all bytes of the capability.
const VENDOR_LENGTH = 0x02
const VENDOR_BODY = 0x03

/** What a function does when its configuration space is written. */
export interface ConfigSpaceEvents {
  /** A bit that decides about interrupts may have changed. */
  interruptsChanged(): void
  /** The driver asked for a function-level reset. */
  resetRequested(): void
}

/**
 * The configuration space of a type 0 function: bytes, and for each byte which bits can be written and which are
 * cleared by ones. Sizing a BAR by writing all ones needs nothing more: its low bits cannot be written.
 */
export class ConfigSpace {
  readonly sizeBytes: number
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #writable: DataView
  readonly #clearable: DataView
  readonly #powerOn: Uint8Array
  readonly #events: ConfigSpaceEvents
  readonly #msi: number
  readonly #msix: number
  readonly #express: number

  constructor(definition: ModelDefinition<never>, events: ConfigSpaceEvents) {
    const { capabilities = {}, interrupts } = definition
    this.#events = events
    this.sizeBytes = capabilities.express ? 4096 : 256
    this.#bytes = new Uint8Array(this.sizeBytes)
    this.#view = new DataView(this.#bytes.buffer)
    this.#writable = new DataView(new ArrayBuffer(this.sizeBytes))
    this.#clearable = new DataView(new ArrayBuffer(this.sizeBytes))
    this.#header(definition)

    let at = FIRST_CAPABILITY
    let link = CAPABILITIES_POINTER
    const add = (id: number, sizeBytes: number): number => {
      const here = at
      this.#view.setUint8(link, here)
      this.#view.setUint8(here, id)
      link = here + 1
      at += (sizeBytes + 3) & ~3
      return here
    }
    if (capabilities.powerManagement) this.#power(add(CAP_POWER, POWER_BYTES))
    this.#msi = interrupts.msi ? this.#addMsi(add(CAP_MSI, MSI_BYTES), interrupts.msi) : 0
    this.#msix = interrupts.msix ? this.#addMsix(add(CAP_MSIX, MSIX_BYTES), interrupts.msix) : 0
    this.#express = capabilities.express ? this.#addExpress(add(CAP_EXPRESS, EXPRESS_BYTES)) : 0
    for (const body of capabilities.vendor ?? []) {
      const here = add(CAP_VENDOR, VENDOR_BODY + body.length)
      this.#view.setUint8(here + VENDOR_LENGTH, VENDOR_BODY + body.length)
      this.#bytes.set(body, here + VENDOR_BODY)
    }
    if (at > FIRST_CAPABILITY) this.#view.setUint16(STATUS, STATUS_CAPABILITIES, true)
    this.#powerOn = this.#bytes.slice()
  }

  /** Any number of bytes within the space. @throws ERR_ACCEL_OUT_OF_RANGE */
  read(offset: number, into: Uint8Array): void {
    this.#check(offset, into.length)
    into.set(this.#bytes.subarray(offset, offset + into.length))
  }

  write(offset: number, from: Uint8Array): void {
    this.#check(offset, from.length)
    for (let i = 0; i < from.length; i++) {
      const at = offset + i
      const writable = this.#writable.getUint8(at)
      const kept = this.#bytes[at]! & ~writable & ~(from[i]! & this.#clearable.getUint8(at))
      this.#bytes[at] = kept | (from[i]! & writable)
    }
    if (this.#takeFlr()) this.#events.resetRequested()
    else this.#events.interruptsChanged()
  }

  reset(): void {
    this.#bytes.set(this.#powerOn)
  }

  get memoryDecode(): boolean {
    return this.#command(COMMAND_MEMORY)
  }

  get busMaster(): boolean {
    return this.#command(COMMAND_BUS_MASTER)
  }

  get intxDisabled(): boolean {
    return this.#command(COMMAND_INTX_DISABLE)
  }

  /** The interrupt status bit shows the line before the command register's disable bit. */
  set intxStatus(asserted: boolean) {
    const others = this.#view.getUint16(STATUS, true) & ~STATUS_INTX
    this.#view.setUint16(STATUS, asserted ? others | STATUS_INTX : others, true)
  }

  get msiEnabled(): boolean {
    return this.#msi > 0 && (this.#view.getUint16(this.#msi + MSI_CONTROL, true) & MSI_ENABLE) !== 0
  }

  /** Vectors that the driver granted: a power of two. */
  get msiAllocated(): number {
    return 1 << ((this.#view.getUint16(this.#msi + MSI_CONTROL, true) >> MSI_ALLOCATED_SHIFT) & 0b111)
  }

  /** Enables MSI with room for `vectors`, or disables it: what a kernel does for the driver that arms it. */
  enableMsi(vectors: number): void {
    const at = this.#msi + MSI_CONTROL
    const others = this.#view.getUint16(at, true) & ~(MSI_ENABLE | (0b111 << MSI_ALLOCATED_SHIFT))
    const enabled = MSI_ENABLE | (Math.ceil(Math.log2(vectors)) << MSI_ALLOCATED_SHIFT)
    this.#view.setUint16(at, vectors > 0 ? others | enabled : others, true)
    if (vectors === 0) this.#view.setUint32(this.#msi + MSI_PENDING, 0, true)
  }

  /** Bit n: vector n is masked. */
  get msiMask(): number {
    return this.#view.getUint32(this.#msi + MSI_MASK, true)
  }

  set msiMask(mask: number) {
    this.#view.setUint32(this.#msi + MSI_MASK, mask, true)
  }

  get msiPending(): number {
    return this.#view.getUint32(this.#msi + MSI_PENDING, true)
  }

  set msiPending(pending: number) {
    this.#view.setUint32(this.#msi + MSI_PENDING, pending, true)
  }

  get msixEnabled(): boolean {
    return this.#msix > 0 && (this.#view.getUint16(this.#msix + MSIX_CONTROL, true) & MSIX_ENABLE) !== 0
  }

  set msixEnabled(enabled: boolean) {
    const others = this.#view.getUint16(this.#msix + MSIX_CONTROL, true) & ~(MSIX_ENABLE | MSIX_FUNCTION_MASK)
    this.#view.setUint16(this.#msix + MSIX_CONTROL, enabled ? others | MSIX_ENABLE : others, true)
  }

  get msixFunctionMasked(): boolean {
    return (this.#view.getUint16(this.#msix + MSIX_CONTROL, true) & MSIX_FUNCTION_MASK) !== 0
  }

  #command(bit: number): boolean {
    return (this.#view.getUint16(COMMAND, true) & bit) !== 0
  }

  /** The bit that starts a function-level reset always reads 0. */
  #takeFlr(): boolean {
    if (this.#express === 0) return false
    const at = this.#express + EXPRESS_DEVICE_CONTROL
    const control = this.#view.getUint16(at, true)
    this.#view.setUint16(at, control & ~EXPRESS_START_FLR, true)
    return (control & EXPRESS_START_FLR) !== 0
  }

  #check(offset: number, length: number): void {
    if (offset >= 0 && offset + length <= this.sizeBytes) return
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${length} bytes at 0x${offset.toString(16)} of a configuration space of ${this.sizeBytes} bytes. Stay below its size.`,
    )
  }

  #header({ identity, bars, interrupts }: ModelDefinition<never>): void {
    const view = this.#view
    view.setUint16(0x00, identity.vendor, true)
    view.setUint16(0x02, identity.device, true)
    view.setUint32(REVISION, ((identity.classCode << 8) | (identity.revision ?? 0)) >>> 0, true)
    view.setUint16(SUBSYSTEM_VENDOR, identity.subsystemVendor ?? 0, true)
    view.setUint16(SUBSYSTEM_VENDOR + 2, identity.subsystem ?? 0, true)
    view.setUint8(INTERRUPT_PIN, interrupts.intx ? 1 : 0)
    const command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_PARITY | COMMAND_SERR | COMMAND_INTX_DISABLE
    this.#writable.setUint16(COMMAND, command, true)
    this.#clearable.setUint16(STATUS, STATUS_ERRORS, true)
    this.#writable.setUint8(CACHE_LINE, 0xff)
    this.#writable.setUint8(LATENCY_TIMER, 0xff)
    this.#writable.setUint8(INTERRUPT_LINE, 0xff)
    for (const { index, kind, prefetchable, sizeBytes } of bars) {
      const at = BAR0 + 4 * index
      const type = kind === 'mem64' ? BAR_TYPE_64 : 0
      view.setUint32(at, type | (prefetchable ? BAR_PREFETCHABLE : 0), true)
      if (kind === 'mem64') this.#writable.setBigUint64(at, BigInt.asUintN(64, -BigInt(sizeBytes)), true)
      else this.#writable.setUint32(at, -sizeBytes >>> 0, true)
    }
  }

  #power(at: number): void {
    this.#view.setUint16(at + 2, POWER_VERSION_3, true)
    this.#view.setUint16(at + POWER_CONTROL, POWER_NO_SOFT_RESET, true)
    this.#writable.setUint16(at + POWER_CONTROL, POWER_STATE, true)
  }

  #addMsi(at: number, vectors: number): number {
    const control = (Math.log2(vectors) << 1) | MSI_64_BIT | MSI_MASKABLE
    this.#view.setUint16(at + MSI_CONTROL, control, true)
    this.#writable.setUint16(at + MSI_CONTROL, MSI_ENABLE | (0b111 << MSI_ALLOCATED_SHIFT), true)
    this.#writable.setBigUint64(at + MSI_ADDRESS, 0xffff_ffff_ffff_fffcn, true)
    this.#writable.setUint16(at + MSI_DATA, 0xffff, true)
    this.#writable.setUint32(at + MSI_MASK, 2 ** vectors - 1, true)
    return at
  }

  #addMsix(at: number, msix: NonNullable<ModelDefinition['interrupts']['msix']>): number {
    this.#view.setUint16(at + MSIX_CONTROL, msix.vectors - 1, true)
    this.#view.setUint32(at + MSIX_TABLE, msix.tableOffset | msix.bar, true)
    this.#view.setUint32(at + MSIX_PBA, msix.pbaOffset | msix.bar, true)
    this.#writable.setUint16(at + MSIX_CONTROL, MSIX_FUNCTION_MASK | MSIX_ENABLE, true)
    return at
  }

  #addExpress(at: number): number {
    this.#view.setUint16(at + 2, EXPRESS_VERSION_2_ENDPOINT, true)
    this.#view.setUint32(at + EXPRESS_DEVICE_CAPABILITIES, EXPRESS_FLR_CAPABLE, true)
    this.#writable.setUint16(at + EXPRESS_DEVICE_CONTROL, 0xffff, true)
    return at
  }
}
