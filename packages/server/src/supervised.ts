import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { NodeStatus } from '@uaccel/accel'
import {
  type AccelError,
  accelError,
  type CommandReply,
  type controlUapi,
  type ErrorCode,
  errorTable,
} from '@uaccel/uapi'
import {
  type DeviceJob,
  type FromDevice,
  isFromDevice,
  SYSTEMD_VARIABLES,
  type ToDevice,
} from './messages.js'
import { removeDead } from './place.js'

/** A node in the words of the control node. */
export type NodeEntry = CommandReply<typeof controlUapi, 'nodes'>['entries'][number]
export type NodeState = NodeEntry['state']

/** What a supervisor knows of a device that is to have a node. */
export interface DeviceSpec {
  /** What tells it from all others, as long as it is the same device. */
  readonly key: string
  readonly folder: string
  readonly job: DeviceJob
  readonly supervision: Supervision
}

/** How its process is kept alive. Changes of it disturb nobody. */
export interface Supervision {
  readonly drainMs: number
  readonly heartbeatMs: number
  readonly baseMs: number
  readonly capMs: number
  readonly resetMs: number
  readonly attempts: number
}

const PROCESS = fileURLToPath(new URL('./device-process.js', import.meta.url))
/** What a device that is stopped gets after its drain: `serveNode` frees opens, `Accel` brings the device to rest. */
const REST_MS = 35_000
/** The same where somebody is in a hurry. */
const HURRY_MS = 3_000
/** How long what a process said before its end may take to arrive. */
const LAST_WORDS_MS = 500
/** After a wait, how long a process that gave no sign of life has to give one: this process may have slept, too. */
const LAST_CHANCE_MS = 1_000
/** A node that does not answer in this time has no metrics. */
const METRICS_MS = 1_000

const statuses: ReadonlySet<NodeStatus> = new Set<NodeStatus>([
  'operational',
  'inReset',
  'needsReset',
  'malfunction',
  'beingCreated',
  'beingCleaned',
  'removed',
])

/** What does not pass by itself. */
const lasting: ReadonlySet<string> = new Set<ErrorCode>([
  'ERR_ACCEL_NO_DRIVER',
  'ERR_ACCEL_INVALID_ARGUMENT',
  'ERR_ACCEL_NO_IOMMU',
])

/** A device and its process, which is started again when it ends. */
export class SupervisedDevice {
  readonly #note: (text: string) => void
  #spec: DeviceSpec
  #state: NodeState = 'stopped'
  #since = Date.now()
  #child: ChildProcess | undefined
  #running: Extract<FromDevice, { type: 'running' }> | undefined
  #beat: { readonly status: NodeStatus; readonly opens: number } | undefined
  #error: AccelError | undefined
  /** What the process said that it ends of. */
  #told: AccelError | undefined
  #spawned = 0
  #failures = 0
  #retryAt = 0
  #retry: NodeJS.Timeout | undefined
  #silence: NodeJS.Timeout | undefined
  #kill: NodeJS.Timeout | undefined
  #hurried = false
  /** Resolves when all that its process left is in order; absent where it has none. */
  #ended: Promise<void> | undefined
  /** Counts what was asked for: who waited sees whether it still holds. */
  #wish = 0
  /** The last start, where no stop came after it. */
  #starting: Promise<void> | undefined
  /** What its next process gets, once this one has ended. */
  #next: DeviceSpec | undefined
  #settle: (() => void) | undefined
  #settled: Promise<void> = Promise.resolve()
  readonly #asked = new Map<number, (text: string | undefined) => void>()
  #nextQuestion = 1

  constructor(spec: DeviceSpec, note: (text: string) => void) {
    this.#spec = spec
    this.#note = (text) => note(`${this.name}: ${text.replace(/\p{Cc}+/gu, ' ')}`)
  }

  get spec(): DeviceSpec {
    return this.#spec
  }

  get name(): string {
    return `accel${this.#spec.job.number}`
  }

