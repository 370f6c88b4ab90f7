import { type DeviceIdentity, type DeviceOptions, openDevice, type Transport } from '@uaccel/core'
import { type AccelError, accelError, type Uapi } from '@uaccel/uapi'
import { EventEmitter } from 'eventemitter3'
import { AccelClient } from './client.js'
import { AccelDevice } from './device.js'
import { type DiscoverOptions, Discovery } from './discovery.js'
import type { AnyDriver } from './driver.js'
import { firmwarePath } from './firmware.js'
import type { Departure, NodeLimits } from './host.js'
import { describeId, matchDriver } from './ids.js'
import { AccelNode } from './node.js'
import type { OpenOptions } from './open.js'
import { DEFAULT_QUOTAS, type Quotas } from './quota.js'
import { traceFile } from './tracing.js'

/** What `Accel` tells its listeners. An exception in a listener reaches `uncaughtException`. */
export interface AccelEvents {
  added: (node: AccelNode) => void
  /** The node is gone, for this reason, and all that it held is released. */
  removed: (node: AccelNode, reason: AccelError) => void
  /** The device was reset, for this reason, and works again. */
  reset: (node: AccelNode, reason: AccelError) => void
  /** The device vanished, its peer closed, or it did not come back from a reset. `removed` follows. */
  lost: (node: AccelNode, reason: AccelError) => void
  /** Something failed that no caller is told of: a recovery, the release of a resource. */
  error: (error: AccelError, node: AccelNode) => void
}

/** Settings of a subsystem. */
export interface AccelOptions {
  /** Folders to look for firmware in, before the usual ones. */
  readonly firmwarePath?: readonly string[]
  readonly limits?: Partial<NodeLimits>
  /** What clients may hold. */
  readonly quotas?: Partial<Quotas>
  /** Where devices are traced while a client wants that; /run/uaccel as root, else `$XDG_RUNTIME_DIR/uaccel`. */
  readonly traceFolder?: string
}

/** How a device is added. */
export interface AddOptions extends DeviceOptions {
  /** The number of its node; the lowest free one unless told. */
  readonly minor?: number
  /** A file to trace into from the first access on, which stays. What `UACCEL_TRACE` names unless told: see @uaccel/trace. */
  readonly traceFile?: string
}

/** Numbers of nodes, as DRM's minors, have 20 bits. include/linux/kdev_t.h */
const MAX_MINOR = 0xf_ffff

/** What holds unless told. */
export const DEFAULT_LIMITS: NodeLimits = {
  probeMs: 30_000,
  jobMs: 60_000,
  recoverMs: 10_000,
  settleMs: 2_000,
  removeMs: 15_000,
  requestMs: 1_000,
  attributeMs: 1_000,
}

/** The accelerator subsystem: drivers on one side, devices on the other, and the nodes that come of them. */
export class Accel extends EventEmitter<AccelEvents> implements AsyncDisposable {
  readonly #drivers = new Map<string, AnyDriver>()
  /** By minor. A minor is taken as long as its device is being brought up or down, too. */
  readonly #minors = new Map<number, AccelNode | undefined>()
  /** Devices that are being brought up: `close` waits for them. */
  readonly #adding = new Set<Promise<unknown>>()
  readonly #discoveries = new Set<Discovery>()
  readonly #firmware: readonly string[]
  readonly #limits: NodeLimits
  readonly #quotas: Quotas
  readonly #traceFolder: string | undefined

  constructor(options: AccelOptions = {}) {
    super()
    this.#firmware = firmwarePath(options.firmwarePath)
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#traceFolder = options.traceFolder
    this.#quotas = { ...DEFAULT_QUOTAS, ...options.quotas }
  }

