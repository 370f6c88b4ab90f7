import type { DeviceIdentity } from '@uaccel/core'
import type { DmaDomain } from '@uaccel/memory'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { AttributeDefinitions } from './attributes.js'
import type { AccelDevice } from './device.js'
import type { AnyDriver, Probed } from './driver.js'
import { describeId } from './ids.js'
import { within } from './limit.js'
import type { JobTarget } from './scheduler.js'
import type { Telemetry } from './telemetry.js'

/** What a driver on a device needs of its node. */
export interface InstanceHost {
  readonly name: string
  readonly driver: AnyDriver
  readonly identity: DeviceIdentity
  readonly limits: { readonly probeMs: number; readonly settleMs: number }
  /** Throws where the node is gone. */
  check(): void
  /** Makes the device that `probe` gets. */
  bringUp(): AccelDevice
  /** Takes the driver's attributes over. */
  adopt(attributes: AttributeDefinitions | undefined): void
  /** The device that is up was lost. */
  ended(reason: AccelError): void
  /** Something went wrong that no caller is told of. */
  reportAs(what: string, cause: unknown): void
}

/** A driver on its device: what `probe` got and what it answered, anew after each reset that the driver has no hooks for. */
export class DriverInstance {
  readonly #host: InstanceHost
  #device: AccelDevice | undefined
  #probed: Probed<never> | undefined

  constructor(host: InstanceHost) {
    this.#host = host
  }

  get device(): AccelDevice | undefined {
    return this.#device
  }

  /** What `probe` answered; undefined while the device is being brought up or down. */
  get probed(): Probed<never> | undefined {
    return this.#probed
  }

  get telemetry(): Telemetry {
    return this.#probed?.telemetry ?? {}
  }

  /** Whether the driver takes jobs; one that is not up yet may. */
  get takesJobs(): boolean {
    return this.#probed === undefined || this.#probed.submit !== undefined
  }

  /** The memory that the device can reach; undefined while it is being brought up or down. */
  get domain(): DmaDomain | undefined {
    return this.#probed && !this.#device?.signal.aborted ? this.#device?.dma : undefined
  }

  /** How many jobs the driver takes at once; undefined where it takes none. */
  get jobDepth(): number | undefined {
    return this.#probed?.submit && (this.#probed.depth ?? 1)
  }

  /** Who takes jobs; undefined while nobody does. */
  get target(): JobTarget | undefined {
    const probed = this.#probed
    // Who takes no jobs may have no DMA at all.
    const domain = probed?.submit && this.domain
    if (!domain) return undefined
    return { domain, depth: probed.depth ?? 1, submit: (job, context) => probed.submit!(job, context) }
  }

  /** Brings the device up. What a failed probe had taken is released before this throws `ERR_ACCEL_PROBE_FAILED`. */
  async probe(): Promise<void> {
    const { driver, identity, limits } = this.#host
    // A restart may get here after the node was released.
    this.#host.check()
    const device = this.#host.bringUp()
    this.#device = device
    try {
      const probing = Promise.resolve().then(() => driver.probe(device))
      const gone = rejection(device.signal) // nothing that a probe waits for comes from a device that is gone
      const probed = await within(Promise.race([probing, gone]), limits.probeMs, `probe of ${driver.name}`)
      device.signal.throwIfAborted()
      checkProbed(driver, probed)
      this.#host.adopt(probed.attributes)
      this.#probed = probed
      const ended = () => {
        if (this.#device === device) this.#host.ended(device.signal.reason as AccelError)
      }
      device.signal.addEventListener('abort', ended, { once: true })
    } catch (cause) {
      this.#device = undefined
      await this.#release(device, limits.settleMs)
      const message = cause instanceof Error ? cause.message : String(cause)
      throw accelError(
        'ERR_ACCEL_PROBE_FAILED',
        `Driver ${driver.name} could not bring up ${describeId(identity)} at ${identity.transport.address}: ${message}`,
        { cause },
      )
    }
  }

  /** The driver is asked nothing more, while its device is still there. */
  leave(): void {
    this.#probed = undefined
  }

  /** Lets the device go: what `probe` took is released. What fails is reported. */
  async release(limitMs: number): Promise<void> {
    const device = this.#device
    this.#device = undefined
    this.#probed = undefined
    if (device) await this.#release(device, limitMs)
  }

  async #release(device: AccelDevice, limitMs: number): Promise<void> {
    try {
      await device.release({ limitMs })
    } catch (error) {
      this.#host.reportAs(`${this.#host.name} was not released cleanly`, error)
    }
  }
}

/** A driver in plain JavaScript may forget what the types ask of it. */
function checkProbed(driver: AnyDriver, probed: Probed<never> | undefined): void {
  if (!probed?.commands) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'probe answered no table of commands')
  }
  for (const name of Object.keys(driver.uapi.commands)) {
    if (typeof (probed.commands as Record<string, unknown>)[name] === 'function') continue
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `probe answered no handler for command ${name}`)
  }
}

/** Rejects with the signal's reason; a rejection that nobody looks at is none. */
function rejection(signal: AbortSignal): Promise<never> {
  const gone = new Promise<never>((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  gone.catch(() => {})
  return gone
}
