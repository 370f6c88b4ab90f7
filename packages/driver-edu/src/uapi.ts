import { bytes, cmd, enumeration, range, u8, u32, uapi } from '@uaccel/uapi'

/**
 * Bytes that one transfer moves at most, counted from the start of the device's buffer. One less than the buffer
 * has: QEMU 7.2 ends itself when a transfer reaches the buffer's last byte (`edu_check_range` in hw/misc/edu.c).
 */
export const MAX_TRANSFER_BYTES = 4095

/** What the edu device does, for clients. Numbers are the ABI: append-only. */
export const eduUapi = uapi({
  name: 'edu',
  version: 1,
  commands: {
    factorial: cmd(0x40, {
      doc: 'n! modulo 2^32, computed by the device.',
      in: { n: u32 },
      out: { value: u32 },
    }),
    echo: cmd(0x41, {
      doc: "Moves data into the device's buffer and back by DMA.",
      in: { data: bytes(MAX_TRANSFER_BYTES) },
      out: { data: bytes(MAX_TRANSFER_BYTES) },
    }),
    identify: cmd(0x42, {
      doc: "The device's version.",
      out: { major: u8, minor: u8 },
    }),
    liveness: cmd(0x43, {
      doc: 'Answers the inverse of a value, as the liveness register gives it.',
      in: { value: u32 },
      out: { inverse: u32 },
    }),
    dmaWrite: cmd(0x44, {
      doc: "Moves data to an offset of the device's buffer by DMA.",
      in: { offset: range(u32, 0, MAX_TRANSFER_BYTES), data: bytes(MAX_TRANSFER_BYTES) },
    }),
    dmaRead: cmd(0x45, {
      doc: "Moves data out of the device's buffer by DMA.",
      in: { offset: range(u32, 0, MAX_TRANSFER_BYTES), sizeBytes: range(u32, 0, MAX_TRANSFER_BYTES) },
      out: { data: bytes(MAX_TRANSFER_BYTES) },
    }),
    interrupts: cmd(0x46, {
      doc: 'How interrupts arrive, and how many were received since probe.',
      out: { type: enumeration({ intx: 0, msi: 1, msix: 2 }), count: u32 },
      concurrent: true,
    }),
  },
})
