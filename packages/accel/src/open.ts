import { Scope } from '@uaccel/core'
import { type AccelError, accelError } from '@uaccel/uapi'
import type { OpenContext, PeerCredentials } from './driver.js'

/** One open of a node: what its commands made belongs to it and goes with it. */
export class Open implements OpenContext {
  readonly id: number
  declare readonly peer?: PeerCredentials
  readonly #controller = new AbortController()
  readonly #scope: Scope
  #hasState = false
  #closed: AccelError | undefined

  constructor(id: number, peer?: PeerCredentials) {
    this.id = id
    if (peer) this.peer = peer
    this.#scope = new Scope(`open ${id}`)
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

  /** Throws the reason once the open is closed. */
  check(): void {
    if (this.#closed) throw this.#closed
  }

  /** From now on its commands are refused with `reason`. */
  shut(reason: AccelError): void {
    this.#closed ??= reason
    this.#controller.abort(this.#closed)
  }

  /** Frees what belongs to the open. All is tried before this rejects. Idempotent. */
  release(): Promise<void> {
    this.shut(this.closed)
    return this.#scope.release()
  }
}
