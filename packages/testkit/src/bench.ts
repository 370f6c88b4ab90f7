import { type Device, type IrqVectors, poll, type VectorType } from '@uaccel/core'
import { Bar0, DMA_ADDRESS_BITS } from '@uaccel/driver-edu/registers'

/** A device under test that was brought up, without the subsystem: what the suites of interrupts and resets ask of it. */
export interface Bench {
  readonly irqs: IrqVectors
  /** The vectors that {@link fire} takes. */
  readonly vectors: readonly number[]
  /** Has the device fire a vector once. It may still be on its way when this resolves. */
  fire(vector: number): Promise<void>
  /** Begins work that goes on for a while, and that a reset may cut short. */
  load(): void
  /** Does some work and answers whether its result was right. */
  works(): Promise<boolean>
  beforeReset?(): Promise<void>
  afterReset?(): Promise<void>
}

/** How a kind of device is brought up for the suites. */
export interface BenchDevice {
  /** Brings the device up with all vectors of that kind that it can use. */
  bringUp(dev: Device, type: VectorType): Promise<Bench>
}

/** edu: QEMU's own, or a model (QEMU docs/specs/edu.rst). */
export const eduBench: BenchDevice = {
  async bringUp(dev, type) {
    dev.setDmaAddressBits(DMA_ADDRESS_BITS)
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Bar0)
    const busy = () => bar.STATUS.get().computing || bar.DMA_COMMAND.get().start
    // QEMU's edu has no reset of its own: it goes on with what was begun.
    const idle = () =>
      poll(busy, (still) => !still, { timeoutMs: 20_000, what: 'the end of the computation' })
    const rest = async () => {
      await idle()
      bar.IRQ_ACK.write(bar.IRQ_STATUS.read())
    }
    await rest()
    const irqs = await dev.allocIrqVectors({ types: [type] })
    irqs.handle(0, () => bar.IRQ_ACK.write(bar.IRQ_STATUS.read()))
    dev.defer(rest)
    return {
      irqs,
      vectors: [0],
      async fire() {
        bar.IRQ_RAISE.write(1)
      },
      load() {
        bar.STATUS.update({ irqOnDone: true })
        if (!busy()) bar.FACTORIAL.write(2 ** 25)
      },
      async works() {
        await idle()
        bar.STATUS.update({ irqOnDone: false })
        bar.FACTORIAL.write(10)
        await idle()
        return bar.FACTORIAL.read() === 3_628_800
      },
      afterReset: rest,
    }
  },
}
