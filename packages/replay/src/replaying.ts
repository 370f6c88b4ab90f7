import {
  type AccessWidth,
  type IrqType,
  type PlatformName,
  type RegisterMap,
  type ResetKind,
  resetKinds,
  type Transport,
  type TransportIdentity,
} from '@uaccel/core'
import { EventFd, type Mapping, sys } from '@uaccel/sys'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { ReplayOptions } from './options.js'
import { Replay } from './replay.js'
import { readSession } from './session.js'

/** A recorded device as a transport. */
export interface ReplayTransport extends Transport {
  /** What the driver did that is not in the recording. It ended the replay: the device was lost to its driver. */
  readonly mismatch: AccelError | undefined
  /** What was lawful and yet not as recorded, a line each. */
  readonly notes: readonly string[]
  /** How much of the session was replayed, in steps of the driver and the device. */
  readonly counts: { readonly replayed: number; readonly total: number }
  /**
   * Throws where the driver did not do all that is in the recording, and nothing else: `ERR_ACCEL_BAD_ACCESS`. After the device
   * was released, before or after `close`.
   */
  assertComplete(): void
}

/**
 * A device that behaves as in a recording of {@link recording}: reads answer what was recorded, writes are held against it, interrupts
 * fire and memory changes where they did. What the recording has not ends the replay: the device is lost to its driver, and the reason is an
 * `ERR_ACCEL_BAD_ACCESS` that names the register, what was expected, what came and the step ({@link ReplayTransport.mismatch}).
 *
 * @throws ERR_ACCEL_NOT_FOUND; ERR_ACCEL_PROTOCOL the file is no recording, or damaged; ERR_ACCEL_VERSION
 */
export function replaying(file: string, options: ReplayOptions = {}): ReplayTransport {
  return new Replaying(new Replay(readSession(file), options))
}

class Replaying implements ReplayTransport {
  readonly identity: TransportIdentity
  readonly platform?: PlatformName
  readonly regions
  readonly irqs
  readonly resets
  readonly dma
  readonly setLowPower?: (on: boolean) => Promise<void>
  readonly #replay: Replay
  readonly #scratch = new DataView(new ArrayBuffer(8))
  readonly #bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((width) => new Uint8Array(this.#scratch.buffer, 0, width))

  constructor(replay: Replay) {
    const { device, name } = replay.session
    this.#replay = replay
    this.identity = { kind: 'loopback', address: `${name} (${device.address})`, emulated: true }
    if (device.platform !== undefined) this.platform = device.platform
    this.regions = device.regions
    this.irqs = device.irqs
    this.resets = device.resets
    this.dma = replay.memory
    if (device.canSleep) this.setLowPower = async (on) => replay.power(on)
  }

  get mismatch(): AccelError | undefined {
    return this.#replay.mismatch
  }

  get notes(): readonly string[] {
    return this.#replay.notes
  }

  get counts(): { readonly replayed: number; readonly total: number } {
    return this.#replay.counts
  }

  assertComplete(): void {
    this.#replay.assertComplete()
  }

  describe(region: number, map: RegisterMap): void {
    this.#replay.describe(region, map)
  }

  read(region: number, offset: number, width: AccessWidth): number {
    this.#replay.read(region, offset, this.#bytes[width]!)
    if (width === 4) return this.#scratch.getUint32(0, true)
    return width === 2 ? this.#scratch.getUint16(0, true) : this.#scratch.getUint8(0)
  }

  write(region: number, offset: number, width: AccessWidth, value: number): void {
    this.#scratch.setUint32(0, value, true)
    this.#replay.write(region, offset, this.#bytes[width]!)
  }

  read64(region: number, offset: number): bigint {
    this.#replay.read(region, offset, this.#bytes[8]!)
    return this.#scratch.getBigUint64(0, true)
  }

  write64(region: number, offset: number, value: bigint): void {
    this.#scratch.setBigUint64(0, value, true)
    this.#replay.write(region, offset, this.#bytes[8]!)
  }

  readBytes(region: number, offset: number, into: Uint8Array): void {
    this.#replay.read(region, offset, into)
  }

  writeBytes(region: number, offset: number, from: Uint8Array): void {
    this.#replay.write(region, offset, from)
  }

  map(region: number): Mapping {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `region ${region} of a recording has no memory to map: use calls`,
    )
  }

  setIrqs(type: IrqType, fds: readonly number[]): void {
    const available = this.irqs[type].count
    if (fds.length === 0 || fds.length > available) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `${fds.length} ${type} vectors were wanted, ${this.identity.address} has ${available}`,
        { details: { available } },
      )
    }
    this.#replay.disarm(type)
    this.#replay.arm(
      type,
      0,
      fds.map((fd) => (fd < 0 ? undefined : new EventFd(sys, fd))),
    )
  }

  disableIrqs(type: IrqType): void {
    this.#replay.disarm(type)
  }

  /** An interrupt that was masked did not fire when it was recorded: nothing is to be done. */
  maskIrq(): void {
    this.#replay.checkPresent()
  }

  unmaskIrq(): void {
    this.#replay.checkPresent()
  }

  async reset(kind: ResetKind = this.resets[0] ?? resetKinds[0]): Promise<void> {
    if (!this.resets.includes(kind))
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.identity.address} had no ${kind} reset when it was recorded`,
      )
    this.#replay.reset(kind)
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#replay.lost.add(listener)
  }

  onRequest(listener: (reason: AccelError) => void): () => void {
    return this.#replay.requests.add(listener)
  }

  async close(): Promise<void> {
    this.#replay.close(accelError('ERR_ACCEL_NO_DEVICE', `${this.identity.address} was closed`))
  }
}
