import { type AccelError, accelError, errorCode, errorTable, isAccelError } from './errors.js'
import { doc } from './field.js'
import { u16, u32 } from './scalars.js'
import { buildUapi, cmd, type Uapi } from './schema.js'
import { bytes, string } from './sequences.js'
import { structCodec } from './struct.js'

/*
 * What client and server of a node say to each other over its Unix socket: docs/protocol.md.
 */

/** The protocol that this package speaks. Grows only where an older peer could not follow. */
export const PROTOCOL_VERSION = 1
/** What each message begins with. Sockets place its fields themselves: one message is not worth an object. */
export const messageHeader = structCodec(
  {
    length: doc('Bytes of the whole message, this header included.', u32),
    id: doc('Of a request: any that still waits for no answer. Of a reply: that of its request.', u32),
    kind: doc('One of UACCEL_NODE_KIND_*.', u16),
    fds: doc('Descriptors that travel with the message (SCM_RIGHTS).', u16),
    code: doc(
      'Of a request: the number of its command. From the server: 0, or the number of an error, whose structure is the payload.',
      u32,
    ),
    timeoutMs: doc(
      'Of a request: its limit in milliseconds, the wait for its turn included; 0 is the server’s own.',
      u32,
    ),
    reserved: doc('Zero.', u32),
  },
  'header',
)
/** Size of {@link messageHeader}. */
export const HEADER_BYTES = 24
/** No message is longer, whatever a server allows. */
export const MAX_MESSAGE_BYTES = 1 << 24

export const MessageKind = {
  /** The first message of either side; `code` of the server's is 0 or the error's number. */
  HELLO: 1,
  /** A command: `code` is its number, `timeoutMs` its limit, 0 for the server's own. */
  REQUEST: 2,
  /** Its answer: `code` is 0, or the error's number. */
  REPLY: 3,
  /** Withdraws the request of that id. */
  CANCEL: 4,
  /** From the server, of nobody's asking. `code` is the error's number: it closes the connection, and says why. */
  EVENT: 5,
} as const

const identity = {
  uapi: doc("Name of the driver's uAPI, such as edu; common for the common commands alone.", string(32)),
  version: doc('Its version.', u32),
  commonVersion: doc('Version of the common commands.', u32),
  digest: doc('SHA-256 of the layouts of the uAPI; of length 0 it is not compared.', bytes(32)),
}
const protocol = doc('Version of the protocol: the lower of what both say holds.', u32)

/** The payloads that are no command's; each has the number of its {@link MessageKind}. */
export const nodeProtocol = buildUapi(
  {
    name: 'node',
    version: 1,
    commands: {
      hello: cmd(MessageKind.HELLO, {
        doc: 'What either side speaks. The server tells its name of the node, and what one connection may have under way.',
        in: { protocol, ...identity },
        out: {
          protocol,
          ...identity,
          node: doc('Name of the node, such as accel0.', string(32)),
          maxMessageBytes: doc('Bytes of one message.', u32),
          maxRequests: doc('Requests under way.', u32),
          maxPendingBytes: doc('Bytes of the payloads of the requests under way.', u32),
          maxFds: doc('Descriptors of the requests under way.', u32),
        },
      }),
      error: cmd(MessageKind.REPLY, {
        doc: 'What follows a header whose `code` is the number of an error. `details` is a JSON object, or empty.',
        out: {
          errno: doc('Name of the errno, such as EBUSY.', string(16)),
          syscall: doc('System call that failed; empty where none did.', string(32)),
          message: doc('What was wanted, what was found, what to do.', string(1024)),
          details: doc('A JSON object, or empty.', string(1024)),
        },
      }),
    },
  },
  { first: MessageKind.HELLO, last: MessageKind.EVENT },
)

/** What one side says that it speaks. */
export interface SpokenUapi {
  readonly uapi: string
  readonly version: number
  readonly digest: Uint8Array
}

/** What a side that was built with `uapi` says that it speaks. */
export function spoken(uapi: Uapi): SpokenUapi {
  return { uapi: uapi.name, version: uapi.version, digest: Uint8Array.from(Buffer.from(uapi.digest, 'hex')) }
}

