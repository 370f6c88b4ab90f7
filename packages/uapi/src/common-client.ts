import type { CallOptions } from './client.js'
import type { commonUapi } from './common.js'
import { isAccelError } from './errors.js'
import { type QueryKind, type QueryOutput, queryOutput, queryRequest } from './query.js'
import type { CommandInput, CommandOutput, CommandsOf } from './schema.js'

type Common = typeof commonUapi

/** Something that happened to a device, as its clients are told. */
export type ClientEvent = CommandOutput<Common, 'events'>['events'][number] & {
  /** Events since the one before that came faster than they were read. */
  readonly lost: bigint
}

/** The commands that every device answers, in words of a program, for any client that can send them. */
export abstract class CommonClient {
  /** The client is being closed, or was. */
  protected abstract readonly closing: boolean

  /** Calls one of the commands that every device answers. Errors as for a call, and what `commonUapi` says of it. */
  abstract common<K extends string & keyof CommandsOf<Common>>(
    name: K,
    input: CommandInput<Common, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<Common, K>>

  /** Which uAPI the device speaks. */
  async version(): Promise<CommandOutput<Common, 'version'>> {
    return this.common('version', {})
  }

  /** Which device this is. */
  async info(): Promise<CommandOutput<Common, 'info'>> {
    return this.common('info', {})
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
  async *events({ signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<ClientEvent> {
    let after = 0n
    while (true) {
      let answer: CommandOutput<Common, 'events'>
      try {
        answer = await this.common('events', { after, options: {} }, { ...(signal ? { signal } : {}) })
      } catch (error) {
        if (isAccelError(error, 'ERR_ACCEL_TIMEOUT')) continue
        if (signal?.aborted || this.closing) return
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
}
