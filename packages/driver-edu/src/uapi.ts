import { bytes, cmd, doc, enumeration, range, u8, u32, uapi } from '@uaccel/uapi'

/**
 * Bytes that one transfer moves at most, counted from the start of the device's buffer. One less than the buffer
 * has: QEMU 7.2 ends itself when a transfer reaches the buffer's last byte (`edu_check_range` in hw/misc/edu.c).
 */
export const MAX_TRANSFER_BYTES = 4095

const bufferOffset = doc(
  "First byte, counted from the start of the device's buffer.",
  range(u32, 0, MAX_TRANSFER_BYTES),
)

/** What the edu device does, for clients. Numbers are the ABI: append-only. */
export const eduUapi = uapi({
  name: 'edu',
  version: 1,
  commands: {
    factorial: cmd(0x40, {
      doc: 'n! modulo 2^32, computed by the device.',
      in: { n: doc('The number; from 13 on, n! exceeds 32 bits.', u32) },
      out: { value: doc('n! modulo 2^32.', u32) },
    }),
    echo: cmd(0x41, {
      doc: "Moves data into the device's buffer and back by DMA.",
      in: { data: doc('What goes to the device.', bytes(MAX_TRANSFER_BYTES)) },
      out: { data: doc('What came back.', bytes(MAX_TRANSFER_BYTES)) },
    }),
    identify: cmd(0x42, {
      doc: "The device's version.",
      out: { major: doc('Major version.', u8), minor: doc('Minor version.', u8) },
    }),
    liveness: cmd(0x43, {
      doc: 'Answers the inverse of a value, as the liveness register gives it.',
      in: { value: doc('Any value.', u32) },
      out: { inverse: doc('The value with each bit inverted.', u32) },
    }),
    dmaWrite: cmd(0x44, {
      doc: "Moves data to an offset of the device's buffer by DMA.",
      in: { offset: bufferOffset, data: doc('What goes there.', bytes(MAX_TRANSFER_BYTES)) },
    }),
    dmaRead: cmd(0x45, {
      doc: "Moves data out of the device's buffer by DMA.",
      in: {
        offset: bufferOffset,
        sizeBytes: doc(
          'How many bytes; offset + sizeBytes ends within 4095.',
          range(u32, 0, MAX_TRANSFER_BYTES),
        ),
      },
      out: { data: doc('What was there.', bytes(MAX_TRANSFER_BYTES)) },
    }),
    interrupts: cmd(0x46, {
      doc: 'How interrupts arrive, and how many were received since probe.',
      out: {
        type: doc('The kind in use.', enumeration({ intx: 0, msi: 1, msix: 2 })),
        count: doc('Interrupts since probe, modulo 2^32.', u32),
      },
      concurrent: true,
    }),
  },
})
