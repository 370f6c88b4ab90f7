import { type Device, flag, openDevice, reg32, reg64, registers, type Transport } from '@uaccel/core'
import type { DmaRegion } from '@uaccel/memory'
import type { ModelDefinition } from '@uaccel/model'

/** A device that adds one to each byte of 64 that it is pointed to, and says so by an interrupt. */
export const adder: ModelDefinition = {
  identity: { name: 'adder', vendor: 0x1af4, device: 0x10ff, classCode: 0x120000 },
  bars: [{ index: 0, sizeBytes: 4096, kind: 'mem32' }],
  interrupts: { msi: 1 },
  capabilities: { express: true },
  create(context) {
    let [address, count, done] = [0n, 0, false]
    return {
      read(_bar, offset, width) {
        if (offset === 0x00 && width === 8) return address
        if (offset === 0x10 && width === 4) return Number(done)
        return offset === 0x14 && width === 4 ? count : undefined
      },
      write(_bar, offset, width, value) {
        if (offset === 0x00 && width === 8) address = value as bigint
        else if (offset === 0x08 && width === 4) {
          done = false
          context.clock.after(1_000_000, () => {
            const bytes = new Uint8Array(64)
            context.dma.read(address, bytes)
            context.dma.write(
              address,
              bytes.map((byte) => byte + 1),
            )
            done = true
            count++
            context.raise(0)
          })
        } else return false
        return true
      },
      reset() {
        address = 0n
        count = 0
        done = false
      },
    }
  },
}

export const Bar0 = registers({
  ADDRESS: reg64(0x00, 'rw'),
  START: reg32(0x08, 'wo'),
  STATUS: reg32(0x10, 'ro', { done: flag(0) }),
  COUNT: reg32(0x14, 'ro'),
})

/** What a session does with the device, besides the usual. */
export interface Use {
  /** Memory that is mapped before, so that the device's is at another address. */
  readonly before?: number
  readonly byte?: number
  /** What is done with the device at the end. */
  end?(device: Device, memory: DmaRegion): Promise<void> | void
}

/** Has the device add one to 64 bytes, twice; answers the bytes. Releases the device and closes the transport. */
export async function useAdder(
  transport: Transport,
  { before = 0, byte = 7, end }: Use = {},
): Promise<number[]> {
  const device = openDevice(transport)
  try {
    await device.enable({ busMaster: true })
    const bar = await device.mapBar(0, Bar0)
    const irqs = await device.allocIrqVectors({ types: ['msi'] })
    if (before > 0) device.dma.createBuffer(before)
    const memory = device.dma.alloc(4096)
    const answers: number[] = []
    for (let turn = 0; turn < 2; turn++) {
      const fired = new Promise((resolve) => irqs.handle(0, resolve))
      memory.u8.fill(byte + turn, 0, 64)
      bar.ADDRESS.write(memory.iova)
      bar.START.write(1)
      await fired
      if (!bar.STATUS.get().done) throw new Error('it is not done')
      if (bar.ADDRESS.read() !== memory.iova) throw new Error('another address')
      answers.push(...memory.u8.slice(60, 68), bar.COUNT.read())
    }
    await end?.(device, memory)
    return answers
  } finally {
    await device.release().catch(() => {})
    await transport.close()
  }
}
