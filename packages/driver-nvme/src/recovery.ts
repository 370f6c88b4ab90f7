import { setTimeout } from 'node:timers/promises'
import type { Device } from '@uaccel/core'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { Controller } from './controller.js'
import type { NvmeQueues } from './queues.js'

/** The longest that a shutdown waits for commands under way. */
const DRAIN_MS = 5_000

/** What a recovery needs of the driver. */
export interface RecoveryHost {
  /** Gives an enabled controller its queues, by admin commands. */
  configure(): Promise<void>
  /** Commands can be submitted again, or never will. */
  settled(): void
  /** The controller had to be reset, or could not be. */
  broke(error: AccelError): void
  /** What a command may take. */
  readonly timeoutMs: number
}

/** Whether the controller takes commands, and how it comes to do so again. */
export class Recovery {
  /** Controller resets since it was brought up. */
  resets = 0
  readonly #dev: Device
  readonly #controller: Controller
  readonly #queues: NvmeQueues
  readonly #host: RecoveryHost
  /** It takes admin commands. */
  #up = false
  /** Its bringing up has ended. */
  #settled = false
  #dead: AccelError | undefined
  #recovering: Promise<void> | undefined
  /** Whoever brings the controller up counts on: who did so before gives up. */
  #turn = 0
  /** Why nobody is to do so at present: somebody else resets the device (`ERR_ACCEL_AGAIN`), or it was released (`ERR_ACCEL_NO_DEVICE`). */
  #taken: AccelError | undefined

  constructor(dev: Device, controller: Controller, queues: NvmeQueues, host: RecoveryHost) {
    this.#dev = dev
    this.#controller = controller
    this.#queues = queues
    this.#host = host
  }

  /** The controller takes admin commands. */
  get up(): boolean {
    return this.#up
  }

