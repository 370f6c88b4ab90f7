import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import type { ConfigSpace } from './config-access.js'
import { goneError } from './mmio.js'
import { type PciState, readState, restoreState } from './pci/state.js'
import type { ResetKind, Transport } from './transport.js'

/** What must happen in the device's handle when the device goes away for a while, and when it is back. */
export interface PresenceHost {
  readonly name: string
  readonly config: ConfigSpace
  /** Why the device is gone for good. */
  readonly gone: AccelError | undefined
  /** Ends all access through what was handed out. */
  cutOff(reason: AccelError): void
  /** Lets config space be reached again. */
  reachConfig(): void
  /** Lets everything else be reached again as before: BARs, interrupts. */
  restore(): void
  lose(reason: AccelError): void
}

/** Whether a device can be reached: it cannot while it is being reset, nor while it sleeps. */
export class Presence {
  readonly #transport: Transport
  readonly #host: PresenceHost
  #away: AccelError | undefined
  /** A reset, or the way into sleep or out of it: one at a time, or a device would be let into its low-power state under mapped BARs. */
  #changing: Promise<void> | undefined
  #resetting: Promise<void> | undefined
  /** What config space was before the device was put to sleep. */
  #asleep: { readonly state: PciState | undefined } | undefined

  constructor(transport: Transport, host: PresenceHost) {
    this.#transport = transport
    this.#host = host
  }

  /** Why the device cannot be reached for now. */
  get away(): AccelError | undefined {
    return this.#away
  }

  reset(kind?: ResetKind): Promise<void> {
    this.#resetting ??= this.#inTurn(() => this.#reset(kind)).finally(() => {
      this.#resetting = undefined
    })
    return this.#resetting
  }

  sleep(): Promise<void> {
    return this.#inTurn(() => this.#sleep())
  }

  wake(): Promise<void> {
    return this.#inTurn(() => this.#wake())
  }

  /** Begins at once where nothing is under way, else after it. */
  async #inTurn(change: () => Promise<void>): Promise<void> {
    while (this.#changing !== undefined) await this.#changing.catch(() => {}) // who asked for it gets its error
    this.#changing = change().finally(() => {
      this.#changing = undefined
    })
    return this.#changing
  }

  async #reset(wanted: ResetKind | undefined): Promise<void> {
    const { name, config, gone } = this.#host
    if (gone !== undefined) throw goneError(name, gone)
    if (this.#away !== undefined)
      throw accelError('ERR_ACCEL_BUSY', this.#away.message, { cause: this.#away })
    const { resets } = this.#transport
    const kind = wanted ?? resets[0]
    if (kind === undefined || !resets.includes(kind)) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${name} has no ${wanted === undefined ? '' : `${wanted} `}reset that its transport can trigger; there are: ${resets.join(', ') || 'none'}`,
      )
    }
    const state = readState(config)
    this.#goAway(`${name} is being reset`)
    await this.#comeBack('its reset', state, () => this.#transport.reset(kind))
  }

  async #sleep(): Promise<void> {
    if (this.#asleep !== undefined) return
    const { name, config } = this.#host
    const { setLowPower } = this.#transport
    if (setLowPower === undefined) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${name} has no low-power state that its transport can put it into`,
      )
    }
    const state = readState(config)
    this.#goAway(`${name} sleeps: wake() it first`)
    this.#asleep = { state }
    try {
      await setLowPower.call(this.#transport, true)
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_TIMEOUT')) {
        // The kernel may let the device into that state later, under BARs that were mapped again.
        this.#asleep = undefined
        await this.#comeBack('its way to sleep', state, () => Promise.reject(error))
      }
      await this.#wake()
      throw error
    }
  }

  async #wake(): Promise<void> {
    const asleep = this.#asleep
    if (asleep === undefined || this.#host.gone !== undefined) return
    this.#asleep = undefined
    await this.#comeBack('sleep', asleep.state, () => this.#transport.setLowPower!(false))
  }

  #goAway(message: string): void {
    this.#away = accelError('ERR_ACCEL_NO_DEVICE', message)
    this.#host.cutOff(this.#away)
  }

  /** Does what brings the device back, then lets everybody reach it as before. */
  async #comeBack(from: string, state: PciState | undefined, bring: () => Promise<void>): Promise<void> {
    const host = this.#host
    let refusal: AccelError | undefined
    try {
      try {
        await bring()
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_BUSY')) throw error
        refusal = error // nothing was done
      }
      if (host.gone !== undefined) throw host.gone
      host.reachConfig()
      await restoreState(host.config, state)
      host.restore()
      this.#away = undefined
    } catch (cause) {
      if (host.gone !== undefined) throw host.gone
      const wedged = accelError(
        'ERR_ACCEL_WEDGED',
        `${host.name} did not come back from ${from}: ${cause instanceof Error ? cause.message : cause}`,
        { cause },
      )
      host.lose(wedged)
      throw wedged
    }
    if (refusal !== undefined) throw refusal
  }
}
