import { readlinkSync } from 'node:fs'
import type { IrqInfo, IrqType } from '@uaccel/core'
import { EventFd, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import type { ConfigSpace } from './config-space.js'
import type { Faults } from './faults.js'
import type { Width } from './registers.js'
import type { ModelInterrupts } from './types.js'

// A vector's entry in the MSI-X table: PCI 3.0, 6.8.2.7 to 6.8.2.9.
const ENTRY_BYTES = 16
const ENTRY_CONTROL = 12
const ENTRY_MASKED = 1

/** What interrupts ask of their function. */
export interface InterruptHost {
  readonly config: ConfigSpace
  readonly faults: Faults
  /** A message is a write to memory: answers false, and keeps a violation where that is the driver's fault, while the function may not master the bus. */
  maySend(vector: number): boolean
}

/**
 * The interrupts of a function. Arming a vector with an eventfd does what a kernel does for a VFIO client: it
 * enables the capability and unmasks the vector, so message addresses are of no interest here. There is one mask
 * for each vector: the bit in the MSI-X table or the MSI mask register, which SET_IRQS masks and unmasks too.
 */
export class Interrupts {
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly #host: InterruptHost
  readonly #table: DataView
  readonly #pending: DataView
  readonly #msix: ModelInterrupts['msix']
  readonly #triggers: (EventFd | undefined)[] = []
  /** What is told of the device besides its own interrupts, as the kernel does: no reset takes it, and it is armed beside any kind. */
  readonly #notices: { err?: EventFd | undefined; req?: EventFd | undefined } = {}
  #armed: IrqType | undefined
  #line = false
  /** INTx is masked when it fires, until the driver has acknowledged the device and unmasks it. */
  #lineMasked = false

  constructor({ intx = false, msi = 0, msix }: ModelInterrupts, host: InterruptHost) {
    this.#host = host
    const info = (type: IrqType, count: number, autoMasked = false, maskable = count > 0): IrqInfo => ({
      type,
      count,
      maskable,
      autoMasked,
    })
    this.#msix = msix
    this.irqs = {
      intx: info('intx', intx ? 1 : 0, intx),
      msi: info('msi', msi),
      msix: info('msix', msix?.vectors ?? 0),
      err: info('err', 1, false, false),
      req: info('req', 1, false, false),
    }
    this.#table = new DataView(new ArrayBuffer(this.irqs.msix.count * ENTRY_BYTES))
    this.#pending = new DataView(new ArrayBuffer(Math.ceil(this.irqs.msix.count / 64) * 8))
    this.#maskTable()
  }

  get mode(): 'intx' | 'msi' | 'msix' {
    if (this.#host.config.msixEnabled) return 'msix'
    return this.#host.config.msiEnabled ? 'msi' : 'intx'
  }

  /** Fires a vector of the kind that is enabled, or keeps it pending while masked. */
  raise(vector: number): void {
    const { mode } = this
    if (mode === 'intx') return
    const { count } = this.irqs[mode]
    if (!(vector >= 0 && vector < count)) {
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `The model raised vector ${vector} of ${count}.`)
    }
    if (mode === 'msix') {
      if (this.#host.config.msixFunctionMasked || this.#isMasked(vector)) this.#setPending(vector, true)
      else this.#send(vector)
      return
    }
    // Granted fewer than asked, a function leaves out high bits of the message's data (PCI 3.0, 6.8.3.4).
    const granted = vector % this.#host.config.msiAllocated
    if (this.#host.config.msiMask & (1 << granted)) this.#host.config.msiPending |= 1 << granted
    else this.#send(granted)
  }

  setLine(asserted: boolean): void {
    this.#line = asserted
    this.#host.config.intxStatus = asserted
    this.#fireLine()
  }

  /** Fires whatever is armed, for no reason. */
  fire(vector: number): void {
    if (this.#armed === 'intx') this.#lineMasked = true
    this.#triggers[vector]?.signal()
  }

  /** Signals an armed vector in the device's stead, as a kernel does when asked to: nothing of the device changes. */
  trigger(type: IrqType, vector: number): void {
    const trigger = this.#armed === type ? this.#triggers[vector] : undefined
    if (trigger === undefined)
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${type} vector ${vector} is not armed.`)
    trigger.signal()
  }

  /** Fires the error or the request interrupt; false where it is not armed. */
  notify(type: 'err' | 'req'): boolean {
    this.#notices[type]?.signal()
    return this.#notices[type] !== undefined
  }

  /** Arms vectors from `start` on, or disarms the kind with an empty list. Descriptors are duplicated: the caller's stay its own. */
  arm(type: IrqType, start: number, fds: readonly number[]): void {
    const { count } = this.irqs[type]
    if (!(start >= 0) || start + fds.length > count) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${type} vectors ${start} to ${start + fds.length - 1} were to be armed; the device has ${count}.`,
        { details: { available: count } },
      )
    }
    if (type === 'err' || type === 'req') {
      for (const fd of fds) if (fd >= 0) requireEventFd(fd)
      const [notice] = adopt(fds)
      this.#notices[type]?.close()
      this.#notices[type] = notice
      return
    }
    if (fds.length === 0) {
      if (this.#armed === type) this.disarm()
      return
    }
    if (this.#armed !== undefined && this.#armed !== type) {
      throw accelError('ERR_ACCEL_BUSY', `${this.#armed} is armed. Disable it before arming ${type}.`)
    }
    for (const fd of fds) if (fd >= 0) requireEventFd(fd)
    const triggers = adopt(fds)
    this.#armed = type
    triggers.forEach((trigger, i) => {
      this.#triggers[start + i]?.close()
      this.#triggers[start + i] = trigger
    })
    if (type === 'msi') this.#host.config.enableMsi(this.#triggers.length)
    if (type === 'msix') this.#host.config.msixEnabled = true
    triggers.forEach((trigger, i) => {
      this.#setMask(type, start + i, trigger === undefined)
    })
    this.unmasked()
  }

  /** Takes all vectors back, and disables the capability as a kernel would. */
  disarm(): void {
    for (const trigger of this.#triggers.splice(0)) trigger?.close()
    const { config } = this.#host
    if (this.#armed === 'msi') config.enableMsi(0)
    if (this.#armed === 'msix') {
      config.msixEnabled = false
      this.#maskTable()
    }
    this.#armed = undefined
    this.#lineMasked = false
  }

  mask(type: IrqType, vector: number, masked: boolean): void {
    const { count, maskable } = this.irqs[type]
    if (count > 0 && !maskable)
      throw accelError('ERR_ACCEL_UNSUPPORTED', `The ${type} interrupt has no mask.`)
    if (!(vector >= 0 && vector < count)) {
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${type} vector ${vector} of ${count}.`)
    }
    this.#setMask(type, vector, masked)
    this.unmasked()
  }

  /** Fires what was pending and no longer is held back. To be called when a mask may have changed. */
  unmasked(): void {
    const { config } = this.#host
    this.#fireLine()
    if (config.msiEnabled) {
      const due = config.msiPending & ~config.msiMask
      if (due !== 0) config.msiPending &= ~due
      for (let vector = 0; vector < this.irqs.msi.count; vector++) if (due & (1 << vector)) this.#send(vector)
    }
    if (!config.msixEnabled || config.msixFunctionMasked) return
    for (let vector = 0; vector < this.irqs.msix.count; vector++) {
      if (!this.#isPending(vector) || this.#isMasked(vector)) continue
      this.#setPending(vector, false)
      this.#send(vector)
    }
  }

  /** A read of the MSI-X table or of the pending bits: aligned, of 4 or 8 bytes. Undefined elsewhere. */
  readBar(bar: number, offset: number, width: Width): number | bigint | undefined {
    const msix = this.#msix
    if (msix?.bar !== bar) return undefined
    const inTable = offset - msix.tableOffset
    if (inTable >= 0 && inTable < this.#table.byteLength) return readAligned(this.#table, inTable, width)
    const inPending = offset - msix.pbaOffset
    if (inPending < 0 || inPending >= this.#pending.byteLength) return undefined
    return readAligned(this.#pending, inPending, width)
  }

  /** A write to the MSI-X table. False elsewhere: the pending bits are only read. */
  writeBar(bar: number, offset: number, width: Width, value: number | bigint): boolean {
    const msix = this.#msix
    if (msix?.bar !== bar) return false
    const inTable = offset - msix.tableOffset
    if (inTable < 0 || inTable >= this.#table.byteLength) return false
    if (width === 8 && inTable % 8 === 0) this.#table.setBigUint64(inTable, BigInt(value), true)
    else if (width === 4 && inTable % 4 === 0) this.#table.setUint32(inTable, Number(value), true)
    else return false
    this.unmasked()
    return true
  }

  close(): void {
    this.disarm()
    for (const type of ['err', 'req'] as const) this.arm(type, 0, [])
  }

  /**
   * Back to power-on, after the config space. Eventfds are on the other side of the bus, and a kernel enables again what it had
   * armed (pci_restore_state of drivers/pci/pci.c): a function-level reset that a guest asks for takes none.
   */
  reset(): void {
    const { config } = this.#host
    this.#line = false
    this.#lineMasked = false
    config.intxStatus = false
    new Uint8Array(this.#pending.buffer).fill(0)
    if (this.#armed === 'msi') config.enableMsi(this.#triggers.length)
    if (this.#armed === 'msix') config.msixEnabled = true
    else {
      new Uint8Array(this.#table.buffer).fill(0)
      this.#maskTable()
    }
  }

  #setMask(type: IrqType, vector: number, masked: boolean): void {
    if (type === 'intx') this.#lineMasked = masked
    if (type === 'msi') {
      const { config } = this.#host
      config.msiMask = masked ? config.msiMask | (1 << vector) : config.msiMask & ~(1 << vector)
    }
    if (type === 'msix') {
      const at = vector * ENTRY_BYTES + ENTRY_CONTROL
      const others = this.#table.getUint32(at, true) & ~ENTRY_MASKED
      this.#table.setUint32(at, masked ? others | ENTRY_MASKED : others, true)
    }
  }

  #fireLine(): void {
    if (!this.#line || this.#lineMasked || this.#armed !== 'intx') return
    if (this.#host.config.intxDisabled || this.mode !== 'intx') return
    this.#lineMasked = true
    if (!this.#host.faults.takeLostInterrupt()) this.#triggers[0]?.signal()
  }

  #send(vector: number): void {
    if (!this.#host.maySend(vector) || this.#host.faults.takeLostInterrupt()) return
    this.#triggers[vector]?.signal()
  }

  #isMasked(vector: number): boolean {
    return (this.#table.getUint8(vector * ENTRY_BYTES + ENTRY_CONTROL) & ENTRY_MASKED) !== 0
  }

  #isPending(vector: number): boolean {
    return (this.#pending.getUint8(vector >> 3) & (1 << (vector & 7))) !== 0
  }

  #setPending(vector: number, pending: boolean): void {
    const bits = this.#pending.getUint8(vector >> 3)
    const bit = 1 << (vector & 7)
    this.#pending.setUint8(vector >> 3, pending ? bits | bit : bits & ~bit)
  }

  /** After reset each vector is masked and none is pending. */
  #maskTable(): void {
    for (let vector = 0; vector < this.irqs.msix.count; vector++) {
      this.#table.setUint32(vector * ENTRY_BYTES + ENTRY_CONTROL, ENTRY_MASKED, true)
      this.#setPending(vector, false)
    }
  }
}

function readAligned(bytes: DataView, offset: number, width: Width): number | bigint | undefined {
  if (width === 8 && offset % 8 === 0) return bytes.getBigUint64(offset, true)
  return width === 4 && offset % 4 === 0 ? bytes.getUint32(offset, true) : undefined
}

/** An eventfd of our own for each descriptor that is one; all or none. */
function adopt(fds: readonly number[]): (EventFd | undefined)[] {
  const adopted: (EventFd | undefined)[] = []
  try {
    for (const fd of fds) adopted.push(fd < 0 ? undefined : new EventFd(sys, sys.dup(fd)))
    return adopted
  } catch (error) {
    for (const event of adopted) event?.close()
    throw error
  }
}

/** A descriptor may come from another process: signalling something that is no eventfd could fail or block. */
function requireEventFd(fd: number): void {
  let target = 'not open'
  try {
    target = readlinkSync(`/proc/self/fd/${fd}`)
  } catch {}
  if (target === 'anon_inode:[eventfd]') return
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `An interrupt takes an eventfd; descriptor ${fd} is ${target}.`,
  )
}
