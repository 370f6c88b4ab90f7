import { bytes, cmd, doc, u32, uapi } from '@uaccel/uapi'

/** The device's limit for one sum. */
export const MAX_BYTES = 4096

/**
 * What the device does, for its clients. This file is all that they need of the driver: from it come the types, the binary form, every
 * check of what arrives, the C header and the reference (`npx uaccel uapi ./dist/src/uapi.js --markdown`).
 *
 * Numbers are the ABI: from 0x40 on, never changed, never used again.
 */
export const myNpuUapi = uapi({
  name: 'my-npu',
  version: 1,
  commands: {
    sum: cmd(0x40, {
      doc: 'Adds up bytes.',
      in: { data: doc('The bytes.', bytes(MAX_BYTES)) },
      out: { sum: doc('Their sum.', u32) },
    }),
  },
})
