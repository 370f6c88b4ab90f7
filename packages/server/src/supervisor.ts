import {
  type DeviceIdentity,
  type DeviceSource,
  type Overrun,
  type Uevent,
  vfioSource,
  watchUevents,
} from '@uaccel/core'
import { accelError, CONTROL_NODE, type CommandReply, type controlUapi } from '@uaccel/uapi'
import { type Config, type ConfigSource, readConfig } from './config.js'
import { ControlNode } from './control.js'
import { type MetricsServer, mergeMetrics, serveMetrics } from './metrics-server.js'
import { Numbers } from './numbers.js'
import { makeFolder } from './place.js'
import { type Plan, plan } from './plan.js'
import { type NodeServer, serveNode, serveSocket } from './server.js'
import { type DeviceSpec, type NodeEntry, SupervisedDevice } from './supervised.js'

/** Anybody may open the control node: no user gets to keep the others from it. */
const CONTROL_USER_OPENS = 32

/** What a reload did. */
export type Reloaded = CommandReply<typeof controlUapi, 'reload'>

/** How nodes are supervised. */
export interface SuperviseOptions {
  /** Read again at each reload. */
  readonly source: ConfigSource
  /** Where metrics are offered, in place of what the configuration says. */
  readonly metrics?: string
  /** A listening socket for the control node, such as one of systemd's: a descriptor, which is taken over. */
  readonly controlFd?: number
  /** Told what a person may want to know, one line at a time. */
  readonly note?: (text: string) => void
  /** Where PCI devices are found; devices that are bound to vfio-pci unless told. */
  readonly devices?: DeviceSource
  /** Where the kernel's messages of devices come from; for tests. */
  readonly uevents?: typeof watchUevents
}

/** What a configuration would have served here and now, for people, one line for each. Nothing is changed. */
export async function checkConfig(
  source: ConfigSource,
  devices: DeviceSource = vfioSource(),
): Promise<string[]> {
  const config = await readConfig(source)
  const { specs, waiting } = plan(config, scan(config, devices), new Numbers(config.folder))
  const served = specs.map(({ job }) => {
    const drivers = config.drivers
      .filter(({ module }) => job.drivers.includes(module))
      .map(({ driver }) => driver.name)
    const { mode = 0o600, exclusive = false } = job.serve
    const shared = exclusive ? 'exclusive' : 'shared'
    return `${config.folder}/accel${job.number}: ${drivers.join(' or ')}, ${job.address}, mode ${mode.toString(8)}, ${shared}`
  })
  return [
    ...served,
    ...waiting.map((text) => `waiting: ${text}`),
    ...(specs.length === 0 ? ['no device to serve now'] : []),
  ]
}

/**
 * Serves the devices of a configuration, each in a process of its own, and the control node. Resolves when that node is there;
 * `settled` of the answer when each device that is there runs, or has failed once.
 *
 * @throws what is wrong in the configuration
 * @throws ERR_ACCEL_BUSY another supervisor serves that folder; ERR_ACCEL_PERMISSION others could change what is in it
 */
export async function supervise(options: SuperviseOptions): Promise<Supervisor> {
  const config = await readConfig(options.source)
  makeFolder(config.folder)
  const supervisor = new Supervisor(config, options)
  await supervisor.begin()
  return supervisor
}

/** Made by {@link supervise}. */
export class Supervisor {
  readonly #options: SuperviseOptions
  readonly #note: (text: string) => void
  readonly #source: DeviceSource
  readonly #numbers: Numbers
  readonly #devices = new Map<string, SupervisedDevice>()
  /** Those that are on their way out. */
  readonly #leaving = new Set<SupervisedDevice>()
  readonly #control: ControlNode
  #config: Config
  #controlServer: NodeServer | undefined
  #metrics: MetricsServer | undefined
  #watching: { close(): void } | undefined
  #soon: NodeJS.Immediate | undefined
  #told = ''
  #reloading: Promise<unknown> = Promise.resolve()
  #stopping: Promise<void> | undefined
  #settled: Promise<unknown> = Promise.resolve()

