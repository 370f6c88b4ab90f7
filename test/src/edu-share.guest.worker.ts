import { parentPort, workerData } from 'node:worker_threads'
import {
  attachDevice,
  poll,
  type SharedBarToken,
  type SharedEventToken,
  type SharedMemoryToken,
  type ShareToken,
} from '@uaccel/core'
import { Bar0 } from '@uaccel/driver-edu/registers'
import { isAccelError } from '@uaccel/uapi'

/** What the thread that opened edu gives to this one. */
export interface EduShare {
  readonly device: ShareToken
  readonly bar: SharedBarToken
  readonly memory: SharedMemoryToken
  readonly irq: SharedEventToken
  /** Rounds of the liveness check, and how many found the device away. */
  readonly words: Int32Array
}

/** On edu's side of its DMA engine (QEMU docs/specs/edu.rst). */
const EDU_BUFFER = 0x40000n
const TRANSFER_BYTES = 256

const { device: token, bar: barToken, memory: memoryToken, irq, words } = workerData as EduShare
const device = attachDevice(token)
const bar = device.bar(barToken).registers(Bar0)
const memory = device.memory(memoryToken)
let interrupts = 0
await device.event(irq).handle(() => {
  bar.IRQ_ACK.write(bar.IRQ_STATUS.read())
  interrupts++
})

async function transfer(source: bigint, destination: bigint, toRam: boolean): Promise<void> {
  bar.DMA_SOURCE.write(source)
  bar.DMA_DESTINATION.write(destination)
  bar.DMA_COUNT.write(BigInt(TRANSFER_BYTES))
  bar.DMA_COMMAND.write({ start: true, toRam })
  await poll(
    () => bar.DMA_COMMAND.get().start,
    (busy) => !busy,
    { timeoutMs: 20_000 },
  )
}

async function work() {
  bar.STATUS.update({ irqOnDone: true })
  bar.FACTORIAL.write(10)
  await poll(
    () => interrupts,
    (count) => count > 0,
    { timeoutMs: 20_000 },
  )
  bar.STATUS.update({ irqOnDone: false })
  for (let i = 0; i < TRANSFER_BYTES; i++) memory.u8[i] = i ^ 0x5a
  await transfer(memory.iova, EDU_BUFFER, false)
  await transfer(EDU_BUFFER, memory.iova + 2048n, true)
  return {
    id: bar.ID.read(),
    factorial: bar.FACTORIAL.read(),
    interrupts,
    copied: Buffer.compare(
      memory.u8.subarray(0, TRANSFER_BYTES),
      memory.u8.subarray(2048, 2048 + TRANSFER_BYTES),
    ),
  }
}

/** Asks the device whether it is alive, over and over, without ever reaching the event loop. */
function live(): string {
  for (let i = 1; ; i = (i + 1) | 0) {
    if (device.changed) {
      device.sync()
      if (device.signal.aborted) return (device.signal.reason as { code: string }).code
    }
    try {
      bar.LIVENESS.write(i >>> 0)
      const right = bar.LIVENESS.read() === ~i >>> 0
      // A view that was taken back reads zeros until this thread has heard of it.
      if (right) Atomics.add(words, 0, 1)
      else if (!device.changed) Atomics.add(words, 2, 1)
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
      Atomics.add(words, 1, 1)
    }
  }
}

parentPort!.postMessage(await work())
parentPort!.postMessage(live())
