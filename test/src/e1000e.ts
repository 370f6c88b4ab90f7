import { setTimeout as sleep } from 'node:timers/promises'
import { bits, poll, reg32, registers } from '@uaccel/core'
import type { BenchDevice } from '@uaccel/testkit'

/** Interrupt registers of Intel's 82574, which QEMU's e1000e is (82574 GbE Controller Datasheet, 10.2.4). */
const Bar0 = registers({
  STATUS: reg32(0x08, 'ro', { speed: bits(7, 6) }),
  ICR: reg32(0xc0, 'rw', {}, { doc: 'Causes that are pending; ones that are written clear them.' }),
  ICS: reg32(0xc8, 'wo', {}, { doc: 'Sets causes.' }),
  IMS: reg32(0xd0, 'rw', {}, { doc: 'Lets causes interrupt.' }),
  IMC: reg32(0xd8, 'wo', {}, { doc: 'The reverse.' }),
  IVAR: reg32(0xe4, 'rw', {}, { doc: 'Five causes, each with a vector and a valid bit.' }),
})

/** Receive queues 0 and 1, transmit queues 0 and 1, and others: bits 20 to 24 of ICR. */
const FIRST_CAUSE = 20
const CAUSES = 5

/** A device with MSI-X, MSI and INTx, each cause of which can be set by a register. */
export const e1000eBench: BenchDevice = {
  async bringUp(dev, type) {
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Bar0)
    const irqs = await dev.allocIrqVectors({ min: 1, max: CAUSES, types: [type] })
    const cause = (vector: number) => 2 ** (FIRST_CAUSE + vector)
    const vectors = Array.from({ length: irqs.count }, (_, i) => i)
    for (const vector of vectors) irqs.handle(vector, () => bar.ICR.write(cause(vector)))
    const prepare = async () => {
      bar.IMC.write(0xffff_ffff)
      bar.ICR.write(0xffff_ffff)
      // Cause n goes to vector n: 3 bits, and one that says so.
      bar.IVAR.write(vectors.reduce((all, vector) => all | ((8 | vector) << (4 * vector)), 0))
      bar.IMS.write(vectors.reduce((all, vector) => all | cause(vector), 0))
    }
    await prepare()
    // QEMU's throttling timer ends it by an assertion where MSI-X is switched off before that has run out, 128 us after an
    // interrupt (e1000e_intrmgr_on_msix_throttling_timer in hw/net/e1000e_core.c, seen in 7.2).
    const rest = async () => {
      bar.IMC.write(0xffff_ffff)
      await sleep(10)
    }
    dev.defer(rest)
    return {
      irqs,
      vectors,
      async fire(vector) {
        bar.ICS.write(cause(vector))
      },
      load: () => vectors.forEach((vector) => void bar.ICS.write(cause(vector))),
      async works() {
        const ours = vectors.reduce((all, vector) => all | cause(vector), 0)
        const what = 'the end of all causes'
        await poll(
          () => bar.ICR.read() & ours,
          (left) => left === 0,
          { timeoutMs: 5000, what },
        )
        return bar.STATUS.read() !== 0xffff_ffff
      },
      beforeReset: rest,
      afterReset: prepare,
    }
  },
}
