import type { ResetKind } from '@uaccel/core'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { AccelDevice } from './device.js'
import type { NodeLimits } from './host.js'
import type { DriverInstance } from './instance.js'
import { settled, within } from './limit.js'
import type { NodeRecord } from './record.js'
import type { Turn } from './turn.js'

/** What recovery and reset need of their node. */
export interface RecoveryHost {
  readonly name: string
  readonly driver: string
  readonly limits: NodeLimits
  readonly record: NodeRecord
  readonly instance: DriverInstance
  /** Who has the device. */
  readonly turn: Turn<{ readonly label: string }>
  /** Why the node is on its way out. */
  readonly reason: AccelError | undefined
  /** The device is not there any more. */
  readonly gone: boolean
  /** Ends the commands and jobs under way with `why`. Resolves when the handlers of the commands have ended. */
  interrupt(why: AccelError): Promise<unknown>
  /** What was under way is over: the device was reset, or let go without, as far as it let itself. */
  wasReset(why: AccelError, how: { readonly refused: boolean }): void
  /** Ends the opens that had state in the driver. */
  shutState(why: AccelError): Promise<void>
  /** The device did not come back: the node is released. Answers the error of that. */
  giveUp(cause: unknown): AccelError
  /** A reset began, or ended with `over`: without a failure the device works again. */
  changed(over?: { readonly why: AccelError; readonly failure: AccelError | undefined }): void
  /** Jobs may go on. */
  pump(): void
  /** Something went wrong that no caller is told of. */
  report(error: AccelError): void
  /** The same, with the error's code and words after `what`. */
  reportAs(what: string, cause: unknown): void
}

/** Brings a device to idle after what went wrong, by its driver or by a reset: one of them at a time. */
export class Recovery {
  readonly #host: RecoveryHost
  #recovering: Promise<void> | undefined
  /** A reset that is under way; gives what it failed with. Never rejects. */
  #restarting: Promise<AccelError | undefined> | undefined
  #unreset: AccelError | undefined

  constructor(host: RecoveryHost) {
    this.#host = host
  }

  /** Pending while a reset is under way. Never rejects. */
  get restarting(): Promise<unknown> | undefined {
    return this.#restarting
  }

  /** True while the driver, or a reset, brings the device to idle. */
  get busy(): boolean {
    return this.#recovering !== undefined || this.#restarting !== undefined
  }

  /** Why the last reset was refused: the device may need one. */
  get unreset(): AccelError | undefined {
    return this.#unreset
  }

  /** Resets the device, unless a reset is under way already, after a recovery. Answers what it failed with. Never rejects. */
  reset(why: AccelError, kind?: ResetKind): Promise<AccelError | undefined> {
    return this.#restart(why, kind, this.#recovering)
  }

