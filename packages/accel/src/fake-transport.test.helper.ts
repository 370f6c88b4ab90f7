import {
  type IrqInfo,
  type IrqType,
  irqTypes,
  type RegionInfo,
  type ResetKind,
  type Transport,
} from '@uaccel/core'
import type { DmaMapper } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'

const CONFIG_BYTES = 256
const BAR_BYTES = 4096

/** A transport to a device that is nothing but config space and a BAR of plain memory, and counts what is done to it. */
export class FakeTransport implements Transport {
  readonly identity = { kind: 'loopback', address: 'fake', emulated: true } as const
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  resets: ResetKind[] = ['function']
  readonly memory: readonly Buffer[]
  resetCount = 0
  closed = 0
  readonly #listeners = new Set<(reason: AccelError) => void>()
  readonly #requestListeners = new Set<(reason: AccelError) => void>()
  #lost: AccelError | undefined
  #failingResets = 0
  #refusesResets = false

  constructor({ vendor = 0x1234, device = 0x5678, classCode = 0x120000 } = {}) {
    this.regions = Array.from({ length: 9 }, (_, index) => ({
      index,
      sizeBytes: index === 0 ? BAR_BYTES : index === 7 ? CONFIG_BYTES : 0,
      readable: true,
      writable: true,
      mappable: [],
    }))
    this.memory = this.regions.map(({ sizeBytes }) => Buffer.alloc(sizeBytes))
    this.memory[7].writeUInt16LE(vendor, 0)
    this.memory[7].writeUInt16LE(device, 2)
    this.memory[7].writeUIntLE(classCode, 9, 3)
    this.irqs = Object.fromEntries(
      irqTypes.map((type) => [type, { type, count: 0, maskable: false, autoMasked: false }]),
    ) as unknown as Record<IrqType, IrqInfo>
  }

  get dma(): DmaMapper {
    throw accelError('ERR_ACCEL_UNSUPPORTED', 'The fake has no DMA')
  }

  /** Listeners that were not taken back: 0 once nothing holds the transport. */
  get listeners(): number {
    return this.#listeners.size
  }

  vanish(): void {
    this.#lost = accelError('ERR_ACCEL_NO_DEVICE', 'the fake was pulled out')
    for (const listener of [...this.#listeners]) listener(this.#lost)
  }

  /** The next `count` resets leave a dead device. */
  breakReset(count = Number.POSITIVE_INFINITY): void {
    this.#failingResets = count
  }

  /** Resets would hit other devices. */
  refuseResets(): void {
    this.#refusesResets = true
  }

  removeReset(): void {
    this.resets = []
  }

  read(region: number, offset: number, width: 1 | 2 | 4): number {
    return this.#memory(region).readUIntLE(offset, width)
  }
  write(region: number, offset: number, width: 1 | 2 | 4, value: number): void {
    this.#memory(region).writeUIntLE(value, offset, width)
  }
  read64(region: number, offset: number): bigint {
    return this.#memory(region).readBigUInt64LE(offset)
  }
  write64(region: number, offset: number, value: bigint): void {
    this.#memory(region).writeBigUInt64LE(value, offset)
  }
  readBytes(region: number, offset: number, into: Uint8Array): void {
    into.set(this.#memory(region).subarray(offset, offset + into.length))
  }
  writeBytes(region: number, offset: number, from: Uint8Array): void {
    this.#memory(region).set(from, offset)
  }
  map(): never {
    throw accelError('ERR_ACCEL_UNSUPPORTED', 'The fake maps nothing')
  }
  setIrqs(): void {}
  disableIrqs(): void {}
  maskIrq(): void {}
  unmaskIrq(): void {}
  async reset(): Promise<void> {
    if (this.#refusesResets) throw accelError('ERR_ACCEL_BUSY', 'others are on the bus')
    if (this.#failingResets-- > 0) throw accelError('ERR_ACCEL_IO', 'the fake does not reset')
    this.resetCount++
    this.memory[0].fill(0)
  }
  onLost(listener: (reason: AccelError) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
  onRequest(listener: (reason: AccelError) => void): () => void {
    this.#requestListeners.add(listener)
    return () => this.#requestListeners.delete(listener)
  }
  request(): void {
    const reason = accelError('ERR_ACCEL_NO_DEVICE', 'the fake is wanted back')
    for (const listener of [...this.#requestListeners]) listener(reason)
  }
  async close(): Promise<void> {
    this.closed++
  }

  #memory(region: number): Buffer {
    if (this.#lost) throw this.#lost
    if (this.closed > 0) throw accelError('ERR_ACCEL_NO_DEVICE', 'the fake was closed')
    return this.memory[region]
  }
}
