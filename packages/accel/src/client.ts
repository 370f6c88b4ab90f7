import { closeAll, duplicates } from '@uaccel/sys'
import {
  type AccelError,
  commonUapi,
  DeviceClient,
  type DispatchOptions,
  type Reply,
  requireSameUapi,
  spoken,
  type Uapi,
} from '@uaccel/uapi'
import type { AccelNode } from './node.js'
import type { Open, OpenOptions } from './open.js'

/**
 * One open of a device, for a client in the driver's own process. Every call goes through the binary form, so
 * that it meets the same checks as one from another process.
 */
export class AccelClient<U extends Uapi> extends DeviceClient<U> {
  readonly name: string
  readonly lost: Promise<AccelError>
  readonly #node: AccelNode
  readonly #open: Open
  #closing: Promise<void> | undefined

  /** @internal See `Accel.open`. */
  constructor(node: AccelNode, uapi: U, options?: OpenOptions) {
    requireSameUapi(node.name, spoken(node.driver.uapi), spoken(uapi))
    super(uapi)
    this.name = node.name
    this.lost = node.lost
    this.#node = node
    this.#open = node.open(options)
  }

  async dispatch(number: number, bytes: Uint8Array, options: DispatchOptions = {}): Promise<Reply> {
    const { fds = [] } = options
    if (fds.length === 0) return this.#node.dispatch(this.#open, number, bytes, options)
    // As if they had travelled: what the caller does to its own from now on is nothing to the handler.
    const copies = duplicates(fds)
    const released = () => closeAll(copies)
    return this.#node.dispatch(this.#open, number, bytes, { ...options, fds: copies, released })
  }

  close(): Promise<void> {
    this.#closing ??= this.#node.close(this.#open)
    return this.#closing
  }

  protected override get closing(): boolean {
    return this.#closing !== undefined
  }

  protected override servedVersion(uapi: Uapi): number {
    return uapi.name === commonUapi.name ? commonUapi.version : this.#node.driver.uapi.version
  }

  protected override closeFds(fds: readonly number[]): void {
    closeAll(fds)
  }
}
