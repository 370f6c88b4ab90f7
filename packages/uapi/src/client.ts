import { commonUapi } from './common.js'
import { CommonClient } from './common-client.js'
import type { AccelError } from './errors.js'
import { TAKEN } from './scalars.js'
import type { CommandInput, CommandOutput, CommandsOf, Uapi } from './schema.js'

/** What a caller may set for one call. */
export interface CallOptions {
  /** Withdraws the call: it ends with `ERR_ACCEL_ABORTED`, `cause` being the signal's reason. */
  readonly signal?: AbortSignal
  /** Limit for the whole call, the wait for its turn included, in milliseconds. 30 seconds unless told. */
  readonly timeoutMs?: number
}

/** What goes with a command in its binary form. */
export interface DispatchOptions extends CallOptions {
  /** Descriptors that the bytes name. They stay the caller's, who may close them as soon as the call was made. */
  readonly fds?: readonly number[]
}

/** A command's answer in its binary form, and the descriptors that go with it: they are the caller's from then on. */
export interface Reply {
  readonly bytes: Uint8Array
  readonly fds: readonly number[]
}

type Common = typeof commonUapi

/**
 * One open of a device: the same words in the driver's process (`@uaccel/accel`) and in any other (`@uaccel/client`). What differs is
 * the way of a command in its binary form. Ends with `close`, or `await using`.
 */
export abstract class DeviceClient<U extends Uapi> extends CommonClient implements AsyncDisposable {
  readonly uapi: U
  /** `accel0` and so on. */
  abstract readonly name: string
  /** Resolves with the reason when the device, or the way to it, is lost. Never rejects. */
  abstract readonly lost: Promise<AccelError>

  constructor(uapi: U) {
    super()
    this.uapi = uapi
  }

  /** Sends a command in its binary form. */
  abstract dispatch(number: number, bytes: Uint8Array, options?: DispatchOptions): Promise<Reply>

  /** Ends the calls of this open and frees what belongs to it, once the hardware is done with them. Idempotent. */
  abstract close(): Promise<void>

  /** The version of that uAPI, the driver's or the common one, at the other side. */
  protected abstract servedVersion(uapi: Uapi): number

  /** Closes descriptors that an answer brought and that nobody gets. */
  protected abstract closeFds(fds: readonly number[]): void

  /**
   * Calls a command by name. Descriptors that it takes stay the caller's, those that it answers become the caller's.
   *
   * @throws The refusals of the codec, what the driver answers, ERR_ACCEL_ABORTED, ERR_ACCEL_TIMEOUT,
   *   ERR_ACCEL_CLOSED, ERR_ACCEL_NO_DEVICE with the reason as `cause`
   */
  async call<K extends string & keyof CommandsOf<U>>(
    name: K,
    input: CommandInput<U, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<U, K>> {
    return (await this.#call(this.uapi, name, input, options)) as CommandOutput<U, K>
  }

  async common<K extends string & keyof CommandsOf<Common>>(
    name: K,
    input: CommandInput<Common, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<Common, K>> {
    return (await this.#call(commonUapi, name, input, options)) as CommandOutput<Common, K>
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
    const request = command.in.encode(input, fds)
    const reply = await this.dispatch(command.number, request, { ...options, fds })
    // What a newer side says beyond this one's layout is left out, as the kernel does with a shorter structure.
    const grown = this.servedVersion(uapi) > uapi.version
    const bytes = grown ? reply.bytes.subarray(0, command.out.layout.sizeBytes) : reply.bytes
    const left = [...reply.fds]
    try {
      const answer = command.out.decode(bytes, left)
      this.closeFds(left.filter((fd) => fd !== TAKEN))
      return answer
    } catch (error) {
      this.closeFds(reply.fds)
      throw error
    }
  }
}
