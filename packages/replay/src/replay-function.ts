import { type IrqType, resetKinds } from '@uaccel/core'
import type { EmulatedFunction, ModelIdentity } from '@uaccel/model'
import { EventFd, sys } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { ReplayOptions } from './options.js'
import { Replay } from './replay.js'
import type { ReplayMemory } from './replay-memory.js'
import { readSession } from './session.js'

/** How a recording is served. */
export interface ReplayFunctionOptions extends ReplayOptions {
  /**
   * Told when a client that touched the device has left: with what it did that is not in the recording, or did not do that is. The next
   * client begins the session anew.
   */
  readonly onEnd?: (problem: AccelError | undefined, notes: readonly string[]) => void
}

/** Offsets in configuration space (PCI Local Bus 3.0, 6.1). */
const VENDOR = 0x00
const DEVICE = 0x02
const CLASS_REVISION = 0x08

/**
 * A recorded device as an emulated function, which a server offers to other processes: `serveVfioUser` of `@uaccel/vfio-user`.
 * Errors as those of `replaying`.
 */
export function replayFunction(file: string, options: ReplayFunctionOptions = {}): EmulatedFunction {
  return new ReplayFunction(new Replay(readSession(file), options), options.onEnd)
}

class ReplayFunction implements EmulatedFunction {
  readonly identity: ModelIdentity
  readonly regions
  readonly irqs
  readonly dma: ReplayMemory
  readonly #replay: Replay
  readonly #onEnd: ReplayFunctionOptions['onEnd']
  /** What was wrong when the function was reset last: of a client that leaves it is the end. */
  #outcome: AccelError | undefined

  constructor(replay: Replay, onEnd: ReplayFunctionOptions['onEnd']) {
    const { device, name } = replay.session
    const config = Buffer.from(device.config)
    if (config.length === 0) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${name} is of a device without configuration space, which vfio-user does not serve: replay it in the process of its driver`,
      )
    }
    this.#replay = replay
    this.#onEnd = onEnd
    this.identity = {
      name: device.address,
      vendor: config.readUInt16LE(VENDOR),
      device: config.readUInt16LE(DEVICE),
      classCode: config.readUInt32LE(CLASS_REVISION) >>> 8,
    }
    this.regions = device.regions
    this.irqs = device.irqs
    // The server takes all memory back when a client has left.
    const clear = () => {
      replay.memory.clear()
      this.#end()
    }
    this.dma = new Proxy(replay.memory, {
      get(target, key) {
        if (key === 'clear') return clear
        const member: unknown = Reflect.get(target, key, target)
        return typeof member === 'function' ? member.bind(target) : member
      },
    })
  }

  regionFd(): undefined {
    return undefined
  }

  regionRead(region: number, offset: number, into: Uint8Array): void {
    this.#replay.read(region, offset, into)
  }

  regionWrite(region: number, offset: number, from: Uint8Array): void {
    this.#replay.write(region, offset, from)
  }

  setIrqs(type: IrqType, start: number, fds: readonly number[]): void {
    if (fds.length === 0) this.#replay.disarm(type)
    else {
      const events = fds.map((fd) => (fd < 0 ? undefined : new EventFd(sys, fd)))
      this.#replay.arm(type, start, events)
    }
  }

  /** An interrupt that was masked did not fire when it was recorded: nothing is to be done. */
  maskIrq(): void {
    this.#replay.checkPresent()
  }

  /** The driver's, where that is its next step; else a client has left, and what it was before is not to be missed. */
  reset(): void {
    this.#outcome = this.#problem()
    if (this.#replay.mismatch === undefined && this.#replay.resetIsNext)
      this.#replay.reset(this.#replay.session.device.resets[0] ?? resetKinds[0])
  }

  onLost(listener: (reason: AccelError) => void): () => void {
    return this.#replay.lost.add(listener)
  }

  close(): void {
    this.#replay.close(accelError('ERR_ACCEL_NO_DEVICE', `the replay of ${this.identity.name} was closed`))
  }

  #problem(): AccelError | undefined {
    try {
      this.#replay.assertComplete()
      return undefined
    } catch (error) {
      if (isAccelError(error)) return error
      throw error
    }
  }

  #end(): void {
    if (this.#replay.touched) this.#onEnd?.(this.#outcome, [...this.#replay.notes])
    this.#replay.rewind()
  }
}