/** The name of the uAPI that every node speaks besides its driver's. */
const COMMON = 'common'

/**
 * Whether a client of one uAPI can use a node of another: of two versions the newer one has only grown.
 *
 * @throws ERR_ACCEL_VERSION they are of different names, or of one version and yet different
 */
export function requireSameUapi(node: string, served: SpokenUapi, wanted: SpokenUapi): void {
  if (wanted.uapi === COMMON) return
  if (served.uapi !== wanted.uapi) {
    throw accelError(
      'ERR_ACCEL_VERSION',
      `${node} speaks ${served.uapi}, not ${wanted.uapi}: open it with the uAPI of its driver`,
    )
  }
  if (served.version !== wanted.version || served.digest.length === 0 || wanted.digest.length === 0) return
  if (Buffer.compare(served.digest, wanted.digest) !== 0) {
    throw accelError(
      'ERR_ACCEL_VERSION',
      `${node} and its client both speak ${served.uapi} ${served.version}, but not the same: one of them was changed without a new version. Build both from one source`,
    )
  }
}

/** The payload that carries an error. What is no error of the table, a bug in a driver, crosses as `ERR_ACCEL_IO`. */
export function encodeError(error: unknown): { readonly number: number; readonly payload: Uint8Array } {
  const known = isAccelError(error)
    ? error
    : accelError('ERR_ACCEL_IO', error instanceof Error ? error.message : String(error))
  const { number, errno } = errorTable[known.code]
  const payload = nodeProtocol.commands.error.out.encode({
    errno: fitText(known.errno ?? errno, 16),
    syscall: fitText(known.syscall ?? '', 32),
    message: fitText(known.message, 1024),
    details: detailsText(known.details, 1024),
  })
  return { number, payload }
}

/** The error that {@link encodeError} sent. A code of a later version becomes `ERR_ACCEL_IO`, with the number in its details. */
export function decodeError(number: number, payload: Uint8Array): AccelError {
  const { errno, syscall, message, details } = nodeProtocol.commands.error.out.decode(payload)
  const code = errorCode(number)
  const facts = { ...parseDetails(details), ...(code === undefined ? { number } : {}) }
  return accelError(code ?? 'ERR_ACCEL_IO', message, {
    ...(syscall !== '' || errno !== errorTable[code ?? 'ERR_ACCEL_IO'].errno ? { errno } : {}),
    ...(syscall === '' ? {} : { syscall }),
    ...(Object.keys(facts).length === 0 ? {} : { details: facts }),
  })
}

/** `text` cut to at most `max` bytes of UTF-8, between two characters. */
export function fitText(text: string, max: number): string {
  const encoded = Buffer.from(text)
  let end = Math.min(encoded.length, max)
  // 10xxxxxx continues a character: RFC 3629, section 3
  while (end < encoded.length && end > 0 && (encoded[end]! & 0xc0) === 0x80) end--
  return encoded.toString('utf8', 0, end)
}

/** JSON, or nothing where that would be too long: half an object says nothing. */
function detailsText(details: Readonly<Record<string, unknown>> | undefined, max: number): string {
  if (details === undefined) return ''
  try {
    const text = JSON.stringify(details, (_key, value: unknown) =>
      typeof value === 'bigint' ? `${value}` : value,
    )
    return Buffer.byteLength(text) <= max ? Buffer.from(text).toString() : ''
  } catch {
    return '' // it refers to itself: facts for programs of this process
  }
}

function parseDetails(text: string): Record<string, unknown> {
  if (text === '') return {}
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
  } catch {
    return {}
  }
}

/** Where a server that runs as root makes its nodes. */
export const SYSTEM_NODE_FOLDER = '/run/uaccel'

/** Where the nodes are: those of this user first, then the system's. */
export function nodeFolders(): string[] {
  const own = process.env.XDG_RUNTIME_DIR
  return own ? [`${own}/uaccel`, SYSTEM_NODE_FOLDER] : [SYSTEM_NODE_FOLDER]
}
