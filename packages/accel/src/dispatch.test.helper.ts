import {
  type CallOptions,
  type Command,
  type CommandInput,
  type CommandOutput,
  type CommandsOf,
  commonUapi,
  type QueryKind,
  type QueryOutput,
  queryOutput,
  queryRequest,
} from '@uaccel/uapi'
import type { AccelNode } from './node.js'
import type { Open, OpenOptions } from './open.js'

type CommonUapi = typeof commonUapi

/** An open whose common commands go through `dispatch` in their binary form, as those of another process do. */
export class BinaryClient {
  readonly node: AccelNode
  readonly open: Open

  constructor(node: AccelNode, options?: OpenOptions) {
    this.node = node
    this.open = node.open(options)
  }

  async call<K extends string & keyof CommandsOf<CommonUapi>>(
    name: K,
    input: CommandInput<CommonUapi, K>,
    options?: CallOptions,
  ): Promise<CommandOutput<CommonUapi, K>> {
    const command: Command = commonUapi.byName(name)
    const reply = await this.node.dispatch(this.open, command.number, command.in.encode(input), options)
    return command.out.decode(reply.bytes, [...reply.fds]) as CommandOutput<CommonUapi, K>
  }

  async query<K extends QueryKind>(kind: K, from = 0): Promise<QueryOutput<K> | undefined> {
    return queryOutput(kind, await this.call('query', queryRequest(kind, from)))
  }

  events(after: bigint, options: CallOptions & { nonblock?: boolean } = {}) {
    const { nonblock = false, ...rest } = options
    return this.call('events', { after, options: { nonblock } }, rest)
  }

  show(path: string) {
    return this.call('attrShow', { path })
  }

  store(path: string, value: string) {
    return this.call('attrStore', { path, value })
  }

  close(): Promise<void> {
    return this.node.close(this.open)
  }
}
