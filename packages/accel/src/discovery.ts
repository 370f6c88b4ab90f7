import {
  type DeviceIdentity,
  type DeviceOptions,
  type DeviceSource,
  latestSeqnum,
  type Overrun,
  type Transport,
  type Uevent,
  vfioSource,
  watchUevents,
} from '@uaccel/core'
import { type AccelError, accelError, type ErrorCode, isAccelError } from '@uaccel/uapi'
import { EventEmitter } from 'eventemitter3'
import type { AccelNode } from './node.js'

/** A device that a driver would take and that could not be added. */
export interface Skipped {
  readonly device: DeviceIdentity
  readonly error: AccelError
  /** When it is tried again, if nothing happens before; absent where only an event or `rescan` brings that about. */
  readonly retryInMs?: number
}

/** What a `Discovery` tells its listeners; `Accel` itself tells of `added` and `removed` nodes. */
export interface DiscoveryEvents {
  /** Told once for each thing that is in the way, not at each attempt. */
  skipped: (skipped: Skipped) => void
  /** Devices could not be looked for. */
  error: (error: AccelError) => void
}

/** How devices are discovered. */
export interface DiscoverOptions {
  /** Where to look: devices that are bound to vfio-pci unless told. Of two that have a device, the first gets it. */
  readonly sources?: readonly DeviceSource[]
  /** Goes on after the first look, with the kernel's uevents; true unless told. */
  readonly follow?: boolean
  /** Whether waiting for devices keeps the process alive; false unless told. */
  readonly ref?: boolean
  /** How each device is opened. */
  readonly device?: DeviceOptions
  /** Delays before the attempts after one that failed for a reason that may pass, in ms. Default 100 ms, doubling, up to 25.6 s. */
  readonly retryMs?: readonly number[]
  /** Where uevents come from; for tests. */
  readonly uevents?: typeof watchUevents
}

/** What a discovery needs of the subsystem. */
export interface DiscoveryHost {
  drives(device: DeviceIdentity): boolean
  add(transport: Transport, options?: DeviceOptions): Promise<AccelNode>
  /** It was closed. */
  ended(): void
}

const defaultSources: readonly (() => DeviceSource)[] = [() => vfioSource()]
const DEFAULT_RETRY_MS = Array.from({ length: 9 }, (_, i) => 100 * 2 ** i)

/**
 * What may pass without anybody touching the device: another process ends, udev sets the owner of a node that has just
 * appeared, a neighbour in the IOMMU group is unbound, the device is on its way out.
 */
const passing: ReadonlySet<ErrorCode> = new Set([
  'ERR_ACCEL_BUSY',
  'ERR_ACCEL_PERMISSION',
  'ERR_ACCEL_GROUP_NOT_VIABLE',
  'ERR_ACCEL_WRONG_DRIVER',
  'ERR_ACCEL_NOT_FOUND',
  'ERR_ACCEL_NO_DEVICE',
])

/** A device that some driver takes, from the look that found it to the one that does not. */
interface Tracked {
  readonly device: DeviceIdentity
  readonly source: DeviceSource
  /** `left`: its node is gone, but the device is not; it is not taken again before it is bound anew. */
  state: 'opening' | 'there' | 'failed' | 'left'
  /** The latest uevent before this state: that and earlier ones say nothing against it. */
  seqnum: number
  /** It went away while it was being opened or released. */
  vanished: boolean
  /** Those that came by themselves, after {@link DiscoverOptions.retryMs}. */
  attempts: number
  node?: AccelNode
  error?: AccelError
  timer?: NodeJS.Timeout
}

/**
 * Adds the devices that are there to a subsystem, and those that come later; removes those that go. Made by
 * `Accel.discover`.
 *
 * A uevent only says where to look: what is done follows from sysfs, so that messages that are lost, late or repeated
 * do no harm.
 */
export class Discovery extends EventEmitter<DiscoveryEvents> implements AsyncDisposable {
  readonly #host: DiscoveryHost
  readonly #options: DiscoverOptions
  readonly #sources: readonly DeviceSource[]
  readonly #tracked = new Map<string, Tracked>()
  readonly #opening = new Set<Promise<void>>()
  #watching: { close(): void } | undefined
  #soon: NodeJS.Immediate | undefined
  #closed = false

