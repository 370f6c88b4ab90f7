import type { DeviceIdentity } from '@uaccel/core'
import {
  type AccelError,
  accelError,
  commonUapi,
  type DispatchOptions,
  FIRST_DRIVER_COMMAND,
  isAccelError,
  type QueryAnswer,
  type Reply,
} from '@uaccel/uapi'
import { AttributeTree } from './attributes.js'
import { Call, type CallHost, decodeRequest } from './call.js'
import { answerCommon } from './common.js'
import { commonAttributes } from './common-attributes.js'
import type { AccelDevice } from './device.js'
import type { DmaTester } from './dma-test.js'
import type { AnyDriver } from './driver.js'
import type { Departure, NodeHost, NodeLimits, NodeResetOptions } from './host.js'
import { describeId } from './ids.js'
import { DriverInstance, type InstanceHost } from './instance.js'
import { settled } from './limit.js'
import { Open, type OpenOptions } from './open.js'
import type { Quotas } from './quota.js'
import { NodeRecord } from './record.js'
import { Recovery, type RecoveryHost } from './recovery.js'
import { CommandRunner } from './runner.js'
import type { Telemetry } from './telemetry.js'
import { NodeTracing } from './tracing.js'
import { Turn } from './turn.js'
import { Utilisation } from './utilisation.js'
import { wedged } from './wedged.js'
import { NodeWork, type WorkHost } from './work.js'

