import { Scope } from '@uaccel/core'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { OpenContext, PeerCredentials } from './driver.js'
import { nowNs } from './events.js'
import { DEFAULT_QUOTAS } from './quota.js'
import { WorkCounters } from './record.js'

/** What an open may do besides calling the driver's commands. */
export interface OpenRights {
  /** It may reset the device. */
  readonly reset: boolean
  /** Whose mode bits of an attribute it goes by; attributes of scope `debug` are the owner's alone. */
  readonly as: 'owner' | 'group' | 'other'
}

/** How a node is opened. */
export interface OpenOptions {
  /** All, unless told; where some are given, the others are not. */
  readonly rights?: Partial<OpenRights>
  /** Absent for one of the driver's own process. */
  readonly peer?: PeerCredentials
}

/** What stays of an open when it is gone. */
export interface OpenRecord {
  readonly id: number
  readonly peer: PeerCredentials | undefined
  readonly openedNs: bigint
  closedNs?: bigint
}

/** One open of a node: what its commands made belongs to it and goes with it. */
export class Open implements OpenContext {
  readonly record: OpenRecord
  readonly rights: OpenRights
  readonly counters = new WorkCounters()
  /** Number of the last event before it. */
  readonly eventsFrom: number
  readonly #controller = new AbortController()
  readonly #scope: Scope
  #hasState = false
  #closed: AccelError | undefined
  readonly #maxWaits: number
  #waits = 0

  constructor(
    id: number,
    { rights, peer }: OpenOptions = {},
    eventsFrom = 0,
    maxWaits = DEFAULT_QUOTAS.openWaits,
  ) {
    this.record = { id, peer, openedNs: nowNs() }
    this.rights = rights ? { reset: false, as: 'other', ...rights } : { reset: true, as: 'owner' }
    this.eventsFrom = eventsFrom
    this.#maxWaits = maxWaits
    this.#scope = new Scope(`open ${id}`)
  }

  get id(): number {
    return this.record.id
  }

  get peer(): PeerCredentials | undefined {
    return this.record.peer
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** True once a driver has made something for this open. */
  get hasState(): boolean {
    return this.#hasState
  }

  defer(release: () => void | Promise<void>): void {
    this.#scope.defer(release)
    this.#hasState = true
  }

  /** Why it is closed. */
  get closed(): AccelError {
    return this.#closed ?? accelError('ERR_ACCEL_CLOSED', `Open ${this.id} was closed`)
  }

  /** The device is gone, and the open with it: what happened before may still be asked for. */
  get lost(): boolean {
    return this.#closed?.code === 'ERR_ACCEL_NO_DEVICE'
  }

  /** Throws the reason once the open is closed. */
  check(): void {
    if (this.#closed) throw this.#closed
  }

  /** Runs something that waits for others. `ERR_ACCEL_AGAIN` where the open waits too often already. */
  async wait<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waits >= this.#maxWaits) {
      throw accelError(
        'ERR_ACCEL_AGAIN',
        `Open ${this.id} has ${this.#waits} waits under way, of ${this.#maxWaits} that it may: end one, or raise the quota`,
        { details: { used: this.#waits, limit: this.#maxWaits } },
      )
    }
    this.#waits++
    try {
      return await work()
    } finally {
      this.#waits--
    }
  }

  /** From now on its commands are refused with `reason`. */
  shut(reason: AccelError): void {
    this.#closed ??= reason
    this.record.closedNs ??= nowNs()
    this.#controller.abort(this.#closed)
  }

  /** Frees what belongs to the open. All is tried before this rejects. Idempotent. */
  release(): Promise<void> {
    this.shut(this.closed)
    return this.#scope.release()
  }
}