  get state(): NodeState {
    return this.#state
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Why it does not run, or did not the last time. */
  get error(): AccelError | undefined {
    return this.#error
  }

  /** As the control node tells of it. Texts are cut by whoever sends them. */
  get entry(): NodeEntry {
    const { job } = this.#spec
    const beat = this.#state === 'running' ? this.#beat : undefined
    const retryMs = this.#state === 'backOff' ? Math.max(0, this.#retryAt - performance.now()) : 0
    return {
      name: this.name,
      driver: this.#running?.driver ?? '',
      transport: this.#running?.transport ?? '',
      address: job.address,
      state: this.#state,
      known: { pid: this.pid !== undefined, retry: this.#state === 'backOff', status: beat !== undefined },
      pid: this.pid ?? 0,
      restarts: Math.max(0, this.#spawned - 1),
      sinceNs: BigInt(this.#since) * 1_000_000n,
      retryNs: BigInt(Math.round(retryMs)) * 1_000_000n,
      status: beat?.status ?? 'operational',
      opens: beat?.opens ?? 0,
      exclusive: job.serve.exclusive ?? false,
      reason: this.#state === 'running' ? '' : (this.#error?.message ?? ''),
    }
  }

  /** Settings that its process needs not know. */
  supervise(supervision: Supervision): void {
    this.#spec = { ...this.#spec, supervision }
  }

  /** Resolves when it runs, or does not. Idempotent. */
  start(spec?: DeviceSpec): Promise<void> {
    this.#starting = this.#start(spec)
    return this.#starting
  }

  async #start(spec: DeviceSpec | undefined): Promise<void> {
    const wish = ++this.#wish
    if (this.#child === undefined || this.#state === 'stopping') await this.#ended
    if (this.#wish !== wish) return this.#starting // somebody has decided otherwise, or the same
    if (this.#child === undefined) {
      clearTimeout(this.#retry)
      this.#spec = spec ?? this.#next ?? this.#spec
      this.#next = undefined
      this.#failures = 0
      this.#spawned = 0
      this.#settled = new Promise((resolve) => {
        this.#settle = resolve
      })
      this.#spawn()
    }
    await this.#settled
  }

  /** Resolves when its process has ended. Idempotent; a later one with 0 ms hurries. */
  async stop(drainMs = this.#spec.supervision.drainMs): Promise<void> {
    this.#wish++
    this.#starting = undefined
    if (this.#child === undefined) {
      await this.#ended
      clearTimeout(this.#retry)
      this.#become('stopped')
      return
    }
    const first = this.#state !== 'stopping'
    if (first) this.#become('stopping')
    if (first || (drainMs === 0 && !this.#hurried)) {
      this.#hurried = drainMs === 0 && !first
      this.#send({ type: 'stop', drainMs })
      clearTimeout(this.#kill)
      const limitMs = this.#hurried ? HURRY_MS : drainMs + REST_MS
      this.#kill = setTimeout(() => this.#child?.kill('SIGKILL'), limitMs)
    }
    await this.#ended
  }

  /** Goes on with another job: at once, where it is not stopped. */
  async change(spec: DeviceSpec): Promise<void> {
    if (this.#state === 'stopped') {
      this.#spec = spec
      this.#next = undefined
      return
    }
    this.#next = spec
    const stopped = this.stop()
    const wish = this.#wish
    await stopped
    if (this.#wish === wish) await this.start()
  }

  /** Its metrics in Prometheus' text format; `undefined` where it does not answer within a second. */
  metrics(): Promise<string | undefined> {
    const id = this.#nextQuestion++
    return new Promise((resolve) => {
      const answer = (text: string | undefined) => {
        clearTimeout(timer)
        this.#asked.delete(id)
        resolve(text)
      }
      const timer = setTimeout(() => answer(undefined), METRICS_MS)
      this.#asked.set(id, answer)
      this.#send({ type: 'metrics', id })
    })
  }

  #become(state: NodeState): void {
    if (this.#state !== state) this.#since = Date.now()
    this.#state = state
    if (state !== 'starting' && state !== 'stopping') this.#settle?.()
  }

  #spawn(): void {
    const { job } = this.#spec
    this.#spawned++
    this.#told = undefined
    this.#beat = undefined
    this.#hurried = false
    this.#become('starting')
    const env = { ...process.env }
    for (const name of SYSTEMD_VARIABLES) delete env[name]
    const child = fork(PROCESS, [this.name, job.address], {
      env,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#child = child
    child.on('message', (message) => {
      if (this.#child === child) this.#heard(message)
    })
    this.#ended = new Promise((resolve) => {
      const ended = (how: string) => {
        if (this.#child !== child) return
        this.#child = undefined
        void this.#over(how, child.pid).then(() => {
          this.#ended = undefined
          resolve()
        })
      }
      child.once('exit', (code, signal) => {
        const how = signal === null ? `ended with code ${code}` : `was ended by ${signal}`
        // Its last words may still be on their way.
        if (!child.connected) return ended(how)
        const late = setTimeout(() => ended(how), LAST_WORDS_MS)
        child.once('disconnect', () => {
          clearTimeout(late)
          ended(how)
        })
      })
      // No such process came to be.
      child.on('error', (error) => {
        if (child.pid === undefined) ended(`could not be started: ${error.message}`)
      })
    })
    this.#listen()
    this.#send({ type: 'serve', job })
  }

  #send(message: ToDevice): void {
    // What does not arrive is no loss: the end of the process is told by itself.
    if (this.#child?.connected) this.#child.send(message, () => {})
  }

  /** Any message is a sign of life. What a driver's process says is checked, as it may be broken in any way. */
  #heard(message: unknown): void {
    this.#listen()
    if (!isFromDevice(message)) this.#note('its process said what makes no sense, which is ignored')
    else if (message.type === 'running') {
      this.#running = message
      this.#error = undefined
      if (this.#state === 'starting') this.#become('running')
      this.#note(`${message.driver}, ${message.transport} ${message.address}, process ${this.pid}`)
    } else if (message.type === 'failed') {
      const code = Object.hasOwn(errorTable, message.code) ? (message.code as ErrorCode) : 'ERR_ACCEL_IO'
      this.#told ??= accelError(code, message.message)
    } else if (message.type === 'beat') {
      const { status, opens } = message
      if (statuses.has(status) && Number.isInteger(opens) && opens >= 0) this.#beat = { status, opens }
    } else if (message.type === 'note') this.#note(message.text)
    else if (message.type === 'metrics') this.#asked.get(message.id)?.(message.text)
  }

  /** Waits for the next sign of life. */
  #listen(): void {
    clearTimeout(this.#silence)
    const { heartbeatMs } = this.#spec.supervision
    this.#silence = setTimeout(() => {
      this.#silence = setTimeout(() => {
        this.#told ??= accelError(
          'ERR_ACCEL_TIMEOUT',
          `It gave no sign of life for ${heartbeatMs} ms, and was killed`,
        )
        this.#child?.kill('SIGKILL')
      }, LAST_CHANCE_MS)
    }, heartbeatMs)
  }

  /** Its process has ended. Never rejects. */
  async #over(how: string, pid: number | undefined): Promise<void> {
    clearTimeout(this.#silence)
    clearTimeout(this.#kill)
    for (const answer of this.#asked.values()) answer(undefined)
    const ran = this.#state === 'running' ? Date.now() - this.#since : 0
    const before = this.#wish
    await removeDead(this.#spec.folder, this.name).catch((error: Error) => this.#note(error.message))
    if (this.#state === 'stopping') {
      this.#error = undefined
      this.#become('stopped')
      return
    }
    const error = this.#told ?? accelError('ERR_ACCEL_NO_DEVICE', `Process ${pid ?? 'of the device'} ${how}`)
    this.#error = error
    const { baseMs, capMs, resetMs, attempts } = this.#spec.supervision
    if (ran >= resetMs) this.#failures = 0
    const delayMs = Math.min(capMs, baseMs * 2 ** this.#failures)
    this.#failures++
    if (lasting.has(error.code) || (attempts > 0 && this.#failures > attempts)) {
      this.#become('failed')
      this.#note(`${error.message} (${error.code}). It is not tried again`)
      return
    }
    this.#retryAt = performance.now() + delayMs
    this.#become('backOff')
    this.#note(`${error.message} (${error.code}). Next attempt in ${delayMs} ms`)
    // Who waited for its end to start or stop it does that now.
    if (this.#wish === before) this.#retry = setTimeout(() => this.#spawn(), delayMs)
  }
}