  /** Why it has to be reset; `undefined` where it works. */
  get broken(): string | undefined {
    if (this.#dead !== undefined) return this.#dead.message
    if (this.#recovering !== undefined) return 'it is being reset'
    return this.#controller.fatal ? 'CSTS.CFS says that it failed' : undefined
  }

  /** See `Nvme.ready`. */
  async ready(): Promise<void> {
    await this.#recovering?.catch(() => {}) // who asked for it gets the error
    if (this.#dead !== undefined) throw this.#dead
  }

  /** Throws where no I/O command is to be submitted. */
  checkUp(): void {
    if (this.#up && this.#settled) return
    throw this.#taken ?? this.#dead ?? resetting()
  }

  /** The same for the admin queue, which works before the others do. */
  checkListens(): void {
    if (!this.#up) this.checkUp()
  }

  /** Brings the controller up (7.6.1) from a reset. */
  async bringUp(turn = ++this.#turn): Promise<void> {
    this.#settled = false
    await this.#controller.enable(this.#queues.admin)
    this.#checkTurn(turn)
    this.#up = true
    try {
      await this.#host.configure()
      this.#checkTurn(turn)
      this.#settled = true
      this.#dead = undefined
    } catch (error) {
      if (turn === this.#turn) this.#up = false
      throw error
    }
  }

  /** See `Nvme.recover`. */
  async recover(): Promise<void> {
    await this.#recovering?.catch(() => {})
    if (this.#up && !this.#queues.stuck) return
    await this.reset(accelError('ERR_ACCEL_IO', 'commands were given up and did not end'))
  }

  /** See `Nvme.reset`. */
  reset(why: AccelError): Promise<void> {
    if (this.#taken !== undefined) return Promise.reject(this.#taken)
    if (this.#recovering !== undefined) return this.#recovering
    const recovering = this.#recover(why, ++this.#turn).finally(() => {
      if (this.#recovering !== recovering) return
      this.#recovering = undefined
      this.#host.settled()
    })
    this.#recovering = recovering
    return recovering
  }

  /** See `Nvme.beforeReset`. */
  async beforeReset(): Promise<void> {
    this.#take(resetting())
    try {
      await this.#queues.pauseLent()
      this.#queues.pollLast()
      await this.#controller.disable()
      this.#queues.failAll(resetError())
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT')) throw error // the reset is what helps
    }
  }

  /** See `Nvme.afterReset`. */
  async afterReset(): Promise<void> {
    if (this.#taken?.code === 'ERR_ACCEL_NO_DEVICE') throw this.#taken
    this.#taken = undefined
    this.#queues.failAll(resetError())
    await this.bringUp()
    this.#host.settled()
  }

  /** Something that only a reset helps against. */
  breaks(error: unknown): void {
    if (!isAccelError(error)) throw error
    if (error.code === 'ERR_ACCEL_NO_DEVICE') {
      // Of one that is not there nothing touches memory any more.
      this.#up = false
      this.#queues.failAll(error)
      return
    }
    if (this.#taken !== undefined) return // what takes it helps
    if (!this.#settled) {
      // Whoever brings it up waits for a command that does not end, and is told.
      this.#up = false
      const message = `The NVMe controller does not come up: ${error.message}`
      this.#queues.failAll(
        accelError('ERR_ACCEL_WEDGED', message, { cause: error, details: { idle: false } }),
      )
      return
    }
    this.#host.broke(error)
    this.reset(error).catch((failure) => {
      if (isAccelError(failure)) this.#host.broke(failure)
      else throw failure
    })
  }

  /** Before the device is released: an orderly end (7.6.2), and nothing of it may reach memory any more. */
  async shutDown(): Promise<void> {
    const wasUp = this.#up
    const gone = accelError('ERR_ACCEL_NO_DEVICE', 'The NVMe controller was released by its driver')
    this.#take(gone)
    try {
      try {
        if (wasUp) {
          await this.#drain()
          await this.#controller.shutDown()
        }
      } finally {
        await this.#controller.disable()
      }
    } finally {
      this.#queues.failAll(gone)
    }
  }

  /**
   * Lets commands end that are under way (7.6.2), for as long as a command may take: the controller is not to be shut down under them. SPDK's
   * target (24.01) was seen to take no client any more where it was.
   */
  async #drain(): Promise<void> {
    const until = performance.now() + Math.min(this.#host.timeoutMs, DRAIN_MS)
    for (this.#queues.pollLast(); this.#queues.busy; this.#queues.pollLast()) {
      if (this.#controller.fatal || performance.now() > until) return // throws where the device is gone
      await setTimeout(1)
    }
  }

  /** Has nobody bring the controller up any more, who may just be about to. */
  #take(why: AccelError): void {
    this.#taken = why
    this.#turn++
    this.#up = false
    this.#recovering = undefined
  }

  #checkTurn(turn: number): void {
    if (turn !== this.#turn) throw this.#taken ?? resetError()
  }

  async #recover(why: AccelError, turn: number): Promise<void> {
    this.#dev.checkPresent()
    this.#up = false
    this.resets++
    try {
      await this.#queues.pauseLent()
      this.#checkTurn(turn)
      this.#queues.pollLast()
      try {
        await this.#controller.disable()
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT') || !this.#dev.resettable) throw error
        this.#checkTurn(turn)
        await this.#dev.reset()
      }
      this.#checkTurn(turn)
      this.#queues.failAll(why)
      await this.bringUp(turn)
    } catch (cause) {
      this.#checkTurn(turn) // who has taken it ends what was under way
      // Nothing says that it left the memory alone: whoever waits is told so.
      const message = `The NVMe controller did not come back from a reset (${why.message})`
      const dead = accelError('ERR_ACCEL_WEDGED', message, { cause, details: { idle: false } })
      this.#dead = dead
      this.#queues.failAll(dead)
      throw dead
    }
  }
}

function resetting(): AccelError {
  return accelError('ERR_ACCEL_AGAIN', 'The NVMe controller is being reset: try again when it is up')
}

function resetError(): AccelError {
  return accelError('ERR_ACCEL_AGAIN', 'The NVMe controller was reset while the command was under way')
}
