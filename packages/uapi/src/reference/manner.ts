import { commonUapi } from '../common.js'
import { errorTable } from '../errors.js'
import { MAX_MESSAGE_BYTES, MessageKind, messageHeader, nodeProtocol, PROTOCOL_VERSION } from '../protocol.js'
import { queryUapi } from '../query.js'
import type { Command, Uapi } from '../schema.js'
import type { StructLayout } from '../struct.js'

/** A number with a name, and what it means. */
export interface NamedNumber {
  readonly name: string
  readonly number: number
  readonly doc: string
}

/** How a uAPI is spoken of: what its entries are, and what belongs to it beside their structures. */
export interface Manner {
  /** What an entry is: a command, a kind of query, a message. */
  readonly entry: string
  /** Between the name of the uAPI and that of an entry: `UACCEL_EDU_CMD_FACTORIAL`. */
  readonly prefix: string
  /** The entries, in order of their numbers. */
  readonly numbers: readonly NamedNumber[]
  /** Constants of their own. */
  readonly constants: readonly NamedNumber[]
  /** What stands before each structure on the wire. */
  readonly header?: StructLayout
  /** Errors by code: with the common commands only, whose they are. */
  readonly errors: Partial<typeof errorTable>
  /** Whether it means something that entries run one at a time. */
  readonly ordered: boolean
  /** What a structure of an entry is for; `constant` is the name that C has for the entry. */
  role(command: Command, way: 'in' | 'out', constant: string): string
}

/** Commands in order of their numbers. */
export function commandsOf(uapi: Uapi): Command[] {
  return Object.values(uapi.commands).sort((a, b) => a.number - b.number)
}

/** The commands of drivers. */
const ofCommands = (uapi: Uapi): Manner => ({
  entry: 'command',
  prefix: 'CMD',
  numbers: commandsOf(uapi).map(({ name, number, doc = name }) => ({ name, number, doc })),
  constants: [],
  errors: {},
  ordered: true,
  role: (_command, way, constant) => `what ${constant} ${way === 'in' ? 'takes' : 'answers'}`,
})

const ofNode: Partial<Manner> = {
  entry: 'message',
  prefix: 'KIND',
  numbers: [
    {
      name: 'hello',
      number: MessageKind.HELLO,
      doc: 'The first message of either side; `code` of the server’s is 0 or the error’s number.',
    },
    {
      name: 'request',
      number: MessageKind.REQUEST,
      doc: 'A command: `code` is its number, the payload what it takes.',
    },
    {
      name: 'reply',
      number: MessageKind.REPLY,
      doc: 'The answer to the request of that `id`: `code` is 0, or the error’s number.',
    },
    {
      name: 'cancel',
      number: MessageKind.CANCEL,
      doc: 'Withdraws the request of that `id`, which is answered all the same.',
    },
    {
      name: 'event',
      number: MessageKind.EVENT,
      doc: 'From the server: `code` is the number of the error that ends the connection.',
    },
  ],
  constants: [
    {
      name: 'protocolVersion',
      number: PROTOCOL_VERSION,
      doc: 'What a client that is built with this says as `protocol` of its hello.',
    },
    {
      name: 'maxMessageBytes',
      number: MAX_MESSAGE_BYTES,
      doc: 'No message is longer, header included. What a server takes is in its hello.',
    },
  ],
  header: messageHeader.layout,
  ordered: false,
  role: ({ name }, way, constant) =>
    name === 'error'
      ? 'the payload of a message from the server whose `code` is not 0'
      : `the payload of ${constant} from the ${way === 'in' ? 'client' : 'server'}`,
}

const ofQueries: Partial<Manner> = {
  entry: 'kind',
  prefix: 'KIND',
  ordered: false,
  role: (_command, _way, constant) => `\`data\` of the answer to a query of kind ${constant}`,
}

const special = new Map<Uapi, Partial<Manner>>([
  [nodeProtocol, ofNode],
  [queryUapi, ofQueries],
  [commonUapi, { errors: errorTable }],
])

/** How `uapi` is spoken of. */
export function mannerOf(uapi: Uapi): Manner {
  return { ...ofCommands(uapi), ...special.get(uapi) }
}
