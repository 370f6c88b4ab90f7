import {
  type AccelError,
  accelError,
  type CommandInput,
  type CommandOutput,
  type CommandsOf,
  commonUapi,
  isAccelError,
  type QueryKind,
  type QueryOutput,
  queryOutput,
  queryRequest,
  type Uapi,
} from '@uaccel/uapi'
import type { CallOptions, Reply } from './call.js'
import type { AccelNode } from './node.js'
import type { Open, OpenOptions } from './open.js'

type CommonUapi = typeof commonUapi

/**
 * One open of a device, for a client in the driver's own process. Every call goes through the binary form, so
 * that it meets the same checks as one from another process. Ends with `close`, or `await using`.
 */
export class AccelClient<U extends Uapi> implements AsyncDisposable {
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
    const served = node.driver.uapi
    if (served.name !== uapi.name) {
      throw accelError(
        'ERR_ACCEL_VERSION',
        `${node.name} speaks ${served.name}, not ${uapi.name}: open it with the uAPI of driver ${node.driver.name}`,
      )
    }
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

  /** Which uAPI the device speaks. */
  async version(): Promise<CommandOutput<CommonUapi, 'version'>> {
    return this.common('version', {})
  }

  /** Which device this is. */
  async info(): Promise<CommandOutput<CommonUapi, 'info'>> {
    return this.common('info', {})
  }

  /** Calls one of the commands that every device answers. Errors as for {@link call}, and what `commonUapi` says of it. */
  async common<K extends string & keyof CommandsOf<CommonUapi>>(
    name: K,
    input: CommandInput<CommonUapi, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<CommonUapi, K>> {
    return (await this.#call(commonUapi, name, input, options)) as CommandOutput<CommonUapi, K>
  }

  /**
   * One kind of what the node knows, `undefined` where it has nothing of that kind. Of a list, the entries begin with number
   * `from`, and there may be more than come at once (`total`).
   */
  async query<K extends QueryKind>(
    kind: K,
    from = 0,
    options?: CallOptions,
  ): Promise<QueryOutput<K> | undefined> {
    return queryOutput(kind, await this.common('query', queryRequest(kind, from), options))
  }

  /**
   * What happens to the device from the open on, until `signal` is aborted, the client closed or the device gone; the last
   * that is told is then its removal. `lost` counts the events in between that came faster than they were read.
   */
  async *events({
    signal,
  }: {
    readonly signal?: AbortSignal
  } = {}): AsyncGenerator<{ readonly lost: bigint } & CommandOutput<CommonUapi, 'events'>['events'][number]> {
    let after = 0n
    while (true) {
      let answer: CommandOutput<CommonUapi, 'events'>
      try {
        answer = await this.common('events', { after, options: {} }, { ...(signal ? { signal } : {}) })
      } catch (error) {
        if (isAccelError(error, 'ERR_ACCEL_TIMEOUT')) continue
        if (signal?.aborted || this.#closing) return
        throw error
      }
      let { lost } = answer
      after = answer.last
      for (const event of answer.events) {
        yield { ...event, lost }
        lost = 0n
        if (event.kind === 'removal') return
      }
    }
  }

  /** Sends a command in its binary form. */
  dispatch(
    number: number,
    bytes: Uint8Array,
    options?: CallOptions & { readonly fds?: readonly number[] },
  ): Promise<Reply> {
    return this.#node.dispatch(this.#open, number, bytes, options)
  }

  /** Ends the calls of this open and frees what belongs to it, once the hardware is done with them. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#node.close(this.#open)
    return this.#closing
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
    return command.out.decode(reply.bytes, reply.fds)
  }
}
