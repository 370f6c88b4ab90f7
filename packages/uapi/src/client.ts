import type { CommonClient } from './common-client.js'
import type { AccelError } from './errors.js'
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

/** One open of a device: the same words in the driver's process (`@uaccel/accel`) and in any other (`@uaccel/client`). */
export interface DeviceClient<U extends Uapi>
  extends Pick<CommonClient, 'common' | 'version' | 'info' | 'query' | 'events'>,
    AsyncDisposable {
  /** `accel0` and so on. */
  readonly name: string
  readonly uapi: U
  /** Resolves with the reason when the device, or the way to it, is lost. Never rejects. */
  readonly lost: Promise<AccelError>
  /**
   * Calls a command by name. Descriptors that it takes stay the caller's, those that it answers become the caller's.
   *
   * @throws The refusals of the codec, what the driver answers, ERR_ACCEL_ABORTED, ERR_ACCEL_TIMEOUT,
   *   ERR_ACCEL_CLOSED, ERR_ACCEL_NO_DEVICE with the reason as `cause`
   */
  call<K extends string & keyof CommandsOf<U>>(
    name: K,
    input: CommandInput<U, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<U, K>>
  /** Sends a command in its binary form. */
  dispatch(number: number, bytes: Uint8Array, options?: DispatchOptions): Promise<Reply>
  /** Ends the calls of this open and frees what belongs to it, once the hardware is done with them. Idempotent. */
  close(): Promise<void>
}