  /** @internal Starts at once. @throws what `watchUevents` throws */
  constructor(host: DiscoveryHost, options: DiscoverOptions) {
    super()
    this.#host = host
    this.#options = options
    this.#sources = options.sources ?? defaultSources.map((make) => make())
    if (options.follow ?? true) {
      const subsystems = [...new Set(this.#sources.flatMap((source) => source.subsystems))]
      const { uevents = watchUevents, ref = false } = options
      this.#watching = uevents((event) => this.#heed(event), { subsystems, ref })
    }
    this.look()
  }

  /** Devices that a driver would take and that could not be added, with what is in the way. */
  get skipped(): Skipped[] {
    return [...this.#tracked.values()].flatMap(({ device, state, error }) =>
      state === 'failed' && error ? [{ device, error }] : [],
    )
  }

  /**
   * Looks again, also at devices that failed for good or whose node was removed. Resolves when all that was found is
   * added or has failed.
   */
  async rescan(): Promise<void> {
    for (const tracked of this.#tracked.values())
      if (tracked.state === 'failed' || tracked.state === 'left') this.#forget(tracked)
    this.look()
    await this.settled()
  }

  /** Stops looking, and waits for devices that are being opened. Those that were added stay: `Accel` removes them. Idempotent. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true
      this.#watching?.close()
      clearImmediate(this.#soon)
      for (const { timer } of this.#tracked.values()) clearTimeout(timer)
      this.#host.ended()
    }
    await this.settled()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Resolves when nothing is being opened: what a driver that was just registered takes, too. */
  async settled(): Promise<void> {
    while (this.#opening.size > 0) await Promise.all(this.#opening)
  }

  /** @internal Brings what is tracked in line with what is there. */
  look(): void {
    if (this.#closed) return
    const found = new Map<string, { device: DeviceIdentity; source: DeviceSource }>()
    for (const source of this.#sources) {
      try {
        for (const device of source.scan()) {
          const { address } = device.transport
          if (!found.has(address)) found.set(address, { device, source })
        }
      } catch (cause) {
        const message = cause instanceof Error ? cause.message : String(cause)
        const text = `Devices of ${source.name} cannot be looked for: ${message}`
        this.#tell('error', accelError(isAccelError(cause) ? cause.code : 'ERR_ACCEL_IO', text, { cause }))
        // What is not seen is not gone.
        for (const [address, tracked] of this.#tracked)
          if (tracked.source === source && !found.has(address)) found.set(address, tracked)
      }
    }
    for (const [address, tracked] of this.#tracked)
      if (found.get(address)?.source !== tracked.source) this.#vanished(tracked)
    for (const [address, { device, source }] of found) {
      if (this.#tracked.has(address) || !this.#host.drives(device)) continue
      const tracked: Tracked = { device, source, state: 'opening', seqnum: 0, vanished: false, attempts: 0 }
      this.#tracked.set(address, tracked)
      this.#begin(tracked)
    }
  }

  /** A uevent: what it is about may have gone, may be another now, or is not in the way of others any more. */
  #heed(event: Uevent | Overrun): void {
    if (event.action === 'overrun') {
      // One that was bound anew may be among them.
      for (const tracked of this.#tracked.values()) if (tracked.state === 'left') this.#forget(tracked)
    } else {
      const tracked = this.#about(event)
      if (tracked !== undefined && event.seqnum > tracked.seqnum && !event.synthetic) {
        if (event.action === 'remove' || event.action === 'unbind') this.#vanished(tracked)
        else if (tracked.state === 'failed') this.#forget(tracked)
        else if (tracked.state === 'left' && event.action !== 'change') this.#forget(tracked)
      }
    }
    this.#lookSoon()
  }

  /** The device that a uevent is about. */
  #about(event: Uevent): Tracked | undefined {
    for (const source of this.#sources) {
      if (!source.subsystems.includes(event.subsystem)) continue
      const tracked = this.#tracked.get(source.addressOf(event) ?? '')
      if (tracked?.source === source) return tracked
    }
    return undefined
  }

  /** Once for all messages of this turn: a bus that is scanned sends many. */
  #lookSoon(): void {
    if (this.#closed) return
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined
      for (const tracked of this.#tracked.values())
        if (tracked.state === 'failed' && passing.has(tracked.error!.code)) this.#begin(tracked)
      this.look()
    })
  }

  #begin(tracked: Tracked): void {
    clearTimeout(tracked.timer)
    tracked.state = 'opening'
    tracked.seqnum = latestSeqnum()
    const opening: Promise<void> = this.#open(tracked).finally(() => this.#opening.delete(opening))
    this.#opening.add(opening)
  }

  /** Never rejects. */
  async #open(tracked: Tracked): Promise<void> {
    const { source, device } = tracked
    try {
      const transport = await source.open(device)
      if (tracked.vanished || this.#closed) {
        this.#forget(tracked)
        await transport.close()
      } else this.#added(tracked, await this.#host.add(transport, this.#options.device))
    } catch (error) {
      this.#failed(tracked, error)
    }
    if (tracked.vanished && tracked.state !== 'there') this.#lookSoon()
  }

  #added(tracked: Tracked, node: AccelNode): void {
    tracked.state = 'there'
    tracked.node = node
    delete tracked.error
    tracked.attempts = 0
    void node.lost.then(async (reason) => {
      // Before its transport is closed: an unbind that waits for that is told with a later number.
      tracked.seqnum = latestSeqnum()
      await node.release(reason, 'gone') // the end of the one that is under way
      delete tracked.node
      tracked.state = 'left'
      if (!tracked.vanished) return
      this.#forget(tracked)
      this.#lookSoon() // it may be back already
    })
    if (tracked.vanished) this.#vanished(tracked)
  }

  #failed(tracked: Tracked, cause: unknown): void {
    if (tracked.vanished || this.#closed || !isThere(tracked)) {
      this.#forget(tracked)
      return
    }
    const { device, error: before, attempts } = tracked
    const error = isAccelError(cause)
      ? cause
      : accelError('ERR_ACCEL_IO', `${device.transport.address} could not be opened: ${String(cause)}`, {
          cause,
        })
    tracked.state = 'failed'
    tracked.error = error
    const retryInMs = passing.has(error.code)
      ? (this.#options.retryMs ?? DEFAULT_RETRY_MS)[attempts]
      : undefined
    if (retryInMs !== undefined) {
      const again = () => {
        tracked.attempts++
        this.#begin(tracked)
      }
      tracked.timer = setTimeout(again, retryInMs)
      if (!this.#options.ref) tracked.timer.unref()
    }
    if (error.code === before?.code) return
    this.#tell('skipped', { device, error, ...(retryInMs === undefined ? {} : { retryInMs }) })
  }

  /** The device is not there any more. Its transport says so first, as a rule: then there is nothing left to do. */
  #vanished(tracked: Tracked): void {
    const { state, node, device } = tracked
    if (state === 'failed' || state === 'left') {
      this.#forget(tracked)
      return
    }
    tracked.vanished = true
    const reason = `${device.transport.address} was unbound or unplugged`
    void node?.release(accelError('ERR_ACCEL_NO_DEVICE', reason), 'gone')
  }

  #forget(tracked: Tracked): void {
    clearTimeout(tracked.timer)
    const { address } = tracked.device.transport
    if (this.#tracked.get(address) === tracked) this.#tracked.delete(address)
  }

  /** Tells listeners. What one of them throws is not for whoever caused the event. */
  #tell<E extends keyof DiscoveryEvents>(event: E, ...args: Parameters<DiscoveryEvents[E]>): void {
    try {
      this.emit(event, ...(args as never))
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}

/** Whether a device that could not be opened is still there: one that went meanwhile is no failure. */
function isThere({ source, device }: Tracked): boolean {
  try {
    return source.scan().some(({ transport }) => transport.address === device.transport.address)
  } catch {
    return true
  }
}
