import {
  attachDevice,
  type EventLine,
  type IrqCounts,
  LeaseHolder,
  type Mmio,
  type SharedBarToken,
  type SharedDevice,
  type SharedEventToken,
} from '@uaccel/core'
import { type AccelError, accelError } from '@uaccel/uapi'
import { ContextMemory, type HostChunk, type MemorySource } from './buffers.js'
import { type ContextHost, NpuContext } from './context.js'
import type { NpuContextToken } from './lease.js'
import { NpuQueue } from './queue.js'
import { NpuRegisters } from './registers.js'

/** The side of a lease in the worker: the thread that opened the NPU does what needs its registers. */
class LeaseHost implements ContextHost {
  readonly interrupts: boolean
  readonly mapped = true
  readonly lease: LeaseHolder
  readonly #device: SharedDevice
  readonly #heartbeat: Int32Array
  line: EventLine | undefined

  constructor(device: SharedDevice, { irq, heartbeat }: NpuContextToken) {
    this.#device = device
    this.lease = new LeaseHolder(device)
    this.interrupts = irq !== undefined
    this.#heartbeat = heartbeat
  }

  get changed(): boolean {
    return this.#device.changed
  }
  sync(): void {
    this.#device.sync()
  }
  /** The other thread looks, and says so: `sync` brings it. */
  diagnose(): undefined {}
  irqCounts(): IrqCounts | undefined {
    return this.line?.counts
  }
  heartbeat(): number {
    return this.#heartbeat[0]
  }
  broke(error: AccelError): void {
    this.lease.broke(error)
  }
  /** Resolves when the queue is off and everything was let go. */
  close(): Promise<void> {
    return this.lease.close()
  }
}

/**
 * Opens the context that `Npu.shareContext` made for this worker thread, once. Jobs go between this thread and the device alone. The context ends
 * with the device (`ERR_ACCEL_NO_DEVICE`) or its lease (`ERR_ACCEL_CLOSED`); after a reset it goes on, as one of the other thread
 * does. Its memory does not grow: `memoryBytes` of `shareContext`.
 */
export async function attachNpuContext(token: NpuContextToken): Promise<NpuContext> {
  const device = attachDevice(token.device)
  const host = new LeaseHost(device, token)
  const queue = new NpuQueue(token.index, token.entriesLog2, {
    words: device.memory(token.rings).i32,
    doorbells: device.bar(token.doorbells).memory(),
    page: 0,
    wake: waker(device, token.index, token.wake),
    takenBack: () => device.takenBack,
  })
  const memory = new ContextMemory(
    new SharedSource(device, token),
    () => context.inFlight > 0 || context.failure !== undefined,
  )
  const context: NpuContext = new NpuContext(queue, memory, host)
  host.lease.serve({
    fail(error) {
      if (error.code === 'ERR_ACCEL_CLOSED' && !device.signal.aborted) context.poll() // what the stop of the queue has answered
      context.fail(error)
    },
    revive: () => context.revive(),
  })
  if (token.irq !== undefined) {
    const line = device.event(token.irq)
    host.line = line
    await line.handle(() => context.poll())
  }
  return context
}

function waker(device: SharedDevice, index: number, token: SharedBarToken | SharedEventToken): () => void {
  if (token.kind === 'event') {
    const line = device.event(token)
    return () => line.signal()
  }
  const { WAKE } = device.bar(token).registers(NpuRegisters).QUEUE[index]
  return () => WAKE.write(1)
}

/** The memory that came with the lease, in one piece. */
class SharedSource implements MemorySource {
  readonly card
  readonly #device: SharedDevice
  #left: HostChunk | undefined

  constructor(device: SharedDevice, { memory, card }: NpuContextToken) {
    this.#device = device
    this.#left = device.memory(memory)
    if (card === undefined) return
    const mmio: Mmio = device.bar(card.bar).memory()
    this.card = { base: card.base, sizeBytes: mmio.sizeBytes, memory: mmio, offset: 0 }
  }

  overtaken(): boolean {
    if (!this.#device.changed) return false
    this.#device.sync()
    return true
  }

  grow(wantedBytes: number): HostChunk {
    const chunk = this.#left
    if (chunk === undefined || wantedBytes > chunk.sizeBytes) {
      throw accelError(
        'ERR_ACCEL_NO_MEMORY',
        `${wantedBytes} bytes are not free in the memory of an NPU context in a worker thread, which does not grow: see memoryBytes of shareContext`,
      )
    }
    this.#left = undefined
    return chunk
  }
}