/** What a node is, in the words of command `query`. */
export type NodeStatus = QueryAnswer<'status'>['state']

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
  /** @internal */
  readonly tracing: NodeTracing
  readonly #host: NodeHost
  /** @internal What clients hold of the device. */
  readonly work: NodeWork
  readonly #callHost: CallHost
  readonly #instance: DriverInstance
  readonly #runner: CommandRunner
  readonly #recovery: Recovery
  readonly #opens = new Set<Open>()
  readonly #calls = new Map<Call, Promise<void>>()
  #nextOpen = 1
  #reason: AccelError | undefined
  #gone = false
  /** All that it held is given back. */
  #cleaned = false
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
    this.#instance = new DriverInstance(this.#instanceHost())
    const turn: Turn<{ readonly label: string }> = new Turn()
    this.#recovery = new Recovery(this.#recoveryHost(turn))
    this.#runner = new CommandRunner(turn, {
      limits: host.limits,
      record: this.record,
      instance: this.#instance,
      recovery: this.#recovery,
      check: () => this.#check(),
    })
    this.#callHost = {
      holder: () => turn.holder,
      ended: (call, error) => {
        const { open, command, started } = call
        if (command.number >= FIRST_DRIVER_COMMAND) this.record.ended(open, 'command', started, error)
      },
    }
    this.tracing = new NodeTracing({
      name: this.name,
      driver,
      title: `${describeId(identity)} at ${identity.transport.address} (${identity.transport.kind})`,
      record: this.record,
      device: () => this.device,
      file: host.traceFile,
      folder: host.traceFolder,
    })
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
    return this.#recovery.restarting ? 'resetting' : 'live'
  }

  /** The same in the words of command `query`, kind `status`, with the reason. */
  get status(): { readonly state: NodeStatus; readonly reason: string } {
    const reason = this.#reason?.message ?? ''
    if (this.state === 'wedged') return { state: 'malfunction', reason }
    if (this.#reason) return { state: this.#cleaned ? 'removed' : 'beingCleaned', reason }
    if (this.#recovery.restarting) return { state: 'inReset', reason }
    if (!this.#instance.probed) return { state: 'beingCreated', reason }
    const { unreset } = this.#recovery
    if (unreset) return { state: 'needsReset', reason: unreset.message }
    return { state: 'operational', reason }
  }

  /** @internal */
  get limits(): NodeLimits {
    return this.#host.limits
  }

  /** @internal */
  get quotas(): Quotas {
    return this.#host.quotas
  }

  /** @internal Those that hold it, in order of their ids. */
  get opens(): ReadonlySet<Open> {
    return this.#opens
  }

  /** @internal */
  get device(): AccelDevice | undefined {
    return this.#instance.device
  }

  /** How the device copies memory, where its driver says; for {@link testDma}, while nobody uses the node. */
  get dmaTest(): DmaTester | undefined {
    return this.#instance.probed?.dmaTest
  }

  /** Address bits that the driver says the device has; undefined while it is being brought up or down. */
  get dmaAddressBits(): number | undefined {
    return this.#instance.device?.dmaAddressBits
  }

  /** @internal How many jobs the driver takes at once; undefined where it takes none. */
  get jobDepth(): number | undefined {
    return this.#instance.jobDepth
  }

  /** @internal What the driver knows of its device. */
  get telemetry(): Telemetry {
    return this.#instance.telemetry
  }

  /** @internal Resolves once no reset is under way, with what the driver knows of its device. */
  async ready(): Promise<Telemetry> {
    while (this.#recovery.restarting) await this.#recovery.restarting
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
    const resets = this.device?.resets ?? []
    // In the middle of a reset there may be no device to ask; whoever asks then gets that one.
    const under = this.#recovery.restarting !== undefined
    if (!under && (kind === undefined ? resets.length === 0 : !resets.includes(kind))) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${this.name} has no ${kind ?? ''} reset; there are: ${resets.join(', ') || 'none'}`,
      )
    }
    const why = accelError('ERR_ACCEL_IO', `${this.name} was reset: ${reason}`)
    const failure = await this.#recovery.reset(why, kind)
    if (failure) throw failure
  }

  /** @internal The device is on its way out before it was brought up. */
  giveUpProbe(reason: AccelError): void {
    this.device?.withdraw(reason)
  }

  /** @internal Brings the device up. What a failed probe had taken is released before this throws. */
  async probe(): Promise<void> {
    try {
      await this.#instance.probe()
    } catch (error) {
      this.tracing.close()
      throw error
    }
  }

  /** Opens the device: what one user of it holds, with all rights unless told. */
  open(options?: OpenOptions): Open {
    this.#check()
    this.work.queues.checkFree()
    const { openWaits } = this.#host.quotas
    const open = new Open(this.#nextOpen++, options, this.record.events.last, openWaits)
    this.#opens.add(open)
    this.record.opens.add(open.record)
    this.attributes.changed('opens/current')
    return open
  }

  /** Resolves once no job of the open is left, however they ended. */
  jobsEnded(open: Open): Promise<void> {
    return this.work.jobsEnded(open)
  }

  /** Ends the open's calls, waits for the hardware to be done with them, and frees what belongs to it. Idempotent. */
  async close(open: Open): Promise<void> {
    if (!this.#opens.delete(open)) return
    this.attributes.changed('opens/current')
    const closed = accelError('ERR_ACCEL_CLOSED', `Open ${open.id} of ${this.name} was closed`)
    await Promise.all(this.#shut(open, closed))
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
        if (!common || number === commonUapi.commands.submit.number) this.record.refusals++
        throw error
      }
      if (!common) this.record.submitted(open)
      const serving = common
        ? this.#answer(call, request, released)
        : this.#runner.serve(call, request, released)
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
  #deviceEnded(reason: AccelError): void {
    if (this.#reason || this.#recovery.restarting) return
    const cause = isAccelError(reason.cause, 'ERR_ACCEL_WEDGED') ? reason.cause : undefined
    void this.release(cause ? wedged(this.name, this.identity, cause) : reason, 'gone')
  }

  #check(): void {
    if (this.#reason) throw this.#noDevice(this.#reason)
  }

  #noDevice(cause: AccelError): AccelError {
    return accelError('ERR_ACCEL_NO_DEVICE', `${this.name} is gone: ${cause.message}`, { cause })
  }

  #instanceHost(): InstanceHost {
    const { name, driver, identity } = this
    const { limits, bringUp } = this.#host
    return {
      ...{ name, driver, identity, limits },
      check: () => this.#check(),
      bringUp: () => this.tracing.adopt(bringUp((event) => this.record.events.publish(event))),
      adopt: (attributes) => this.attributes.adopt(attributes),
      ended: (reason) => this.#deviceEnded(reason),
      reportAs: (what, cause) => this.#reportAs(what, cause),
    }
  }

  #recoveryHost(turn: RecoveryHost['turn']): RecoveryHost {
    const node = this
    const { scheduler } = this.work
    return {
      name: this.name,
      driver: this.driver.name,
      limits: this.#host.limits,
      record: this.record,
      instance: this.#instance,
      turn,
      get reason() {
        return node.#reason
      },
      get gone() {
        return node.#gone
      },
      interrupt: (why) => {
        const handlers = this.#runner.interrupt(why)
        scheduler.interrupt(why)
        return handlers
      },
      wasReset: (why, how) => this.work.wasReset(why, how),
      shutState: (why) => this.#shutState(why),
      giveUp: (cause) => {
        const error = wedged(this.name, this.identity, cause)
        // Not awaited: the release waits for those who wait for this.
        void this.release(error, 'gone')
        return this.#reason ?? error
      },
      changed: (over) => {
        this.attributes.changed('state')
        if (over && !over.failure && !this.#reason) this.#host.reset(over.why)
      },
      pump: () => scheduler.pump(),
      report: (error) => this.#report(error),
      reportAs: (what, cause) => this.#reportAs(what, cause),
    }
  }

  /** What jobs and buffers need of this node. */
  #workHost(): WorkHost {
    const node = this
    return {
      name: this.name,
      limits: this.#host.limits,
      quotas: this.#host.quotas,
      record: this.record,
      get takesJobs() {
        return node.#instance.takesJobs
      },
      get takesQueues() {
        return node.#instance.probed === undefined || node.#instance.probed.queues !== undefined
      },
      queueOffer: () => (this.#recovery.busy ? undefined : this.#instance.probed?.queues),
      opens: () => this.#opens,
      domain: () => this.#instance.domain,
      target: () => (this.#recovery.busy ? undefined : this.#instance.target),
      recover: (label) => this.#recovery.afterJob(label),
      report: (what, cause) => this.#reportAs(what, cause),
    }
  }

  /** Refuses what comes through an open, and ends what came. Answers when the hardware is done with it. */
  #shut(open: Open, reason: AccelError): Promise<void>[] {
    open.shut(reason)
    const calls = [...this.#calls].filter(([call]) => call.open === open)
    for (const [call] of calls) call.fail(open.closed)
    return calls.map(([, served]) => served)
  }

  /** Ends the opens that had state in the driver. */
  async #shutState(why: AccelError): Promise<void> {
    for (const open of this.#opens) {
      if (!open.hasState) continue
      const lost = `${why.message}; what open ${open.id} had in it is lost`
      // Not awaited: what waits for its turn has it after the reset, and is not run.
      this.#shut(open, accelError('ERR_ACCEL_CLOSED', lost))
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
    this.device?.withdraw(reason)
    // What is left is for bringing the device to rest.
    const callsMs = Math.min(limitMs / 2, why === 'gone' ? settleMs : settleMs * 2 + recoverMs)
    await settled(Promise.all(this.#calls.values()), callsMs)
    await settled(Promise.all([...this.#opens].map((open) => this.#releaseOpen(open))), leftMs() / 2)
    this.#opens.clear()
    await this.#instance.release(leftMs())
    this.work.destroy(error)
    try {
      await this.#host.gone()
    } catch (error) {
      this.#reportAs(`The transport of ${this.name} was not closed cleanly`, error)
    } finally {
      this.tracing.close()
      this.#cleaned = true
    }
  }

  async #releaseOpen(open: Open): Promise<void> {
    this.tracing.leave(open)
    try {
      await this.work.close(open, open.closed)
      await open.release()
    } catch (error) {
      this.#reportAs(`What open ${open.id} of ${this.name} held was not freed cleanly`, error)
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
