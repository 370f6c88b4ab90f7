import type { DmaAccess, Iova } from '@uaccel/memory'
import type { AccelError } from '@uaccel/uapi'
import type { RegisterMap } from './registers.js'
import type { AccessWidth } from './transport.js'

/**
 * Told of what happens between a device and its driver, as it happens, in the thread that opened the device. Where nothing follows a
 * device, nothing is looked at: see docs/design/0024-tracing.md. What it throws reaches whoever touched the device.
 */
export interface DeviceTap {
  /** The names of registers of a region; those of maps that were given before come first. */
  named(region: number, map: RegisterMap): void
  /** A read of one register or word. */
  read(region: number, offset: number, width: AccessWidth | 8, value: number | bigint): void
  /** A write, before the device has it. */
  write(region: number, offset: number, width: AccessWidth | 8, value: number | bigint): void
  /** Many bytes were copied out of the device's memory, or into it. */
  copied(to: 'host' | 'device', region: number, offset: number, sizeBytes: number): void
  /** A vector fired so often since it last did; before its handler runs. */
  irq(vector: number, count: number): void
  /** The device reaches memory from now on; what it reached before comes first. */
  dmaMapped(iova: Iova, sizeBytes: number, access: DmaAccess): void
  dmaUnmapped(iova: Iova, sizeBytes: number): void
  /** A queue of the driver's took a job or command. `id` is unique among those of the queue that are under way. */
  queued(queue: number, id: number): void
  /** The device was told of it. */
  started(queue: number, id: number): void
  /** It ended; with an error where it failed. */
  completed(queue: number, id: number, error: AccelError | undefined): void
}
