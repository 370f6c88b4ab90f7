import type { DeviceIdentity, ResetKind } from '@uaccel/core'
import { closeAll } from '@uaccel/sys'
import {
  type AccelError,
  accelError,
  type Command,
  commonUapi,
  type DispatchOptions,
  FIRST_DRIVER_COMMAND,
  isAccelError,
  type QueryAnswer,
  type Reply,
  TAKEN,
} from '@uaccel/uapi'
import { AttributeTree } from './attributes.js'
import { Call, type CallHost, commandError, leavesIdle } from './call.js'
import { answerCommon } from './common.js'
import { commonAttributes } from './common-attributes.js'
import type { AccelDevice } from './device.js'
import type { AnyDriver, Probed } from './driver.js'
import type { Departure, NodeHost, NodeLimits, NodeResetOptions } from './host.js'
import { describeId } from './ids.js'
import { settled, within } from './limit.js'
import { Open, type OpenOptions } from './open.js'
import { NodeRecord } from './record.js'
import type { Telemetry } from './telemetry.js'
import { Turn } from './turn.js'
import { Utilisation } from './utilisation.js'
import { wedged } from './wedged.js'
import { NodeWork, type WorkHost } from './work.js'

/** What a node is, in the words of command `query`. */
export type NodeStatus = QueryAnswer<'status'>['state']

type AnyHandler = (request: unknown, context: { signal: AbortSignal; open: Open }) => unknown

/** What goes with a command that is dispatched. */
export interface NodeDispatchOptions extends DispatchOptions {
  /** Called once, when nothing looks at `fds` any more: a handler may go on after its call was withdrawn. */
  readonly released?: () => void
}

/** A device with its driver: `accel0`. Made by `Accel.add`. */
export class AccelNode {
  readonly name: string
  readonly minor: number
  readonly driver: AnyDriver
  readonly identity: DeviceIdentity
  /** Resolves with the reason when the device is removed or lost. Never rejects. */
  readonly lost: Promise<AccelError>
  /** @internal What it has seen. */
  readonly record = new NodeRecord()
  /** @internal */
  readonly attributes: AttributeTree
  /** @internal */
  readonly utilisation = new Utilisation()
  readonly #host: NodeHost
  /** @internal What clients hold of the device. */
  readonly work: NodeWork
  readonly #callHost: CallHost
  readonly #turn = new Turn<{ readonly label: string }>()
  readonly #opens = new Set<Open>()
  readonly #calls = new Map<Call, Promise<void>>()
  /** Handlers that have not ended. */
  readonly #running = new Map<Call, Promise<boolean>>()
  #nextOpen = 1
  #device: AccelDevice | undefined
  #probed: Probed<never> | undefined
  #recovering: Promise<void> | undefined
  /** A reset that is under way; gives what it failed with. Never rejects. */
  #restarting: Promise<AccelError | undefined> | undefined
  #reason: AccelError | undefined
  #gone = false
  /** All that it held is given back. */
  #cleaned = false
  /** Why the last reset was refused: the device may need one. */
  #unreset: AccelError | undefined
  #released: Promise<void> | undefined
  #resolveLost!: (reason: AccelError) => void