  /** Has the device brought to idle after a command whose handler is `running`. For whoever has the turn. Never rejects. */
  afterCommand(label: string, running: Promise<boolean>): Promise<void> {
    this.#recovering = this.#recover(label, running).finally(() => {
      this.#recovering = undefined
      this.#host.pump()
    })
    return this.#recovering
  }

  /** Has the device brought to idle after a job; whatever does so already is enough. Answers whether it is there. Never rejects. */
  async afterJob(label: string): Promise<boolean> {
    // One on its way out is released, and its memory waits for that.
    const needed = () => !this.busy && !this.#host.reason
    if (needed()) {
      const { turn, limits, name } = this.#host
      const giveBack = await turn.take({ label }, AbortSignal.timeout(limits.recoverMs))
      try {
        if (needed() && giveBack) await this.afterCommand(label, Promise.resolve(true))
        // All jobs wait for this, and how long a command takes is its client's choice.
        else if (needed()) {
          const waited = `for which ${turn.holder?.label ?? 'a command'} made no room`
          await this.#restart(accelError('ERR_ACCEL_IO', `${name} was reset because of ${label}, ${waited}`))
        }
      } finally {
        giveBack?.()
      }
    }
    await this.#recovering
    await this.#restarting
    return this.#host.reason === undefined
  }

  /** Brings the hardware to idle: by the driver, else by a reset. Without success the device is lost. */
  async #recover(label: string, running: Promise<boolean>): Promise<void> {
    const { gone, limits, instance, driver, name } = this.#host
    if (gone) return
    const { device, probed } = instance
    const why = `after ${label}`
    try {
      device?.checkPresent() // nothing that a driver does helps against a device that is not there
      if (!probed?.recover) throw accelError('ERR_ACCEL_UNSUPPORTED', `Driver ${driver} has no recover`)
      const signal = AbortSignal.timeout(limits.recoverMs)
      await within(
        Promise.resolve().then(() => probed.recover?.({ signal })),
        limits.recoverMs,
        `recover ${why}`,
      )
      if ((await settled(running, limits.settleMs)) === undefined) {
        throw accelError('ERR_ACCEL_TIMEOUT', `The handler of ${label} ignores its signal`)
      }
    } catch (error) {
      // A device on its way out is not reset: it is released. One that is being reset needs nothing else.
      if (this.#host.reason || this.#restarting) return
      this.#host.report(
        accelError('ERR_ACCEL_IO', `${name} did not recover ${why} and is reset`, { cause: error }),
      )
      await this.#restart(accelError('ERR_ACCEL_IO', `${name} was reset because of ${label}`))
    }
  }

  /** One reset at a time, once `before` has ended. */
  #restart(why: AccelError, kind?: ResetKind, before?: Promise<void>): Promise<AccelError | undefined> {
    if (this.#restarting) return this.#restarting
    const host = this.#host
    const over = host.record.resetting(kind ?? 'default', why.message)
    this.#restarting = this.#resetDevice(why, kind, before).then((failure) => {
      this.#restarting = undefined
      this.#unreset = failure
      over(failure, host.reason !== undefined)
      host.changed({ why, failure })
      host.pump()
      return failure
    })
    host.changed()
    return this.#restarting
  }

  async #resetDevice(
    why: AccelError,
    kind: ResetKind | undefined,
    before: Promise<void> | undefined,
  ): Promise<AccelError | undefined> {
    const host = this.#host
    const { limits, instance } = host
    const handlers = host.interrupt(why)
    let ended = (await settled(handlers, limits.settleMs)) !== undefined
    await before
    const { device } = instance
    try {
      if (!device) throw accelError('ERR_ACCEL_NO_DEVICE', `${host.name} has no device`)
      let refusal: AccelError | undefined
      if (!ended || !(await this.#resetInPlace(device, kind))) {
        await host.shutState(why)
        instance.leave()
        refusal = await refusalOf(device.reset({ ...(kind === undefined ? {} : { kind }) }))
        await instance.release(limits.recoverMs)
        // Its memory is gone and each touch of the old device throws: the handlers end now or are broken.
        ended ||= (await settled(handlers, limits.settleMs)) !== undefined
        if (!ended) throw accelError('ERR_ACCEL_TIMEOUT', 'A handler does not end')
        host.wasReset(why, { refused: refusal !== undefined })
        await instance.probe()
      } else host.wasReset(why, { refused: false })
      return refusal
    } catch (cause) {
      return host.giveUp(cause)
    }
  }

  /** Takes the driver through a reset; false where it has no hooks for it, or they fail, and it has to be probed anew. */
  async #resetInPlace(device: AccelDevice, kind: ResetKind | undefined): Promise<boolean> {
    const { limits, instance, driver, name } = this.#host
    const { probed } = instance
    if (!probed?.beforeReset || !probed.afterReset) return false
    const hook = (which: 'beforeReset' | 'afterReset') => {
      const signal = AbortSignal.timeout(limits.recoverMs)
      const running = Promise.resolve().then(() => probed[which]?.({ signal }))
      return within(running, limits.recoverMs, `${which} of ${driver}`)
    }
    try {
      await hook('beforeReset')
      await device.reset({ ...(kind === undefined ? {} : { kind }) })
      await hook('afterReset')
      return true
    } catch (error) {
      if (device.signal.aborted || this.#host.reason) throw error
      this.#host.reportAs(
        `Driver ${driver} did not take ${name} through its reset, and is probed anew`,
        error,
      )
      return false
    }
  }
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
