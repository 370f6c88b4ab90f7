import type { DeviceIdentity } from '@uaccel/core'
import { type AccelError, accelError, commonUapi, FIRST_DRIVER_COMMAND, isAccelError } from '@uaccel/uapi'
import { Call, type CallOptions, commandError, leavesIdle, type Reply } from './call.js'
import { answerCommon } from './common.js'
import type { AccelDevice } from './device.js'
import type { AnyDriver, Probed } from './driver.js'
import { describeId } from './ids.js'
import { settled, within } from './limit.js'
import { Open } from './open.js'
import { Turn } from './turn.js'

/** Limits of what a driver may take, in milliseconds. */
export interface NodeLimits {
  /** For `probe`. 30 seconds unless told. */
  readonly probeMs: number
  /** For `recover`. 10 seconds unless told. */
  readonly recoverMs: number
  /** For a handler to end once its signal is aborted. 2 seconds unless told. */
  readonly settleMs: number
}

/** What a node needs from the subsystem that it belongs to. */
export interface NodeHost {
  readonly limits: NodeLimits
  /** Makes the device that `probe` gets; anew after each reset. */
  bringUp(): AccelDevice
  /** Something went wrong that no caller is told of. */
  report(error: AccelError): void
  /** The device vanished or does not work any more: told first, before anything is released. */
  lost(reason: AccelError): void
  /** All that the node held is released. */
  gone(): Promise<void>
}

type AnyHandler = (request: unknown, context: { signal: AbortSignal; open: Open }) => unknown

/** A device with its driver: `accel0`. Made by `Accel.add`. */
export class AccelNode {
  readonly name: string
  readonly minor: number
  readonly driver: AnyDriver
  readonly identity: DeviceIdentity
  /** Resolves with the reason when the device is removed or lost. Never rejects. */
  readonly lost: Promise<AccelError>
  readonly #host: NodeHost
  readonly #turn = new Turn<Call>()
  readonly #opens = new Set<Open>()
  readonly #calls = new Map<Call, Promise<void>>()
  #nextOpen = 1
  #device: AccelDevice | undefined
  #probed: Probed<never> | undefined
  #restarting: Promise<void> | undefined
  #reason: AccelError | undefined
  #gone = false
  #released: Promise<void> | undefined
  #resolveLost!: (reason: AccelError) => void