  /**
   * Makes a driver known; where devices are being discovered, it gets those that wait for one. Answers what takes it
   * back; devices that it drives keep it.
   *
   * @throws ERR_ACCEL_BUSY another driver has the name
   */
  register(driver: AnyDriver): () => void {
    const known = this.#drivers.get(driver.name)
    if (known && known !== driver) {
      throw accelError('ERR_ACCEL_BUSY', `Another driver is registered as ${driver.name}`)
    }
    this.#drivers.set(driver.name, driver)
    for (const discovery of this.#discoveries) discovery.look()
    return () => {
      if (this.#drivers.get(driver.name) === driver) this.#drivers.delete(driver.name)
    }
  }

  /** The devices that are there, by minor. */
  get nodes(): AccelNode[] {
    return [...this.#minors.values()].filter((node) => node !== undefined).sort((a, b) => a.minor - b.minor)
  }

  /**
   * Finds the driver of a device, probes it, and gives it the lowest free minor, or the one that is asked for. From now on the
   * transport belongs to the subsystem, which closes it when the device goes, and also when this throws.
   *
   * @throws ERR_ACCEL_BUSY another device has that minor; ERR_ACCEL_OUT_OF_RANGE it cannot be one
   * @throws ERR_ACCEL_NO_DRIVER no registered driver has an id of the device
   * @throws ERR_ACCEL_PROBE_FAILED its probe threw (`cause`), or took too long
   */
  add(transport: Transport, options: AddOptions = {}): Promise<AccelNode> {
    const adding = this.#add(transport, options)
    const settled: Promise<unknown> = adding.then(
      () => this.#adding.delete(settled),
      () => this.#adding.delete(settled),
    )
    this.#adding.add(settled)
    return adding
  }

  async #add(
    transport: Transport,
    { minor: wanted, traceFile: file, ...options }: AddOptions,
  ): Promise<AccelNode> {
    let minor: number
    try {
      minor = wanted === undefined ? this.#freeMinor() : this.#checkMinor(wanted)
    } catch (error) {
      await transport.close().catch(() => {}) // why the device is not added matters more
      throw error
    }
    this.#minors.set(minor, undefined)
    try {
      const identity = await identify(transport)
      const driver = this.#match(identity) ?? this.#noDriver(identity)
      const node: AccelNode = new AccelNode(minor, driver, identity, {
        limits: this.#limits,
        quotas: this.#quotas,
        traceFile: file ?? traceFile(minor),
        traceFolder: this.#traceFolder,
        bringUp: (publish) => new AccelDevice(transport, options, this.#firmware, publish),
        report: (error) => this.#tell('error', error, node),
        lost: (reason) => this.#tell('lost', node, reason),
        reset: (reason) => this.#tell('reset', node, reason),
        gone: async () => {
          forget()
          try {
            await transport.close()
          } finally {
            this.#minors.delete(minor)
            this.#tell('removed', node, node.reason!)
          }
        },
      })
      let leaving: [reason: AccelError, why: Departure] | undefined
      const leave = (why: Departure) => (reason: AccelError) => {
        leaving = [reason, why]
        if (this.#minors.get(minor) === node) void node.release(reason, why)
        else node.giveUpProbe(reason)
      }
      const forgets = [transport.onLost(leave('gone')), transport.onRequest(leave('wanted'))]
      const forget = () => {
        for (const each of forgets) each()
      }
      try {
        await node.probe()
      } catch (error) {
        forget()
        throw error
      }
      this.#minors.set(minor, node)
      this.#tell('added', node)
      if (leaving) void node.release(...leaving)
      return node
    } catch (error) {
      await transport.close().catch(() => {}) // why the device is not added matters more
      this.#minors.delete(minor)
      throw error
    }
  }

  /**
   * Finds the devices that registered drivers take, and adds them: what is there now, and what comes later, until the
   * discovery or the subsystem is closed. Resolves when what is there now was added or failed (`skipped` of the answer).
   * A device that no driver takes is never opened.
   *
   * @throws what `watchUevents` throws
   */
  async discover(options: DiscoverOptions = {}): Promise<Discovery> {
    const discovery: Discovery = new Discovery(
      {
        drives: (device) => this.#match(device) !== undefined,
        add: (transport, how) => this.add(transport, how),
        ended: () => this.#discoveries.delete(discovery),
      },
      options,
    )
    this.#discoveries.add(discovery)
    await discovery.settled()
    return discovery
  }

  /** The node of that name. `ERR_ACCEL_NOT_FOUND` where there is none. */
  node(name: string): AccelNode {
    const node = this.nodes.find((candidate) => candidate.name === name)
    if (!node) {
      const there = this.nodes.map((candidate) => `${candidate.name} (${candidate.driver.name})`).join(', ')
      throw accelError('ERR_ACCEL_NOT_FOUND', `No device ${name}; there: ${there || 'none'}`)
    }
    return node
  }

  /**
   * Opens a device for calls.
   *
   * @throws ERR_ACCEL_NOT_FOUND no such device
   * @throws ERR_ACCEL_VERSION it speaks another uAPI
   */
  open<U extends Uapi>(uapi: U, name: string, options?: OpenOptions): AccelClient<U> {
    return new AccelClient(this.node(name), uapi, options)
  }

  /** Takes a device away: its calls end with `ERR_ACCEL_NO_DEVICE`, then all that probe took is released. */
  async remove(name: string): Promise<void> {
    await this.node(name).release(accelError('ERR_ACCEL_NO_DEVICE', `${name} was removed`), 'removed')
  }

  /** Ends discovery, and removes all devices, those included that are being added. */
  async close(): Promise<void> {
    await Promise.all([...this.#discoveries].map((discovery) => discovery.close()))
    while (this.#adding.size > 0) await Promise.all(this.#adding)
    await Promise.all(this.nodes.map(({ name }) => this.remove(name)))
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #freeMinor(): number {
    let minor = 0
    while (this.#minors.has(minor)) minor++
    return minor
  }

  #checkMinor(minor: number): number {
    if (!Number.isInteger(minor) || minor < 0 || minor > MAX_MINOR) {
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `A minor is 0 to ${MAX_MINOR}, found ${minor}`)
    }
    if (!this.#minors.has(minor)) return minor
    const holder = this.#minors.get(minor)?.identity.transport.address
    throw accelError(
      'ERR_ACCEL_BUSY',
      `accel${minor} is ${holder ?? 'a device that is being brought up or down'}`,
    )
  }

  #match(identity: DeviceIdentity): AnyDriver | undefined {
    return matchDriver(this.#drivers.values(), identity)
  }

  #noDriver(identity: DeviceIdentity): never {
    const registered = [...this.#drivers.values()].map(
      ({ name, ids }) => `${name} (${ids.map(describeId).join(', ')})`,
    )
    throw accelError(
      'ERR_ACCEL_NO_DRIVER',
      `No driver for ${describeId(identity)}; registered: ${registered.join('; ') || 'none'}`,
      { details: { identity } },
    )
  }

  /** Tells listeners. What one of them throws is not for whoever caused the event. */
  #tell<E extends keyof AccelEvents>(event: E, ...args: Parameters<AccelEvents[E]>): void {
    try {
      this.emit(event, ...(args as never))
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}

/** Asks the device who it is. */
async function identify(transport: Transport): Promise<DeviceIdentity> {
  await using device = openDevice(transport)
  return device.identity
}

/** The subsystem that `openAccel` opens devices of. */
export const accel = new Accel()

/** Opens a device of the default subsystem; see `Accel.open`. */
export function openAccel<U extends Uapi>(uapi: U, name: string): AccelClient<U> {
  return accel.open(uapi, name)
}
