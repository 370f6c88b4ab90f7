import { PciRegion } from '@uaccel/core'
import type { EmulatedFunction } from '@uaccel/model'
import { isAccelError } from '@uaccel/uapi'

/** Command register and its bus master bit (PCI 3.0, 6.2.2). */
const COMMAND = 0x04
const COMMAND_MASTER = 1 << 2

/** Keeps a device from the memory and the interrupts of a client that left, and leaves it as it is otherwise. */
export function bringToRest(device: EmulatedFunction): void {
  for (const type of ['intx', 'msi', 'msix', 'err', 'req'] as const) device.setIrqs(type, 0, [])
  try {
    const command = Buffer.alloc(2)
    device.regionRead(PciRegion.CONFIG, COMMAND, command)
    command.writeUInt16LE(command.readUInt16LE() & ~COMMAND_MASTER)
    device.regionWrite(PciRegion.CONFIG, COMMAND, command)
  } catch (error) {
    // One that vanished masters nothing.
    if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
  }
}