  /** @internal */
  constructor(minor: number, driver: AnyDriver, identity: DeviceIdentity, host: NodeHost) {
    this.minor = minor
    this.name = `accel${minor}`
    this.driver = driver
    this.identity = identity
    this.#host = host
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve
    })
  }

  /** Why the node is gone; `undefined` while it is there. */
  get reason(): AccelError | undefined {
    return this.#reason
  }

  /** @internal Brings the device up. What a failed probe had taken is released before this throws. */
  async probe(): Promise<void> {
    const { limits, bringUp } = this.#host
    // A restart may get here after the node was released.
    this.#check()
    const device = bringUp()
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
      this.#probed = probed
      device.signal.addEventListener('abort', () => this.#deviceEnded(device), { once: true })
    } catch (cause) {
      this.#device = undefined
      await this.#releaseDevice(device)
      const message = cause instanceof Error ? cause.message : String(cause)
      throw accelError(
        'ERR_ACCEL_PROBE_FAILED',
        `Driver ${this.driver.name} could not bring up ${describeId(this.identity)} at ${this.identity.transport.address}: ${message}`,
        { cause },
      )
    }
  }

  /** Opens the device: what one user of it holds. */
  open(): Open {
    this.#check()
    const open = new Open(this.#nextOpen++)
    this.#opens.add(open)
    return open
  }

  /** Ends the open's calls, waits for the hardware to be done with them, and frees what belongs to it. Idempotent. */
  async close(open: Open): Promise<void> {
    if (!this.#opens.delete(open)) return
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
    options: CallOptions & { readonly fds?: readonly number[] } = {},
  ): Promise<Reply> {
    this.#check()
    open.check()
    const common = number < FIRST_DRIVER_COMMAND
    const command = (common ? commonUapi : this.driver.uapi).byNumber(number)
    const request = command.in.decode(bytes, options.fds)
    if (common) return answerCommon(this, command.name)
    const call = new Call(open, command, options, () => this.#turn.holder)
    const serving = this.#serve(call, request).finally(() => this.#calls.delete(call))
    this.#calls.set(call, serving)
    return call.reply
  }

  /** @internal Takes the device away: ends all calls with `reason`, then releases everything. Idempotent. */
  release(reason: AccelError, { gone }: { gone: boolean }): Promise<void> {
    this.#released ??= this.#takeDown(reason, gone)
    return this.#released
  }

  /** The device was lost without its transport saying so: its driver reset it, and it did not come back. */
  #deviceEnded(device: AccelDevice): void {
    if (this.#device !== device || this.#reason || this.#restarting) return
    void this.release(device.signal.reason as AccelError, { gone: true })
  }

  #check(): void {
    if (this.#reason) throw this.#noDevice(this.#reason)
  }

  #noDevice(cause: AccelError): AccelError {
    return accelError('ERR_ACCEL_NO_DEVICE', `${this.name} is gone: ${cause.message}`, { cause })
  }

  /** Gives the call its turn, runs it, and keeps the turn until the hardware is idle. Never rejects. */
  async #serve(call: Call, request: unknown): Promise<void> {
    let giveBack: (() => void) | undefined
    if (!call.command.concurrent) {
      giveBack = await this.#turn.take(call, call.signal)
      if (!giveBack) return
    }
    try {
      await this.#restarting
      if (this.#reason) call.fail(this.#noDevice(this.#reason))
      if (call.ended) return
      const running = this.#run(call, request)
      // The caller is told at once when it fails; the handler has some time to notice.
      const failed = new Promise<void>((resolve) => {
        call.signal.addEventListener('abort', () => resolve(), { once: true })
      })
      await Promise.race([running, failed])
      const idle = await settled(running, this.#host.limits.settleMs)
      if (idle !== true && !call.command.concurrent) await this.#recover(call, running)
    } finally {
      giveBack?.()
    }
  }

  /** Runs the handler and answers whether it left the hardware idle. Never rejects. */
  async #run(call: Call, request: unknown): Promise<boolean> {
    const { command, open, signal } = call
    try {
      const commands = this.#probed!.commands as Record<string, AnyHandler>
      const answer = await commands[command.name](request, { signal, open })
      const fds: number[] = []
      call.finish({ bytes: command.out.encode((answer ?? {}) as never, fds), fds })
      return true
    } catch (error) {
      const withdrawn = signal.aborted
      call.fail(commandError(call, error))
      return !withdrawn && leavesIdle(error)
    }
  }

  /** Brings the hardware to idle: by the driver, else by a reset. Without success the device is lost. */
  async #recover(call: Call, running: Promise<boolean>): Promise<void> {
    if (this.#gone) return
    const { limits, report } = this.#host
    const recover = this.#probed?.recover
    const why = `after ${call.label}`
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
        throw accelError('ERR_ACCEL_TIMEOUT', `The handler of ${call.label} ignores its signal`)
      }
    } catch (error) {
      // A device on its way out is not reset: it is released.
      if (this.#reason) return
      report(accelError('ERR_ACCEL_IO', `${this.name} did not recover ${why} and is reset`, { cause: error }))
      this.#restarting = this.#restart(call, running).finally(() => {
        this.#restarting = undefined
      })
      await this.#restarting
    }
  }

  /** Resets the device and probes it again. Opens that had state in it end; the others go on. */
  async #restart(call: Call, running: Promise<boolean>): Promise<void> {
    const { limits } = this.#host
    const reset = accelError('ERR_ACCEL_IO', `${this.name} was reset because of ${call.label}`)
    const others: Promise<void>[] = []
    for (const [other, served] of this.#calls) {
      if (!other.command.concurrent || other.ended) continue
      other.fail(reset)
      others.push(served)
    }
    await settled(Promise.all(others), limits.settleMs)
    for (const open of this.#opens) {
      if (!open.hasState) continue
      open.shut(accelError('ERR_ACCEL_CLOSED', `${reset.message}; what open ${open.id} had in it is lost`))
      await this.#releaseOpen(open)
    }
    const device = this.#device
    this.#probed = undefined
    try {
      await device?.reset()
      this.#device = undefined
      if (device) await this.#releaseDevice(device)
      // Its memory is gone and each touch of the old device throws: the handler ends now or is broken.
      if ((await settled(running, limits.settleMs)) === undefined) {
        throw accelError('ERR_ACCEL_TIMEOUT', `The handler of ${call.label} does not end`)
      }
      await this.probe()
    } catch (cause) {
      const wedged = accelError('ERR_ACCEL_WEDGED', `${this.name} did not come back from its reset`, {
        cause,
      })
      // Not awaited: the release waits for this very call.
      void this.release(wedged, { gone: true })
    }
  }

  async #takeDown(reason: AccelError, gone: boolean): Promise<void> {
    this.#reason = reason
    this.#gone = gone
    if (gone) this.#host.lost(reason)
    this.#resolveLost(reason)
    const error = this.#noDevice(reason)
    for (const open of this.#opens) open.shut(error)
    for (const call of this.#calls.keys()) call.fail(error)
    const { limits } = this.#host
    const bound = gone ? limits.settleMs : limits.settleMs * 2 + limits.recoverMs
    await settled(Promise.all(this.#calls.values()), bound)
    for (const open of this.#opens) await this.#releaseOpen(open)
    this.#opens.clear()
    const device = this.#device
    this.#device = undefined
    this.#probed = undefined
    if (device) await this.#releaseDevice(device)
    try {
      await this.#host.gone()
    } catch (error) {
      this.#reportAs(`The transport of ${this.name} was not closed cleanly`, error)
    }
  }

  async #releaseOpen(open: Open): Promise<void> {
    try {
      await open.release()
    } catch (error) {
      this.#reportAs(`What open ${open.id} of ${this.name} held was not freed cleanly`, error)
    }
  }

  async #releaseDevice(device: AccelDevice): Promise<void> {
    try {
      await device.release()
    } catch (error) {
      this.#reportAs(`${this.name} was not released cleanly`, error)
    }
  }

  #reportAs(what: string, cause: unknown): void {
    const code = isAccelError(cause) ? cause.code : 'ERR_ACCEL_IO'
    this.#host.report(
      accelError(code, `${what}: ${cause instanceof Error ? cause.message : cause}`, { cause }),
    )
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
