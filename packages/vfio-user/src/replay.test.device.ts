import { defineModel } from '@uaccel/model'

/**
 * A device of the shape that the recorded sessions' devices have (fixtures/README.md): registers that take any access, two
 * mappable areas in BAR2, four MSI-X vectors.
 */
export const replayModel = defineModel({
  identity: { name: 'replay', vendor: 0x1234, device: 0x4e91, classCode: 0x120000 },
  capabilities: { express: true },
  bars: [
    { index: 0, sizeBytes: 0x1000, kind: 'mem32' },
    {
      index: 2,
      sizeBytes: 0x4000,
      kind: 'mem32',
      memory: [
        { name: 'first', offset: 0x1000, sizeBytes: 0x1000 },
        { name: 'second', offset: 0x3000, sizeBytes: 0x1000 },
      ],
    },
  ],
  interrupts: { intx: true, msix: { vectors: 4, bar: 2, tableOffset: 0, pbaOffset: 0x800 } },
  create: () => ({ read: (_, __, width) => (width === 8 ? 0n : 0), write: () => true, reset: () => {} }),
})