  /** @internal */
  constructor(minor: number, driver: AnyDriver, identity: DeviceIdentity, host: NodeHost) {
    this.minor = minor
    this.name = `accel${minor}`
    this.driver = driver
    this.identity = identity
    this.#host = host
    this.work = new NodeWork(this.#workHost())
    this.#callHost = {
      holder: () => this.#turn.holder,
      ended: (call, error) => {
        if (call.command.number >= FIRST_DRIVER_COMMAND) this.record.ended(call, error)
      },
    }
    this.attributes = new AttributeTree({
      name: this.name,
      limitMs: host.limits.attributeMs,
      common: () => commonAttributes(this),
      ready: async () => void (await this.ready()),
    })
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve
    })
  }

  /** Why the node is gone; `undefined` while it is there. */
  get reason(): AccelError | undefined {
    return this.#reason
  }

  /** `wedged`: the device did not come back from a reset, and was let go; {@link reason} says what to do. */
  get state(): 'live' | 'resetting' | 'wedged' | 'gone' {
    if (this.#reason) return this.#reason.code === 'ERR_ACCEL_WEDGED' ? 'wedged' : 'gone'
    return this.#restarting ? 'resetting' : 'live'
  }

  /** The same in the words of command `query`, kind `status`, with the reason. */
  get status(): { readonly state: NodeStatus; readonly reason: string } {
    const reason = this.#reason?.message ?? ''
    if (this.state === 'wedged') return { state: 'malfunction', reason }
    if (this.#reason) return { state: this.#cleaned ? 'removed' : 'beingCleaned', reason }
    if (this.#restarting) return { state: 'inReset', reason }
    if (!this.#probed) return { state: 'beingCreated', reason }
    if (this.#unreset) return { state: 'needsReset', reason: this.#unreset.message }
    return { state: 'operational', reason }
  }

  /** @internal */
  get limits(): NodeLimits {
    return this.#host.limits
  }

  /** @internal Those that hold it, in order of their ids. */
  get opens(): ReadonlySet<Open> {
    return this.#opens
  }

  /** @internal */
  get device(): AccelDevice | undefined {
    return this.#device
  }

  /** @internal What the driver knows of its device. */
  get telemetry(): Telemetry {
    return this.#probed?.telemetry ?? {}
  }

  /** @internal Resolves once no reset is under way, with what the driver knows of its device. */
  async ready(): Promise<Telemetry> {
    await this.#restarting
    this.#check()
    return this.telemetry
  }

  /**
   * Resets the device: the commands under way end with `ERR_ACCEL_IO`, those that come wait. The driver takes it through with
   * `beforeReset` and `afterReset`; without them, or where one fails, the device is probed anew, and opens that had state in
   * it end. Who asks during a reset gets that one.
   *
   * @throws ERR_ACCEL_UNSUPPORTED it has no such reset, and nothing was done
   * @throws ERR_ACCEL_BUSY it would have hit other devices: it was probed anew without
   * @throws ERR_ACCEL_WEDGED it did not come back
   */
  async reset({ kind, reason = 'its owner asked for it' }: NodeResetOptions = {}): Promise<void> {
    this.#check()
    const resets = this.#device?.resets ?? []
    if (kind === undefined ? resets.length === 0 : !resets.includes(kind)) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.name} has no ${kind ?? ''} reset; there are: ${resets.join(', ') || 'none'}`,
      )
    }
    const why = accelError('ERR_ACCEL_IO', `${this.name} was reset: ${reason}`)
    const failure = await this.#restart(why, kind, this.#recovering)
    if (failure) throw failure
  }

  /** @internal The device is on its way out before it was brought up. */
  giveUpProbe(reason: AccelError): void {
    this.#device?.withdraw(reason)
  }

  /** @internal Brings the device up. What a failed probe had taken is released before this throws. */
  async probe(): Promise<void> {
    const { limits, bringUp } = this.#host
    // A restart may get here after the node was released.
    this.#check()
    const device = bringUp((event) => this.record.events.publish(event))
    this.#device = device
    try {
      const probing = Promise.resolve().then(() => this.driver.probe(device))
      const gone = rejection(device.signal) // nothing that a probe waits for comes from a device that is gone
      const probed = await within(
        Promise.race([probing, gone]),
        limits.probeMs,
        `probe of ${this.driver.name}`,
      )
      device.signal.throwIfAborted()
      // A driver in plain JavaScript may forget what the types ask of it.
      if (!(probed as typeof probed | undefined)?.commands) {
        throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'probe answered no table of commands')
      }
      for (const name of Object.keys(this.driver.uapi.commands)) {
        if (typeof (probed.commands as Record<string, unknown>)[name] !== 'function') {
          throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `probe answered no handler for command ${name}`)
        }
      }
      this.attributes.adopt(probed.attributes)
      this.#probed = probed
      device.signal.addEventListener('abort', () => this.#deviceEnded(device), { once: true })
    } catch (cause) {
      this.#device = undefined
      await this.#releaseDevice(device, limits.settleMs)
      const message = cause instanceof Error ? cause.message : String(cause)
      throw accelError(
        'ERR_ACCEL_PROBE_FAILED',
        `Driver ${this.driver.name} could not bring up ${describeId(this.identity)} at ${this.identity.transport.address}: ${message}`,
        { cause },
      )
    }
  }

  /** Opens the device: what one user of it holds, with all rights unless told. */
  open(options?: OpenOptions): Open {
    this.#check()
    this.work.queues.checkFree()
    const open = new Open(this.#nextOpen++, options, this.record.events.last)
    this.#opens.add(open)
    this.record.opens.add(open.record)
    this.attributes.changed('opens/current')
    return open
  }

  /** Ends the open's calls, waits for the hardware to be done with them, and frees what belongs to it. Idempotent. */
  async close(open: Open): Promise<void> {
    if (!this.#opens.delete(open)) return
    this.attributes.changed('opens/current')
    const closed = accelError('ERR_ACCEL_CLOSED', `Open ${open.id} of ${this.name} was closed`)
    open.shut(closed)
    const serving: Promise<void>[] = []
    for (const [call, served] of this.#calls) {
      if (call.open !== open) continue
      call.fail(closed)
      serving.push(served)
    }
    await Promise.all(serving)
    await this.#releaseOpen(open)
  }

  /**
   * Runs a command given in its binary form.
   *
   * @throws ERR_ACCEL_UNKNOWN_COMMAND, the refusals of its codec, what its handler throws, ERR_ACCEL_ABORTED,
   *   ERR_ACCEL_TIMEOUT, ERR_ACCEL_CLOSED, ERR_ACCEL_NO_DEVICE
   */
  async dispatch(
    open: Open,
    number: number,
    bytes: Uint8Array,
    options: NodeDispatchOptions = {},
  ): Promise<Reply> {
    const { released = () => {} } = options
    const common = number < FIRST_DRIVER_COMMAND
    let call: Call | undefined
    try {
      // The last events of a device are told when it is gone, too.
      if (number !== commonUapi.commands.events.number || !open.lost) {
        this.#check()
        open.check()
      }
      let request: unknown
      try {
        const command = (common ? commonUapi : this.driver.uapi).byNumber(number)
        request = decodeRequest(command, bytes, options.fds)
        call = new Call(open, command, options, this.#callHost)
      } catch (error) {
        if (!common) this.record.refusals++
        throw error
      }
      if (!common) this.record.submitted(call)
      const serving = common ? this.#answer(call, request, released) : this.#serve(call, request, released)
      this.#calls.set(
        call,
        serving.finally(() => this.#calls.delete(call!)),
      )
    } finally {
      if (!call) released()
    }
    return call.reply
  }

  /** Answers a common command beside all others. Nothing waits for what goes on when the call has ended for its caller. */
  #answer(call: Call, request: unknown, released: () => void): Promise<void> {
    const ended = () => {}
    const answering = answerCommon(this, call, request).finally(released)
    return Promise.race([answering, call.reply.then(ended, ended)])
  }

  /** @internal Takes the device away: ends all calls with `reason`, then releases everything. Idempotent. */
  release(reason: AccelError, why: Departure): Promise<void> {
    this.#released ??= this.#takeDown(reason, why)
    return this.#released
  }

  /** The device was lost without its transport saying so: its driver reset it, and it did not come back. */
  #deviceEnded(device: AccelDevice): void {
    if (this.#device !== device || this.#reason || this.#restarting) return
    const reason = device.signal.reason as AccelError
    const cause = isAccelError(reason.cause, 'ERR_ACCEL_WEDGED') ? reason.cause : undefined
    void this.release(cause ? wedged(this.name, this.identity, cause) : reason, 'gone')
  }

  #check(): void {
    if (this.#reason) throw this.#noDevice(this.#reason)
  }

  #noDevice(cause: AccelError): AccelError {
    return accelError('ERR_ACCEL_NO_DEVICE', `${this.name} is gone: ${cause.message}`, { cause })
  }

  /** Gives the call its turn, runs it, and keeps the turn until the hardware is idle. Never rejects. */
  async #serve(call: Call, request: unknown, released: () => void): Promise<void> {
    let giveBack: (() => void) | undefined
    let running: Promise<boolean> | undefined
    try {
      if (!call.command.concurrent) {
        giveBack = await this.#turn.take(call, call.signal)
        if (!giveBack) return
      }
      await this.#restarting
      if (this.#reason) call.fail(this.#noDevice(this.#reason))
      if (call.ended) return
      running = this.#run(call, request)
      this.#running.set(call, running)
      void running.then(() => this.#running.delete(call))
      // The caller is told at once when it fails; the handler has some time to notice.
      const failed = new Promise<void>((resolve) => {
        call.signal.addEventListener('abort', () => resolve(), { once: true })
      })
      await Promise.race([running, failed])
      const idle = await settled(running, this.#host.limits.settleMs)
      if (idle === true || call.command.concurrent || this.#restarting) return
      await this.#recoverOnce(call.label, running)
    } finally {
      giveBack?.()
      if (running) void running.then(released)
      else released()
    }
  }

  /** Runs the handler and answers whether it left the hardware idle. Never rejects. */
  async #run(call: Call, request: unknown): Promise<boolean> {
    const { command, open, signal } = call
    call.started = true
    this.record.began(call)
    const fds: number[] = []
    try {
      const commands = this.#probed!.commands as Record<string, AnyHandler>
      const answer = await commands[command.name](request, { signal, open })
      const bytes = command.out.encode((answer ?? {}) as never, fds)
      if (call.ended) closeAll(fds.splice(0))
      call.finish({ bytes, fds })
      return true
    } catch (error) {
      closeAll(fds.splice(0))
      const withdrawn = signal.aborted
      call.fail(commandError(call, error))
      return !withdrawn && leavesIdle(error)
    } finally {
      this.record.left(call)
    }
  }

  /** For whoever has the turn. */
  #recoverOnce(label: string, running: Promise<boolean>): Promise<void> {
    this.#recovering = this.#recover(label, running).finally(() => {
      this.#recovering = undefined
      this.work.scheduler.pump()
    })
    return this.#recovering
  }

  /** What jobs and buffers need of this node. */
  #workHost(): WorkHost {
    const node = this
    return {
      name: this.name,
      limits: this.#host.limits,
      quotas: this.#host.quotas,
      get takesJobs() {
        return node.#probed === undefined || node.#probed.submit !== undefined
      },
      get takesQueues() {
        return node.#probed?.queues !== undefined
      },
      queueOffer: () => (node.#restarting || node.#recovering ? undefined : node.#probed?.queues),
      opens: () => this.#opens,
      domain: () => (this.#probed && !this.#device?.signal.aborted ? this.#device?.dma : undefined),
      target() {
        const probed = node.#probed
        if (!probed?.submit || node.#restarting || node.#recovering) return undefined
        const domain = this.domain()
        if (!domain) return undefined
        return { domain, depth: probed.depth ?? 1, submit: (job, context) => probed.submit!(job, context) }
      },
      recover: (label) => this.#recoverJob(label),
      report: (what, cause) => this.#reportAs(what, cause),
    }
  }

  /** Has the device brought to idle after a job; whatever does so already is enough. Answers whether it is there. Never rejects. */
  async #recoverJob(label: string): Promise<boolean> {
    // One on its way out is released, and its memory waits for that.
    const needed = () => !this.#recovering && !this.#restarting && !this.#reason
    if (needed()) {
      const giveBack = await this.#turn.take({ label }, new AbortController().signal)
      try {
        if (needed()) await this.#recoverOnce(label, Promise.resolve(true))
      } finally {
        giveBack?.()
      }
    }
    await this.#recovering
    await this.#restarting
    return this.#reason === undefined
  }

  /** Brings the hardware to idle: by the driver, else by a reset. Without success the device is lost. */
  async #recover(label: string, running: Promise<boolean>): Promise<void> {
    if (this.#gone) return
    const { limits } = this.#host
    const recover = this.#probed?.recover
    const why = `after ${label}`
    try {
      this.#device?.checkPresent() // nothing that a driver does helps against a device that is not there
      if (!recover) throw accelError('ERR_ACCEL_UNSUPPORTED', `Driver ${this.driver.name} has no recover`)
      const signal = AbortSignal.timeout(limits.recoverMs)
      await within(
        Promise.resolve().then(() => recover.call(this.#probed, { signal })),
        limits.recoverMs,
        `recover ${why}`,
      )
      if ((await settled(running, limits.settleMs)) === undefined) {
        throw accelError('ERR_ACCEL_TIMEOUT', `The handler of ${label} ignores its signal`)
      }
    } catch (error) {
      // A device on its way out is not reset: it is released. One that is being reset needs nothing else.
      if (this.#reason || this.#restarting) return
      this.#report(
        accelError('ERR_ACCEL_IO', `${this.name} did not recover ${why} and is reset`, { cause: error }),
      )
      await this.#restart(accelError('ERR_ACCEL_IO', `${this.name} was reset because of ${label}`))
    }
  }

  /** One reset at a time, once `before` has ended. Answers what it failed with. Never rejects. */
  #restart(why: AccelError, kind?: ResetKind, before?: Promise<void>): Promise<AccelError | undefined> {
    if (this.#restarting) return this.#restarting
    const over = this.record.resetting(kind ?? 'default', why.message)
    this.#restarting = this.#resetDevice(why, kind, before).then((failure) => {
      this.#restarting = undefined
      this.#unreset = failure
      over(failure, this.#reason !== undefined)
      this.attributes.changed('state')
      if (!failure && !this.#reason) this.#host.reset(why)
      this.work.scheduler.pump()
      return failure
    })
    this.attributes.changed('state')
    return this.#restarting
  }

  async #resetDevice(
    why: AccelError,
    kind: ResetKind | undefined,
    before: Promise<void> | undefined,
  ): Promise<AccelError | undefined> {
    const { limits } = this.#host
    for (const call of this.#running.keys()) call.fail(why)
    this.work.scheduler.interrupt(why)
    const handlers = Promise.all(this.#running.values())
    let ended = (await settled(handlers, limits.settleMs)) !== undefined
    await before
    const device = this.#device
    try {
      if (!device) throw accelError('ERR_ACCEL_NO_DEVICE', `${this.name} has no device`)
      let refusal: AccelError | undefined
      if (!ended || !(await this.#resetInPlace(device, kind))) {
        await this.#shutState(why)
        this.#probed = undefined
        refusal = await refusalOf(device.reset({ ...(kind === undefined ? {} : { kind }) }))
        this.#device = undefined
        await this.#releaseDevice(device, limits.recoverMs)
        // Its memory is gone and each touch of the old device throws: the handlers end now or are broken.
        ended ||= (await settled(handlers, limits.settleMs)) !== undefined
        if (!ended) throw accelError('ERR_ACCEL_TIMEOUT', 'A handler does not end')
        this.work.wasReset(why)
        await this.probe()
      } else this.work.wasReset(why)
      return refusal
    } catch (cause) {
      const error = wedged(this.name, this.identity, cause)
      // Not awaited: the release waits for those who wait for this.
      void this.release(error, 'gone')
      return this.#reason ?? error
    }
  }

  /** Takes the driver through a reset; false where it has no hooks for it, or they fail, and it has to be probed anew. */
  async #resetInPlace(device: AccelDevice, kind: ResetKind | undefined): Promise<boolean> {
    const probed = this.#probed
    if (!probed?.beforeReset || !probed.afterReset) return false
    const { limits } = this.#host
    const hook = (name: 'beforeReset' | 'afterReset') => {
      const signal = AbortSignal.timeout(limits.recoverMs)
      const running = Promise.resolve().then(() => probed[name]?.({ signal }))
      return within(running, limits.recoverMs, `${name} of ${this.driver.name}`)
    }
    try {
      await hook('beforeReset')
      await device.reset({ ...(kind === undefined ? {} : { kind }) })
      await hook('afterReset')
      return true
    } catch (error) {
      if (device.signal.aborted || this.#reason) throw error
      this.#reportAs(
        `Driver ${this.driver.name} did not take ${this.name} through its reset, and is probed anew`,
        error,
      )
      return false
    }
  }

  /** Ends the opens that had state in the driver. */
  async #shutState(why: AccelError): Promise<void> {
    for (const open of this.#opens) {
      if (!open.hasState) continue
      open.shut(accelError('ERR_ACCEL_CLOSED', `${why.message}; what open ${open.id} had in it is lost`))
      await this.#releaseOpen(open)
    }
  }

  async #takeDown(reason: AccelError, why: Departure): Promise<void> {
    const { settleMs, recoverMs, removeMs, requestMs } = this.#host.limits
    const limitMs = { removed: removeMs, wanted: requestMs, gone: 2 * settleMs }[why]
    const end = performance.now() + limitMs
    const leftMs = () => Math.max(0, end - performance.now())
    this.#reason = reason
    this.#gone = why === 'gone'
    if (why === 'gone') this.#host.lost(reason)
    this.#resolveLost(reason)
    const error = this.#noDevice(reason)
    for (const open of this.#opens) open.shut(error)
    const common: Call[] = []
    for (const call of this.#calls.keys()) {
      if (call.command.number < FIRST_DRIVER_COMMAND) common.push(call)
      else call.fail(error)
    }
    // Those who wait for events are told of this one; what is not answered in this turn fails after it.
    const { events } = this.record
    if (why === 'wanted') events.publish({ kind: 'request', reason: reason.message, error: reason.code })
    events.publish({ kind: 'removal', reason: reason.message, error: reason.code })
    this.attributes.changed('state')
    setImmediate(() => {
      for (const call of common) call.fail(error)
    })
    const device = this.#device
    device?.withdraw(reason)
    // What is left is for bringing the device to rest.
    const callsMs = Math.min(limitMs / 2, why === 'gone' ? settleMs : settleMs * 2 + recoverMs)
    await settled(Promise.all(this.#calls.values()), callsMs)
    await settled(Promise.all([...this.#opens].map((open) => this.#releaseOpen(open))), leftMs() / 2)
    this.#opens.clear()
    this.#device = undefined
    this.#probed = undefined
    if (device) await this.#releaseDevice(device, leftMs())
    this.work.destroy(error)
    try {
      await this.#host.gone()
    } catch (error) {
      this.#reportAs(`The transport of ${this.name} was not closed cleanly`, error)
    } finally {
      this.#cleaned = true
    }
  }

  async #releaseOpen(open: Open): Promise<void> {
    try {
      await this.work.close(open, open.closed)
      await open.release()
    } catch (error) {
      this.#reportAs(`What open ${open.id} of ${this.name} held was not freed cleanly`, error)
    }
  }

  async #releaseDevice(device: AccelDevice, limitMs: number): Promise<void> {
    try {
      await device.release({ limitMs })
    } catch (error) {
      this.#reportAs(`${this.name} was not released cleanly`, error)
    }
  }

  #reportAs(what: string, cause: unknown): void {
    const code = isAccelError(cause) ? cause.code : 'ERR_ACCEL_IO'
    this.#report(accelError(code, `${what}: ${cause instanceof Error ? cause.message : cause}`, { cause }))
  }

  #report(error: AccelError): void {
    this.record.events.publish({ kind: 'error', reason: error.message, error: error.code })
    this.#host.report(error)
  }
}

/** Decodes what was sent with a command. Each descriptor that came with it has a place in it. */
function decodeRequest(command: Command, bytes: Uint8Array, given: readonly number[] = []): unknown {
  const fds = [...given]
  const request = command.in.decode(bytes, fds)
  const unnamed = fds.filter((fd) => fd !== TAKEN).length
  if (unnamed === 0) return request
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `${unnamed} of the ${fds.length} descriptors that came with ${command.name} have no place in it`,
  )
}

/** The error of a reset that was refused because it would have hit others. */
async function refusalOf(reset: Promise<void>): Promise<AccelError | undefined> {
  try {
    await reset
    return undefined
  } catch (error) {
    if (isAccelError(error, 'ERR_ACCEL_BUSY')) return error
    throw error
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
