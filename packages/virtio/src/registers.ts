import { flag, reg8, reg16, reg32, registers } from '@uaccel/core'

/** The common configuration structure, `offset` bytes from the start of its BAR (virtio 1.2, 4.1.4.3). */
export const commonRegisters = (offset: number) =>
  registers({
    DEVICE_FEATURE_SELECT: reg32(offset + 0x00, 'rw'),
    DEVICE_FEATURE: reg32(offset + 0x04, 'ro'),
    DRIVER_FEATURE_SELECT: reg32(offset + 0x08, 'rw'),
    DRIVER_FEATURE: reg32(offset + 0x0c, 'rw'),
    CONFIG_MSIX_VECTOR: reg16(offset + 0x10, 'rw'),
    NUM_QUEUES: reg16(offset + 0x12, 'ro'),
    DEVICE_STATUS: reg8(offset + 0x14, 'rw'),
    CONFIG_GENERATION: reg8(offset + 0x15, 'ro'),
    QUEUE_SELECT: reg16(offset + 0x16, 'rw'),
    QUEUE_SIZE: reg16(offset + 0x18, 'rw'),
    QUEUE_MSIX_VECTOR: reg16(offset + 0x1a, 'rw'),
    QUEUE_ENABLE: reg16(offset + 0x1c, 'rw'),
    QUEUE_NOTIFY_OFF: reg16(offset + 0x1e, 'ro'),
    // Addresses of 64 bits are written in two halves (4.1.3.1).
    QUEUE_DESC_LO: reg32(offset + 0x20, 'rw'),
    QUEUE_DESC_HI: reg32(offset + 0x24, 'rw'),
    QUEUE_DRIVER_LO: reg32(offset + 0x28, 'rw'),
    QUEUE_DRIVER_HI: reg32(offset + 0x2c, 'rw'),
    QUEUE_DEVICE_LO: reg32(offset + 0x30, 'rw'),
    QUEUE_DEVICE_HI: reg32(offset + 0x34, 'rw'),
  })

/** Bytes of the common configuration structure that every device has. */
export const COMMON_BYTES = 0x38

/** The ISR status (4.1.4.5): reading acknowledges. */
export const isrRegisters = (offset: number) =>
  registers({ ISR: reg8(offset, 'rc', { queue: flag(0), config: flag(1) }) })

/** Bits of DEVICE_STATUS (2.1). */
export const STATUS = {
  acknowledge: 1,
  driver: 2,
  driverOk: 4,
  featuresOk: 8,
  needsReset: 64,
  failed: 128,
} as const

/** In the place of a vector: none (VIRTIO_MSI_NO_VECTOR, 4.1.5.1.2). */
export const NO_VECTOR = 0xffff
