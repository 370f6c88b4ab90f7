import { closeAll, sys } from '@uaccel/sys'
import {
  type AccelError,
  type CallOptions,
  type CommandInput,
  type CommandOutput,
  type CommandsOf,
  CommonClient,
  commonUapi,
  type DeviceClient,
  type DispatchOptions,
  type Reply,
  requireSameUapi,
  spoken,
  TAKEN,
  type Uapi,
} from '@uaccel/uapi'
import type { AccelNode } from './node.js'
import type { Open, OpenOptions } from './open.js'

type CommonUapi = typeof commonUapi

/**
 * One open of a device, for a client in the driver's own process. Every call goes through the binary form, so
 * that it meets the same checks as one from another process. Ends with `close`, or `await using`.
 */
export class AccelClient<U extends Uapi> extends CommonClient implements DeviceClient<U> {
  /** `accel0` and so on. */
  readonly name: string
  readonly uapi: U
  /** Resolves with the reason when the device is removed or lost. Never rejects. */
  readonly lost: Promise<AccelError>
  readonly #node: AccelNode
  readonly #open: Open
  #closing: Promise<void> | undefined

  /** @internal See `Accel.open`. */
  constructor(node: AccelNode, uapi: U, options?: OpenOptions) {
    super()
    requireSameUapi(node.name, spoken(node.driver.uapi), spoken(uapi))
    this.name = node.name
    this.uapi = uapi
    this.lost = node.lost
    this.#node = node
    this.#open = node.open(options)
  }

  /**
   * Calls a command by name.
   *
   * @throws The refusals of the codec, what the driver answers, ERR_ACCEL_ABORTED, ERR_ACCEL_TIMEOUT,
   *   ERR_ACCEL_CLOSED, ERR_ACCEL_NO_DEVICE with the reason as `cause`
   */
  async call<K extends string & keyof CommandsOf<U>>(
    name: K,
    input: CommandInput<U, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<U, K>> {
    const answer = await this.#call(this.uapi, name, input, options)
    return answer as CommandOutput<U, K>
  }

  async common<K extends string & keyof CommandsOf<CommonUapi>>(
    name: K,
    input: CommandInput<CommonUapi, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<CommonUapi, K>> {
    return (await this.#call(commonUapi, name, input, options)) as CommandOutput<CommonUapi, K>
  }

  /** Sends a command in its binary form. */
  async dispatch(number: number, bytes: Uint8Array, options: DispatchOptions = {}): Promise<Reply> {
    const { fds = [] } = options
    if (fds.length === 0) return this.#node.dispatch(this.#open, number, bytes, options)
    // As if they had travelled: what the caller does to its own from now on is nothing to the handler.
    const copies: number[] = []
    const released = () => closeAll(copies)
    try {
      for (const fd of fds) copies.push(sys.dup(fd))
    } catch (error) {
      released()
      throw error
    }
    return this.#node.dispatch(this.#open, number, bytes, { ...options, fds: copies, released })
  }

  /** Ends the calls of this open and frees what belongs to it, once the hardware is done with them. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#node.close(this.#open)
    return this.#closing
  }

  protected override get closing(): boolean {
    return this.#closing !== undefined
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #call(
    uapi: Uapi,
    name: string,
    input: Readonly<Record<string, unknown>>,
    options?: CallOptions,
  ): Promise<unknown> {
    const command = uapi.byName(name)
    const fds: number[] = []
    const bytes = command.in.encode(input, fds)
    const reply = await this.dispatch(command.number, bytes, { ...options, fds })
    const left = [...reply.fds]
    try {
      const answer = command.out.decode(reply.bytes, left)
      closeAll(left.filter((fd) => fd !== TAKEN))
      return answer
    } catch (error) {
      closeAll(reply.fds)
      throw error
    }
  }
}
