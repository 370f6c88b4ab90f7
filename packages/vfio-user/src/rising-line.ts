import { PciRegion, type Transport } from '@uaccel/core'
import { EventFd, sys } from '@uaccel/sys'

/** The status register and its bit that says that the device asserts INTx, whether that is disabled or not (PCI 3.0, 6.2.3). */
const STATUS = 6
const INTERRUPT_STATUS = 1 << 3

/**
 * INTx of a server that signals its line when it rises and never again while it is up (QEMU's), where the kernel masks it until it was
 * handled and then looks: a device that asserts it anew before the handler is through would wait for ever.
 */
export class RisingLine {
  #trigger: EventFd | undefined

  /** Takes a duplicate of what the server signals. */
  arm(fd: number): void {
    this.disarm()
    this.#trigger = new EventFd(sys, sys.dup(fd))
  }

  disarm(): void {
    this.#trigger?.close()
    this.#trigger = undefined
  }

  /** The interrupt was handled: signals it again where the device still asserts its line. */
  handled(device: Transport): void {
    const status = Buffer.alloc(2)
    device.readBytes(PciRegion.CONFIG, STATUS, status)
    if (status.readUInt16LE() & INTERRUPT_STATUS) this.#trigger?.signal()
  }
}
