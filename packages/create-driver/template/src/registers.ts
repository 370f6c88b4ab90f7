import { bits, flag, reg32, reg64, registers } from '@uaccel/core'

/**
 * BAR 0, as the datasheet has it: names, offsets, widths, fields, and what may be done with each. The access kind is part of the type,
 * so that writing an `ro` register does not compile.
 */
export const Bar0 = registers({
  ID: reg32(0x00, 'ro', { magic: bits(31, 16), revision: bits(7, 0) }),
  STATUS: reg32(0x04, 'ro', { busy: flag(0), failed: flag(1) }),
  SOURCE: reg64(0x08, 'rw', {}, { doc: 'Bus address of the bytes.' }),
  COUNT: reg32(0x10, 'rw', {}, { doc: 'How many bytes, 1 to 4096.' }),
  START: reg32(0x14, 'wo', {}, { doc: 'Doorbell: any value starts a sum. Not while busy.' }),
  SUM: reg32(0x18, 'ro', {}, { doc: 'The last sum, modulo 2^32.' }),
  IRQ_STATUS: reg32(0x1c, 'w1c', { ended: flag(0) }, { doc: 'Why the device interrupted; a one clears.' }),
})

/** Upper half of ID: this BAR is what the driver takes it for. */
export const ID_MAGIC = 0xacce

/** Bits of an address that the device puts on the bus: it cannot reach memory beyond. */
export const DMA_ADDRESS_BITS = 40
