import { join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { within } from '@uaccel/accel'
import { sys } from '@uaccel/sys'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { duration } from '../units.js'
import { type Builder, type Built, builderOf } from './build.js'
import { Door } from './door.js'
import { createFlag } from './flag.js'
import { graphOf } from './graph.js'
import type { FromProcess, Line } from './messages.js'
import { type DriverPackage, readPackage } from './package.js'
import { END_MS, Process } from './process.js'
import { messageOf, Report } from './report.js'
import { type DevState, initialState, showAttributes } from './state.js'
import { FolderWatch } from './watch.js'

/** Editors write a file in several steps, and people save several files. */
const SETTLE_MS = 60
/** How long the modules of a driver or a model may take to load. */
const LOAD_MS = 20_000
/** A probe has a limit of its own below this. */
const PROBE_MS = 20_000
/** How long a command may take that is called each time. */
const CALL_MS = 30_000

/** A command that is run each time the driver is there. */
export interface Run {
  readonly name: string
  readonly input: Readonly<Record<string, unknown>>
}

export interface SessionOptions {
  /** Of the package. */
  readonly path: string
  /** Where the node is made: as for `uaccel serve`, unless told. */
  readonly folder?: string | undefined
  /** Its number: the lowest that is free, unless told. */
  readonly number?: number | undefined
  /** Have each access to memory of the model be a message. */
  readonly trapped: boolean
  /** Begin with the lines of the trace. */
  readonly tracing: boolean
  readonly runs: readonly Run[]
  /** Follow the files, until it is closed. */
  readonly watching: boolean
  readonly tell: (line: Line) => void
  /** Something of {@link DevState} changed. */
  readonly changed: () => void
  /** What a command answered, as JSON. */
  readonly answered: (run: Run, json: string) => void
}

/** A driver, its model, and their processes, for as long as somebody works on them. */
export class Session {
  readonly package: DriverPackage
  readonly state: DevState
  readonly #options: SessionOptions
  readonly #abort = new AbortController()
  readonly #door: Door
  readonly #flag = createFlag()
  readonly #report: Report
  #watch: FolderWatch | undefined
  #builder: Builder | undefined
  /** The last build: told once. */
  #built: Built | undefined
  #settling: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #again = false
  #forced: 'driver' | 'model' | undefined
  #model: Process | undefined
  #socket = ''
  #driver: Process | undefined
  #modelDigest = ''
  #driverDigest = ''
  #calls = 0
  #calling = Promise.resolve()
  readonly #processes = new Set<Process>()
  #closing: Promise<void> | undefined

  /** Use {@link Session.open}. */
  private constructor(options: SessionOptions, found: DriverPackage, door: Door) {
    this.#options = options
    this.#report = new Report(options.tell)
    this.package = found
    this.#door = door
    this.state = initialState(options.tracing)
  }

  /** Makes the node's socket; nothing runs yet. Errors are those of `readPackage` and `placeSocket`. */
  static async open(options: SessionOptions): Promise<Session> {
    const found = readPackage(options.path)
    return new Session(options, found, await Door.open(options.folder, options.number))
  }

  get node(): string {
    return this.#door.name
  }

  get path(): string {
    return this.#door.path
  }

  /** Builds, starts and calls the commands, once or until it is closed. Whether the driver runs is in {@link state}. */
  async start(): Promise<void> {
    if (this.#options.watching) this.#follow()
    await this.#update()
    await this.#calling
  }

  /** Loads the driver anew; the model stays. */
  reload(): Promise<void> {
    this.#forced ??= 'driver'
    return this.#update()
  }

  /** Starts the model anew, as after power-on, and the driver with it. */
  resetModel(): Promise<void> {
    this.#forced = 'model'
    return this.#update()
  }

  trace(on: boolean): void {
    this.state.tracing = on
    for (const each of [this.#model, this.#driver]) each?.send({ type: 'trace', on })
    this.#options.changed()
  }

  /** Brings all to rest, and leaves nothing behind. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** For who is in a hurry, at the end of this process: nothing is waited for. The others end by themselves then. */
  abandon(): void {
    this.#builder?.close()
    this.#door.remove()
  }

  async #close(): Promise<void> {
    clearTimeout(this.#settling)
    this.#watch?.close()
    this.#abort.abort()
    this.#builder?.close()
    // What is being brought up needs not end well.
    for (const each of this.#processes) if (each !== this.#driver && each !== this.#model) each.kill()
    await this.#retire('uaccel dev was ended')
    await this.#model?.stop('uaccel dev was ended')
    await this.#running?.catch(() => {})
    await Promise.all([...this.#processes].map((each) => each.stop('uaccel dev was ended')))
    this.#report.flush()
    await this.#door.close()
    sys.close(this.#flag)
  }

  #follow(): void {
    const { folder, compiler, driver } = this.package
    // What the compiler writes is looked at when it has ended.
    const output = compiler === undefined ? undefined : relative(folder, driver).split('/')[0]
    const without = new Set(output === undefined || output === 'src' ? [] : [join(folder, output)])
    this.#watch = new FolderWatch(folder, without, () => this.#touched())
  }

  #touched(): void {
    clearTimeout(this.#settling)
    this.#settling = setTimeout(() => void this.#update(), SETTLE_MS)
  }

  /** One at a time: what is asked meanwhile is done after it. */
  #update(): Promise<void> {
    this.#again = true
    this.#running ??= (async () => {
      try {
        while (this.#again && !this.#abort.signal.aborted) {
          this.#again = false
          await this.#step()
        }
      } finally {
        this.#running = undefined
      }
    })()
    return this.#running
  }

  async #step(): Promise<void> {
    const forced = this.#forced
    this.#forced = undefined
    let found: DriverPackage
    try {
      found = readPackage(this.#options.path)
      if (!(await this.#build(found))) return
    } catch (error) {
      if (!isAccelError(error)) throw error
      this.#report.say(`${error.message} (${error.code})`, 'error')
      return this.#without(error)
    }
    if (this.#abort.signal.aborted) return
    const model = graphOf(found.model, found)
    const driver = graphOf(found.driver, found)
    const fresh = forced === 'model' || !this.#model || model.digest !== this.#modelDigest
    if (fresh) {
      this.#modelDigest = model.digest
      this.#driverDigest = ''
      if (!(await this.#startModel(found, forced === 'model'))) return
    }
    if (forced === undefined && driver.digest === this.#driverDigest) return
    this.#driverDigest = driver.digest
    if (!this.#abort.signal.aborted) await this.#load(found, !fresh)
  }

  /** False where there is nothing new to run. */
  async #build({ compiler, folder }: DriverPackage): Promise<boolean> {
    if (compiler === undefined) return true
    this.#builder ??= builderOf(compiler, folder, this.#options.watching, () => this.#touched())
    this.#set('build', { state: 'building' })
    const built = await this.#builder.build()
    if (this.#abort.signal.aborted) return false
    const { ok, ms, lines } = built
    if (built === this.#built) {
      this.#set('build', { state: ok ? 'ok' : 'errors' })
      return ok
    }
    this.#built = built
    const was = this.state.build.errors.length
    this.#set('build', { state: ok ? 'ok' : 'errors', atMs: Date.now(), ms, errors: ok ? [] : lines })
    if (ok) {
      if (was > 0) this.#report.say('compiles again', 'good')
      return true
    }
    for (const line of lines) this.#report.say(line, 'error')
    const rest = this.#driver ? 'the driver from before goes on' : 'there is no driver until it does'
    this.#report.say(`does not compile: ${rest}`, 'error')
    this.#without(
      accelError('ERR_ACCEL_NO_DRIVER', `${this.node} has no driver: it does not compile: ${lines[0]}`),
    )
    return false
  }

  async #startModel({ model, folder }: DriverPackage, asked: boolean): Promise<boolean> {
    const before = this.#model
    if (before) {
      await this.#retire(`${this.node} is another device now: its model was started anew`)
      this.#model = undefined
      await before.stop('the model is started anew')
    }
    this.#set('model', { state: 'starting' })
    const started: Process = this.#fork('model')
    started.send({ type: 'trace', on: this.state.tracing })
    started.send({
      type: 'model',
      module: pathToFileURL(model).href,
      trapped: this.#options.trapped,
      claim: this.#door.claim,
    })
    try {
      const { name, socket } = await within(
        started.heard('ready'),
        LOAD_MS,
        `the model ${relative(folder, model)}`,
      )
      this.#model = started
      this.#socket = socket
      void started.ended.then((how) => this.#modelEnded(started, how))
      const { restarts } = this.state.model
      this.#set('model', {
        state: 'running',
        name,
        pid: started.pid ?? 0,
        sinceMs: Date.now(),
        restarts: before ? restarts + 1 : restarts,
      })
      const why = asked ? 'you asked for it' : 'its files changed'
      if (before)
        this.#report.say(`model ${name} was started anew, since ${why}: what it knew is lost`, 'warning')
      else this.#report.say(`model ${name} runs in process ${started.pid}`, 'good')
      return true
    } catch (error) {
      started.kill()
      await started.ended
      this.#set('model', { state: 'failed', pid: 0 })
      const what = 'the model could not be started'
      this.#report.failed(what, error, started, folder)
      this.#noDriver(what, error)
      return false
    }
  }

  #modelEnded(ended: Process, how: string): void {
    if (this.#model !== ended || this.#closing) return
    this.#model = undefined
    this.#modelDigest = ''
    this.#set('model', { state: 'failed', pid: 0 })
    this.#report.say(
      `the process of the model ${how}: what it knew is lost. It is started when a file changes, or with R`,
      'error',
    )
  }

  async #load({ driver, folder }: DriverPackage, sameModel: boolean): Promise<void> {
    const start = performance.now()
    const old = this.#driver
    if (!old) this.#set('driver', { state: 'loading', problem: '' })
    const next = this.#fork('driver')
    next.send({
      type: 'driver',
      module: pathToFileURL(driver).href,
      claim: this.#door.claim,
      minor: this.#door.number,
    })
    try {
      const { name, abi } = await within(
        next.heard('loaded'),
        LOAD_MS,
        `the driver ${relative(folder, driver)}`,
      )
      this.#set('driver', { name })
      this.#report.compare(abi)
    } catch (error) {
      next.kill()
      await next.ended
      if (old?.hasEnded === false) {
        this.#report.failed('the driver cannot be loaded, the one from before goes on', error, next, folder)
        this.#set('driver', { problem: messageOf(error) })
      } else this.#notRunning('the driver cannot be loaded', error, next, folder)
      return
    }
    await this.#retire(`the driver of ${this.node} was reloaded: open it again`)
    if (this.#abort.signal.aborted) return next.kill()
    // What waits to be opened waits for this one.
    await this.#door.admit()
    this.#driver = next
    this.#set('driver', { state: 'probing', pid: next.pid ?? 0, problem: '' })
    next.send({ type: 'probe', socket: this.#socket })
    try {
      await within(next.heard('running'), PROBE_MS, 'the probe')
    } catch (error) {
      this.#driver = undefined
      if (!next.hasEnded) await next.stop('its probe failed')
      return this.#notRunning('the driver does not come up', error, next, folder)
    }
    void next.ended.then(() => this.#driverEnded(next, folder))
    const tookMs = performance.now() - start
    const { name, sinceMs, reloads: before } = this.state.driver
    const reloads = sinceMs === 0 ? 0 : before + 1
    this.#set('driver', { state: 'running', sinceMs: Date.now(), reloads, tookMs })
    const took = duration(tookMs * 1e6)
    const kept = sameModel ? 'the model kept its state' : 'on a model that knows nothing'
    this.#report.say(
      reloads === 0
        ? `driver ${name} runs in process ${next.pid}, as ${this.path}`
        : `driver ${name} was reloaded (${reloads}) in ${took}; ${kept}`,
      'good',
    )
    // Not waited for: one that hangs is what the next change mends.
    this.#calling = this.#runAll(next)
  }

  /** Calls the commands in turn, while that driver is there. */
  async #runAll(driver: Process): Promise<void> {
    for (const run of this.#options.runs) if (this.#driver === driver) await this.#run(driver, run)
  }

  async #run(driver: Process, run: Run): Promise<void> {
    const id = ++this.#calls
    const answer = driver.heard('answered', (message) => message.id === id)
    driver.send({ type: 'call', id, name: run.name, input: run.input })
    try {
      const { ok, text } = await within(answer, CALL_MS, run.name)
      if (ok) this.#options.answered(run, text)
      else this.#report.say(`${run.name} failed: ${text}`, 'error')
    } catch (error) {
      // That it ended is told.
      if (isAccelError(error, 'ERR_ACCEL_TIMEOUT'))
        this.#report.say(`${error.message} (${error.code})`, 'error')
    }
  }

  #driverEnded(ended: Process, folder: string): void {
    if (this.#driver !== ended) return
    this.#driver = undefined
    this.#notRunning('the driver ended by itself', ended.failure, ended, folder)
  }

  /** Ends the driver that runs, with a reason for those who use it. */
  async #retire(reason: string): Promise<void> {
    const old = this.#driver
    this.#driver = undefined
    if (!old || old.hasEnded) return
    this.state.status = undefined
    this.state.attributes.clear()
    this.#set('driver', { state: 'none', pid: 0 })
    await old.stop(reason)
    if (old.wasKilled)
      this.#report.say(`the driver did not end within ${END_MS / 1000} s, and was killed`, 'error')
  }

  #notRunning(what: string, error: unknown, failed: Process, folder: string): void {
    if (this.#closing) return
    this.state.status = undefined
    this.state.attributes.clear()
    this.#set('driver', { state: 'failed', pid: 0, problem: messageOf(error) })
    this.#report.failed(what, error, failed, folder)
    this.#report.say('it is tried again when a file changes, or with r; the model keeps its state', 'plain')
    this.#noDriver(what, error)
  }

  #noDriver(what: string, cause: unknown): void {
    this.#without(
      accelError('ERR_ACCEL_NO_DRIVER', `${this.node} has no driver: ${what}: ${messageOf(cause)}`, {
        cause,
      }),
    )
  }

  /** Who wants to open the node is told why not, unless there is a driver. */
  #without(reason: AccelError): void {
    if (!this.#driver && !this.#closing) this.#door.refuse(reason)
  }

  #fork(program: 'model' | 'driver'): Process {
    const forked = new Process(program, [this.#door.fd, this.#flag], {
      message: (message) => this.#heard(message),
      wrote: (text, isError) => this.#report.say(text, isError ? 'warning' : 'plain', program),
    })
    this.#processes.add(forked)
    void forked.ended.then(() => this.#processes.delete(forked))
    return forked
  }

  #heard(message: FromProcess): void {
    if (message.type === 'lines') this.#report.pass(message.lines, message.dropped)
    else if (message.type === 'reset') this.#set('model', { resets: this.state.model.resets + 1 })
    else if (message.type === 'attributes') {
      this.state.status = { state: message.state, opens: message.opens, atMs: Date.now() }
      showAttributes(this.state, message.shown)
      this.#options.changed()
    }
  }

  #set<K extends 'build' | 'model' | 'driver'>(part: K, values: Partial<DevState[K]>): void {
    Object.assign(this.state[part], values)
    this.#options.changed()
  }
}
