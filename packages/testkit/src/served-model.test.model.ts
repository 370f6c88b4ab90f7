import { defineModel } from '@uaccel/model'

/** For so long it answers nothing, once it was reset. */
const BUSY_MS = 2_000

/** A model that writes something, as an author does who looks for an error in it. */
export const talkative = defineModel({
  identity: { name: 'talkative', vendor: 0x1234, device: 0x7a1c, classCode: 0x120000 },
  bars: [{ index: 0, sizeBytes: 4096, kind: 'mem32' }],
  interrupts: { intx: true },
  create: () => ({
    read: () => 0,
    write: () => true,
    reset() {
      console.error('the model was reset')
      setTimeout(() => {
        for (const end = performance.now() + BUSY_MS; performance.now() < end; );
      })
    },
  }),
})
