import { openDevice, reg32, registers } from '@uaccel/core'
import { defineModel, loopback } from '@uaccel/model'
import { isAccelError } from '@uaccel/uapi'
import { startBaseline } from './baseline.js'
import { expect, type Measure, timed } from './measure.js'

/** The top bit is set: such a value is no small integer to V8. */
const VALUE = 0x9234_5678

const Registers = registers({ STATUS: reg32(0x00, 'rw'), CONTROL: reg32(0x40, 'rw') })

/** Registers that are memory, so that a device's part of an access costs nothing. */
const memoryDevice = defineModel({
  identity: { name: 'memory', vendor: 0x1234, device: 0x0001, classCode: 0x120000 },
  bars: [
    { index: 0, sizeBytes: 4096, kind: 'mem32', memory: [{ name: 'registers', offset: 0, sizeBytes: 4096 }] },
  ],
  interrupts: {},
  create: () => ({ read: () => undefined, write: () => false, reset: () => {} }),
})

/** One access to a mapped 32-bit register: through its accessor, and through a bare typed array over the same memory. */
export async function register(measure: Measure): Promise<void> {
  const transport = loopback(memoryDevice)
  const device = openDevice(transport)
  const read = startBaseline('register', ['read'])
  const write = startBaseline('register', ['write'])
  try {
    await device.enable()
    const bar = await device.mapBar(0, Registers)
    const raw = transport.map(0, { offset: 0, sizeBytes: 4096 }).window.u32
    bar.STATUS.write(VALUE)

    const accessorReads = (operations: number) => {
      let sum = 0
      for (let i = 0; i < operations; i++) sum = (sum + bar.STATUS.read()) | 0
      expect(sum, Math.imul(VALUE, operations), 'sum of the reads')
    }
    const accessorWrites = (operations: number) => {
      for (let i = 0; i < operations; i++) bar.CONTROL.write(i)
      expect(bar.CONTROL.read(), operations - 1, 'last value written')
    }
    const rawReads = (operations: number) => {
      let sum = 0
      for (let i = 0; i < operations; i++) sum = (sum + raw[0]) | 0
      expect(sum, Math.imul(VALUE, operations), 'sum of the reads')
    }
    const last = new Uint32Array(new ArrayBuffer(4))
    const keptReads = (operations: number) => {
      let sum = 0
      for (let i = 0; i < operations; i++) {
        const value = raw[0]
        last[0] = value
        sum = (sum + value) | 0
      }
      expect(sum, Math.imul(VALUE, operations), 'sum of the reads')
    }
    const rawWrites = (operations: number) => {
      for (let i = 0; i < operations; i++) raw[16] = i
      expect(raw[16], operations - 1, 'last value written')
    }
    const contests = [
      ['register read', accessorReads, read],
      ['register read, bare array', rawReads, read],
      ['register read, bare array, value kept', keptReads, read],
      ['register write', accessorWrites, write],
      ['register write, bare array', rawWrites, write],
      ['register read, once a mapping was taken back', accessorReads, read],
      ['register write, once a mapping was taken back', accessorWrites, write],
    ] as const
    for (const [at, [name, loop, baseline]] of contests.entries()) {
      if (at === 5) await takeBackAnother()
      await measure({
        rows: [name],
        unit: 'ns',
        operations: 20_000_000,
        typescript: (operations) => timed(operations, loop),
        c: (operations) => baseline.run(operations),
      })
    }
  } finally {
    await Promise.all([read.close(), write.close()])
    await device.release()
    await transport.close()
  }
}

/** Maps a BAR of another device, takes it back, and touches it after that. */
async function takeBackAnother(): Promise<void> {
  const transport = loopback(memoryDevice)
  const device = openDevice(transport)
  await device.enable()
  const { STATUS } = await device.mapBar(0, Registers)
  await device.release()
  for (const touch of [() => STATUS.read(), () => STATUS.write(0)]) {
    try {
      touch()
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    }
  }
  await transport.close()
}
