import { bits, flag, reg32, reg64, registers } from '@uaccel/core'

/** BAR 0 of QEMU's edu device (QEMU docs/specs/edu.rst, "MMIO area spec"). */
export const Bar0 = registers({
  ID: reg32(0x00, 'ro', { major: bits(31, 24), minor: bits(23, 16), tag: bits(7, 0) }),
  LIVENESS: reg32(0x04, 'rw', {}, { doc: 'Reads as the inverse of what was written.' }),
  FACTORIAL: reg32(
    0x08,
    'rw',
    {},
    { doc: 'A number, then its factorial modulo 2^32. Ignored while computing.' },
  ),
  STATUS: reg32(0x20, 'rw', { computing: flag(0), irqOnDone: flag(7) }),
  IRQ_STATUS: reg32(0x24, 'ro', { factorial: flag(0), dma: flag(8) }),
  IRQ_RAISE: reg32(0x60, 'wo', {}, { doc: 'Sets bits of IRQ_STATUS, and with them the interrupt.' }),
  IRQ_ACK: reg32(0x64, 'wo', {}, { doc: 'Clears bits of IRQ_STATUS.' }),
  DMA_SOURCE: reg64(0x80, 'rw'),
  DMA_DESTINATION: reg64(0x88, 'rw'),
  DMA_COUNT: reg64(0x90, 'rw', {}, { doc: 'Bytes.' }),
  DMA_COMMAND: reg64(0x98, 'rw', { start: flag(0), toRam: flag(1), irqOnDone: flag(2) }),
})

/** Low byte of ID. */
export const ID_TAG = 0xed

/** Where the device sees its own buffer, and its size (QEMU docs/specs/edu.rst, "DMA controller"). */
export const DMA_BUFFER = { address: 0x40000n, sizeBytes: 4096 } as const

/** Bits of an address that the device puts on the bus: its `dma_mask` (QEMU docs/specs/edu.rst, "Command line switches"). */
export const DMA_ADDRESS_BITS = 28
