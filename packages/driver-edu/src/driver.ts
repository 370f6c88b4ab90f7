import { accelDriver, attribute, Completion, poll } from '@uaccel/accel'
import { accelError } from '@uaccel/uapi'
import { Bar0, DMA_ADDRESS_BITS, DMA_BUFFER, ID_TAG } from './registers.js'
import { eduUapi, MAX_TRANSFER_BYTES } from './uapi.js'

const COMPUTE_MS = 10_000 // QEMU multiplies in a loop: seconds for the largest numbers
const TRANSFER_MS = 5_000 // QEMU starts each one 100 ms late (dma_rw in hw/misc/edu.c)

/** What a device that is not there any more reads as (PCI Local Bus 3.0, 6.1). */
const ALL_ONES = 0xffff_ffff

/** QEMU's educational device (docs/specs/edu.rst). */
export default accelDriver({
  name: 'edu',
  uapi: eduUapi,
  ids: [{ bus: 'pci', vendor: 0x1234, device: 0x11e8 }],

  async probe(dev) {
    dev.setDmaAddressBits(DMA_ADDRESS_BITS)
    await dev.enable({ busMaster: true })
    const bar = await dev.mapBar(0, Bar0)
    const { major, minor, tag } = bar.ID.get()
    if (tag !== ID_TAG) throw accelError('ERR_ACCEL_UNSUPPORTED', `ID ends in ${tag}, not in ${ID_TAG}`)

    /** What a register answered, unless it is what nobody answers. */
    const answered = (value: number) => {
      if (value === ALL_ONES) dev.checkPresent()
      return value
    }

    const memory = dev.dma.alloc(DMA_BUFFER.sizeBytes, { name: 'edu transfer' })
    async function idle(signal?: AbortSignal): Promise<void> {
      const busy = () => {
        const status = answered(bar.STATUS.read())
        return bar.STATUS.extract(status, 'computing') || bar.DMA_COMMAND.get().start
      }
      const what = 'the end of the computation or transfer'
      await poll(busy, (still) => !still, { timeoutMs: COMPUTE_MS, signal, what })
    }
    await idle() // no reset stops what a former user started
    dev.defer(() => idle()) // the memory is the device's until its transfer ends

    const irqs = await dev.allocIrqVectors({ min: 1, max: 1, types: ['msix', 'msi', 'intx'] })
    const computed = new Completion('the factorial interrupt')
    const moved = new Completion('the DMA interrupt')
    irqs.handle(0, () => {
      const raw = bar.IRQ_STATUS.read()
      bar.IRQ_ACK.write(raw) // exactly what is handled here: more may have come since
      if (bar.IRQ_STATUS.extract(raw, 'factorial')) computed.complete()
      if (bar.IRQ_STATUS.extract(raw, 'dma')) moved.complete()
    })
    bar.STATUS.update({ irqOnDone: true })
    dev.defer(() => bar.STATUS.update({ irqOnDone: false }))

    async function transfer(
      toRam: boolean,
      offset: number,
      sizeBytes: number,
      signal: AbortSignal,
      iova: bigint = memory.iova,
    ) {
      const end = offset + sizeBytes
      if (end > MAX_TRANSFER_BYTES) throw accelError('ERR_ACCEL_OUT_OF_RANGE', `ends at ${end}, not by 4095`)
      if (sizeBytes === 0) return
      const ends = [iova, DMA_BUFFER.address + BigInt(offset)]
      if (toRam) ends.reverse()
      moved.reinit()
      bar.DMA_SOURCE.write(ends[0])
      bar.DMA_DESTINATION.write(ends[1])
      bar.DMA_COUNT.write(BigInt(sizeBytes))
      bar.DMA_COMMAND.write({ start: true, toRam, irqOnDone: true })
      await moved.wait({ signal, timeoutMs: TRANSFER_MS })
      await idle(signal) // the interrupt may be the late one of a transfer that was given up
    }
    function write(offset: number, data: Uint8Array, signal: AbortSignal) {
      memory.u8.set(data)
      return transfer(false, offset, data.length, signal)
    }
    async function read(offset: number, sizeBytes: number, signal: AbortSignal) {
      memory.u8.fill(0) // what is answered came from the device
      await transfer(true, offset, sizeBytes, signal)
      return { data: memory.u8.slice(0, sizeBytes) }
    }

    const livenessWord = attribute({
      show: () => answered(bar.LIVENESS.read()),
      store(value) {
        const word = Number(value)
        if (!Number.isInteger(word) || word < 0 || word > ALL_ONES)
          throw accelError('ERR_ACCEL_OUT_OF_RANGE', `liveness wants 0 to 0xffffffff, found ${value}`)
        bar.LIVENESS.write(word)
      },
      type: 'integer',
      scope: 'debug',
    })

    return {
      telemetry: {
        name: 'QEMU edu',
        limits: () => [
          { name: 'transferBytes', value: MAX_TRANSFER_BYTES, unit: 'bytes' },
          { name: 'dmaAddressBits', value: DMA_ADDRESS_BITS, unit: 'bits' },
        ],
        memoryRegions: () => [{ name: 'buffer', sizeBytes: DMA_BUFFER.sizeBytes }],
      },
      attributes: {
        version: { show: () => `${major}.${minor}` },
        computing: { show: () => bar.STATUS.get().computing, type: 'boolean' },
        transferring: { show: () => bar.DMA_COMMAND.get().start, type: 'boolean' },
        liveness: livenessWord,
      },
      commands: {
        identify: () => ({ major, minor }),
        liveness({ value }) {
          bar.LIVENESS.write(value)
          livenessWord.changed()
          return { inverse: answered(bar.LIVENESS.read()) }
        },
        async factorial({ n }, { signal }) {
          computed.reinit()
          bar.FACTORIAL.write(n)
          await computed.wait({ signal, timeoutMs: COMPUTE_MS })
          await idle(signal) // as in transfer
          return { value: answered(bar.FACTORIAL.read()) }
        },
        async echo({ data }, { signal }) {
          await write(0, data, signal)
          const echoed = await read(0, data.length, signal)
          // The device does not tell of a transfer that failed.
          if (Buffer.compare(data, echoed.data) !== 0)
            throw accelError('ERR_ACCEL_IO', 'other bytes came back than were sent: a transfer failed')
          return echoed
        },
        dmaWrite: ({ offset, data }, { signal }) => write(offset, data, signal),
        dmaRead: ({ offset, sizeBytes }, { signal }) => read(offset, sizeBytes, signal),
        interrupts: () => ({ type: irqs.type, count: irqs.counts(0).fired }),
      },
      dmaTest: {
        maxBytes: MAX_TRANSFER_BYTES,
        async copy(from, to, sizeBytes, { signal }) {
          await transfer(false, 0, sizeBytes, signal, from)
          await transfer(true, 0, sizeBytes, signal, to)
        },
      },
      recover: ({ signal }) => idle(signal),
    }
  },
})
