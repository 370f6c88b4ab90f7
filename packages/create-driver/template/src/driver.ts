import { accelDriver, Completion, poll } from '@uaccel/accel'
import { accelError } from '@uaccel/uapi'
import { Bar0, DMA_ADDRESS_BITS, ID_MAGIC } from './registers.js'
import { MAX_BYTES, myNpuUapi } from './uapi.js'

/** Far longer than the device takes for the largest sum. Every wait has a limit: hardware under development hangs. */
const SUM_MS = 5000

/** All ones, in 32 bits. */
const ALL_ONES = 0xffff_ffff

/** The driver imports no transport: the same file runs on a model in this process, behind vfio-user, and on hardware. */
export default accelDriver({
  name: 'my-npu',
  uapi: myNpuUapi,
  ids: [{ bus: 'pci', vendor: 0x1234, device: 0x0acc }],

  // All that comes from `dev` is given back in reverse order when the device goes, and when this throws: nothing to clean up.
  async probe(dev) {
    dev.setDmaAddressBits(DMA_ADDRESS_BITS) // before memory is taken: it is to lie where the device can reach it
    await dev.enable({ busMaster: true }) // decode memory, and allow DMA and interrupts
    const bar = await dev.mapBar(0, Bar0)
    const { magic, revision } = bar.ID.get()
    if (magic !== ID_MAGIC)
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `ID has 0x${magic.toString(16)}, not 0x${ID_MAGIC.toString(16)}`,
      )

    // Memory for both, once: a command is to allocate and map nothing. It has two addresses, `u8` for us and `iova` for the device.
    const input = dev.dma.alloc(MAX_BYTES, { name: 'my-npu input' })

    async function idle(signal?: AbortSignal): Promise<void> {
      const busy = () => bar.STATUS.get().busy
      await poll(busy, (still) => !still, { timeoutMs: SUM_MS, signal, what: 'the end of the sum' })
    }
    await idle() // whoever had the device before may have left it at work
    dev.defer(() => idle()) // runs before `input` is taken from the device, which may still read it

    const irqs = await dev.allocIrqVectors({ min: 1, max: 1, types: ['msix', 'msi'] })
    const ended = new Completion('the interrupt of the sum')
    irqs.handle(0, () => {
      const raw = bar.IRQ_STATUS.read()
      bar.IRQ_STATUS.clear(raw) // exactly what is handled here: more may have come since
      if (bar.IRQ_STATUS.extract(raw, 'ended')) ended.complete()
    })

    return {
      commands: {
        // `data` was checked against the uAPI. Commands run one at a time for a device, so that no other is at these registers.
        async sum({ data }, { signal }) {
          if (data.length === 0) return { sum: 0 }
          input.u8.set(data)
          ended.reinit() // before the doorbell: the interrupt may be faster than what follows
          bar.SOURCE.write(input.iova)
          bar.COUNT.write(data.length)
          bar.START.write(1)
          await ended.wait({ signal, timeoutMs: SUM_MS })
          await idle(signal) // the interrupt may be the late one of a sum that was given up
          if (bar.STATUS.get().failed) throw accelError('ERR_ACCEL_IO', 'the device could not read its input')
          const sum = bar.SUM.read()
          if (sum === ALL_ONES) dev.checkPresent() // what is read where nobody answers: is it still there?
          return { sum }
        },
      },
      // A call was aborted, or ran into its limit, while the device was at work: the next waits until it is idle.
      recover: ({ signal }) => idle(signal),
      // For people and tools: `uaccel attr accel0`. Numbers become metrics, too.
      attributes: {
        revision: { show: () => revision, type: 'integer' },
        busy: { show: () => bar.STATUS.get().busy, type: 'boolean' },
      },
      telemetry: { name: 'my-npu' },
    }
  },
})
