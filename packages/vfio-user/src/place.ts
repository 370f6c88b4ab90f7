import { PciRegion, type Transport } from '@uaccel/core'
import { INTX_DISABLE } from './interrupt-enable.js'

/** Command register and its memory decode bit; the first BAR; a BAR's kind bits (PCI 3.0, 6.2.2 and 6.2.5.1). */
const COMMAND = 0x04
const COMMAND_MEMORY = 1 << 1
const BAR0 = 0x10
const BAR_IO = 1
const BAR_64 = 4
/** Below 4 GiB and above where machines put their memory. */
const FIRST_ADDRESS = 0xe000_0000
const END_ADDRESS = 0xfe00_0000

/**
 * Places the memory BARs, and switches memory decode on and INTx off until that is armed. The kernel hands a device out so; a server's is
 * as after power-on: servers that emulate the bus (QEMU's) answer no access before, and SPDK's NVMe controller fails when it is to raise
 * an INTx that nobody armed. A BAR too large to place is left to servers that do not.
 */
export function placeBars(device: Transport): void {
  let free = FIRST_ADDRESS
  const word = Buffer.alloc(4)
  for (let index = 0; index < 6; index++) {
    const sizeBytes = device.regions[index]?.sizeBytes ?? 0
    if (sizeBytes === 0) continue
    device.readBytes(PciRegion.CONFIG, BAR0 + 4 * index, word)
    const kind = word.readUInt32LE()
    if (kind & BAR_IO) continue
    const address = Math.ceil(free / sizeBytes) * sizeBytes
    if (address + sizeBytes > END_ADDRESS) continue
    free = address + sizeBytes
    word.writeUInt32LE(address)
    device.writeBytes(PciRegion.CONFIG, BAR0 + 4 * index, word)
    if (kind & BAR_64) {
      word.writeUInt32LE(0)
      device.writeBytes(PciRegion.CONFIG, BAR0 + 4 * index + 4, word)
      index++
    }
  }
  const command = Buffer.alloc(2)
  device.readBytes(PciRegion.CONFIG, COMMAND, command)
  command.writeUInt16LE(command.readUInt16LE() | COMMAND_MEMORY | INTX_DISABLE)
  device.writeBytes(PciRegion.CONFIG, COMMAND, command)
}