  /** @internal */
  constructor(config: Config, options: SuperviseOptions) {
    this.#config = config
    this.#options = options
    this.#note = options.note ?? (() => {})
    this.#source = options.devices ?? vfioSource()
    this.#numbers = new Numbers(config.folder)
    this.#control = new ControlNode({
      entries: () => this.nodes,
      reload: () => this.reload(),
      start: (name) => this.start(name),
      stop: (name) => this.stopNode(name),
    })
  }

  /** The nodes that there are or are to be, by number. */
  get nodes(): NodeEntry[] {
    return [...this.#devices.values()].map(({ entry }) => entry).sort((a, b) => number(a) - number(b))
  }

  /** Resolves when each device that was there at first runs, or has failed once. */
  get settled(): Promise<unknown> {
    return this.#settled
  }

  /** It is being stopped, or was. */
  get stopping(): boolean {
    return this.#stopping !== undefined
  }

  /** One line on the whole, for people. */
  get status(): string {
    const states = this.nodes.map(({ state }) => state)
    const running = states.filter((state) => state === 'running').length
    return `${running} of ${states.length} nodes run in ${this.#config.folder}`
  }

  /** @internal */
  async begin(): Promise<void> {
    const { folder, control } = this.#config
    const { controlFd } = this.#options
    const opens = { maxUserOpens: CONTROL_USER_OPENS }
    try {
      this.#controlServer =
        controlFd === undefined
          ? await serveNode(this.#control, { mode: 0o666, ...control, folder, ...opens })
          : serveSocket(this.#control, controlFd, `${folder}/${CONTROL_NODE}`, opens)
      this.#note(`nodes: ${folder}`)
      const metrics = this.#options.metrics ?? this.#config.metrics
      if (metrics !== undefined) {
        this.#metrics = await serveMetrics(metrics, () => this.metrics())
        this.#note(
          `metrics: ${metrics.startsWith('/') ? metrics : `http://${this.#metrics.address}/metrics`}`,
        )
      }
      this.#watch()
      this.#settled = this.#apply(this.#look()).settled
    } catch (error) {
      await this.stop(0)
      throw error
    }
  }

  /**
   * Reads the configuration anew. Devices whose configuration is the same are left alone.
   *
   * @throws what is wrong in it: then nothing was changed. ERR_ACCEL_UNSUPPORTED what only a new supervisor can change
   */
  reload(): Promise<Reloaded> {
    const reloaded = this.#reloading.then(() => this.#reload())
    this.#reloading = reloaded.catch(() => {})
    return reloaded
  }

  async #reload(): Promise<Reloaded> {
    const config = await readConfig(this.#options.source)
    this.#check()
    for (const key of ['folder', 'control', 'metrics'] as const) {
      if (JSON.stringify(config[key]) === JSON.stringify(this.#config[key])) continue
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${key} has changed: that takes a restart. Nothing was changed`,
      )
    }
    this.#config = config
    this.#watch()
    const { left, ...done } = this.#apply(this.#look())
    await left
    return { added: done.added, removed: done.removed, changed: done.changed, kept: done.kept }
  }

  /** Starts a node. @throws ERR_ACCEL_NOT_FOUND no such node; why it does not run */
  async start(name: string): Promise<void> {
    const device = this.#device(name)
    await device.start()
    if (device.state !== 'running')
      throw device.error ?? accelError('ERR_ACCEL_CLOSED', `${name} was stopped before it ran`)
  }

  /** Stops a node until it is started. @throws ERR_ACCEL_NOT_FOUND no such node */
  async stopNode(name: string): Promise<void> {
    await this.#device(name).stop()
  }

  /** All that the nodes and this supervisor say, in Prometheus' text format. */
  async metrics(): Promise<string> {
    const nodes = this.nodes
    const asked = [...this.#devices.values()].filter(({ state }) => state === 'running')
    const texts = await Promise.all(asked.map((device) => device.metrics()))
    const own = [
      '# HELP uaccel_node_state The state of the process of a node.\n# TYPE uaccel_node_state gauge',
      ...nodes.map(({ name, state }) => `uaccel_node_state{node="${name}",state="${state}"} 1`),
      '# HELP uaccel_node_restarts_total Processes of a node after its first.\n# TYPE uaccel_node_restarts_total counter',
      ...nodes.map(({ name, restarts }) => `uaccel_node_restarts_total{node="${name}"} ${restarts}`),
      '# HELP uaccel_nodes_unanswered Nodes that run and did not answer for their metrics.\n# TYPE uaccel_nodes_unanswered gauge',
      `uaccel_nodes_unanswered ${texts.filter((text) => text === undefined).length}`,
    ]
    return mergeMetrics([own.join('\n'), ...texts.filter((text) => text !== undefined)])
  }

  /**
   * Stops all nodes: opens are refused, what is under way gets `drainMs`, or what the configuration gives it, devices are brought to
   * rest. The control node tells of it until all is done. Idempotent; a second one with 0 ms hurries.
   */
  stop(drainMs?: number): Promise<void> {
    if (this.#stopping && drainMs === 0) for (const device of this.#devices.values()) void device.stop(0)
    this.#stopping ??= this.#stop(drainMs)
    return this.#stopping
  }

  async #stop(drainMs: number | undefined): Promise<void> {
    this.#watching?.close()
    clearImmediate(this.#soon)
    await Promise.all([
      this.#metrics?.close(),
      ...[...this.#devices.values()].map((device) => device.stop(drainMs)),
    ])
    await this.#controlServer?.close({ drainMs: 0 })
  }

  #check(): void {
    if (this.#stopping) throw accelError('ERR_ACCEL_CLOSED', 'The supervisor is being stopped')
  }

  #device(name: string): SupervisedDevice {
    this.#check()
    const device = [...this.#devices.values()].find((candidate) => candidate.name === name)
    if (device) return device
    const there = this.nodes.map((node) => node.name).join(', ') || 'none'
    throw accelError('ERR_ACCEL_NOT_FOUND', `There is no node ${name}; there: ${there}`)
  }

  /** Follows PCI devices, where the configuration has a place for any. */
  #watch(): void {
    if (this.#watching || !followsPci(this.#config)) return
    const { uevents = watchUevents } = this.#options
    this.#watching = uevents((event) => this.#heed(event), { subsystems: this.#source.subsystems, ref: true })
  }

  /** A message of the kernel only says where to look. A device that was bound anew is not waited for. */
  #heed(event: Uevent | Overrun): void {
    if (event.action === 'bind') {
      const address = this.#source.addressOf(event)
      for (const device of this.#devices.values()) {
        const { state, spec } = device
        if ((state === 'backOff' || state === 'failed') && spec.job.address === address) void device.start()
      }
    }
    this.#soon ??= setImmediate(() => {
      this.#soon = undefined
      if (!this.#stopping) this.#apply(this.#look())
    })
  }

  #look(): Plan {
    const found = plan(this.#config, scan(this.#config, this.#source), this.#numbers)
    try {
      this.#numbers.keep(found.assigned)
    } catch (error) {
      this.#note(
        `Numbers of devices cannot be kept: ${error instanceof Error ? error.message : String(error)}`,
      )
    }
    const told = found.waiting.join('\n')
    if (told !== this.#told) for (const text of found.waiting) this.#note(text)
    this.#told = told
    return found
  }

  /** Brings the processes in line with the plan, without waiting for any. */
  #apply({ specs }: Plan) {
    const wanted = new Set(specs.map(({ key }) => key))
    const left: Promise<void>[] = []
    const settled: Promise<void>[] = []
    let changed = 0
    let added = 0
    for (const [key, device] of this.#devices) {
      if (wanted.has(key) || this.#leaving.has(device)) continue
      this.#note(`${device.name}: ${device.spec.job.address} is to be served no more`)
      this.#leaving.add(device)
      left.push(this.#leave(key, device))
    }
    for (const spec of specs) {
      const device = this.#devices.get(spec.key)
      if (device === undefined || this.#leaving.delete(device)) {
        added++
        settled.push(this.#serve(spec, device))
      } else if (JSON.stringify(device.spec.job) === JSON.stringify(spec.job))
        device.supervise(spec.supervision)
      else {
        changed++
        settled.push(device.change(spec))
      }
    }
    return {
      added,
      changed,
      removed: left.length,
      kept: specs.length - added - changed,
      left: Promise.all(left),
      settled: Promise.all(settled),
    }
  }

  async #leave(key: string, device: SupervisedDevice): Promise<void> {
    await device.stop()
    if (this.#leaving.delete(device)) this.#devices.delete(key)
  }

  /** Gives a device a process; one that was on its way out gets a new one. */
  #serve(spec: DeviceSpec, known: SupervisedDevice | undefined): Promise<void> {
    const device = known ?? new SupervisedDevice(spec, this.#note)
    this.#devices.set(spec.key, device)
    return device.start(spec)
  }
}

const number = ({ name }: NodeEntry) => Number(name.slice('accel'.length))

const followsPci = ({ entries }: Config) =>
  entries.some(({ selector: { kind } }) => kind !== 'model' && kind !== 'vfioUser')

const scan = (config: Config, source: DeviceSource): DeviceIdentity[] =>
  followsPci(config) ? source.scan() : []
