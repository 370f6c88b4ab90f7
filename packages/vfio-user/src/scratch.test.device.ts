import { defineModel, type ModelContext, registerBank } from '@uaccel/model'

/**
 * A device that is all transport: a scratch register, mappable memory, and a copier that moves host memory and raises an
 * interrupt. BAR0: 0x00 ID (ro), 0x04 SCRATCH, 0x08 COUNT (bytes), 0x0c GO (wo), 0x10 SOURCE, 0x18 TARGET, 0x20 WIDE.
 */
export const scratchModel = defineModel({
  identity: { name: 'scratch', vendor: 0x1234, device: 0x5c7a, revision: 3, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32' },
    {
      index: 2,
      sizeBytes: 0x4000,
      kind: 'mem64',
      prefetchable: true,
      memory: [{ name: 'card', offset: 0x1000, sizeBytes: 0x2000 }],
    },
    { index: 4, sizeBytes: 4096, kind: 'mem32' },
  ],
  interrupts: { intx: true, msi: 1, msix: { vectors: 4, bar: 4, tableOffset: 0, pbaOffset: 0x800 } },
  create(context: ModelContext) {
    const bank = registerBank([
      { name: 'ID', offset: 0x00, width: 4, access: 'ro', reset: 0x5c7a7c4 },
      { name: 'SCRATCH', offset: 0x04, width: 4, access: 'rw' },
      { name: 'COUNT', offset: 0x08, width: 4, access: 'rw' },
      {
        name: 'GO',
        offset: 0x0c,
        width: 4,
        access: 'wo',
        write: (vector) => context.clock.after(0, () => copy(vector)),
      },
      { name: 'SOURCE', offset: 0x10, width: 8, access: 'rw' },
      { name: 'TARGET', offset: 0x18, width: 8, access: 'rw' },
      { name: 'BYTE', offset: 0x28, width: 1, access: 'rw' },
      { name: 'HALF', offset: 0x2a, width: 2, access: 'rw' },
      { name: 'FAULTS', offset: 0x30, width: 4, access: 'rc' },
    ] as const)
    const copy = (vector: number) => {
      const bytes = new Uint8Array(bank.get('COUNT'))
      try {
        context.dma.read(bank.get64('SOURCE'), bytes)
        context.dma.write(bank.get64('TARGET'), bytes)
      } catch {
        bank.set('FAULTS', bank.get('FAULTS') + 1)
      }
      context.raise(vector)
    }
    return {
      read: (bar, offset, width) => (bar === 0 ? bank.read(offset, width) : undefined),
      write: (bar, offset, width, value) => bar === 0 && bank.write(offset, width, value),
      reset: () => bank.reset(),
    }
  },
})
