import { type AccelError, accelError, errorCode, errorTable, isAccelError } from './errors.js'
import { u32 } from './scalars.js'
import { buildUapi, cmd, type Uapi } from './schema.js'
import { bytes, string } from './sequences.js'

/*
 * What client and server of a node say to each other over its Unix socket: docs/protocol.md.
 */

/** The protocol that this package speaks. Grows only where an older peer could not follow. */
export const PROTOCOL_VERSION = 1
/**
 * Before every message, little-endian: u32 length of the whole message, u32 id, u16 kind, u16 descriptors that travel with it,
 * u32 code, u32 timeoutMs, u32 reserved (0).
 */
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

const identity = { uapi: string(32), version: u32, commonVersion: u32, digest: bytes(32) }

/** The payloads that are no command's; each has the number of its {@link MessageKind}. */
export const nodeProtocol = buildUapi(
  {
    name: 'node',
    version: 1,
    commands: {
      hello: cmd(MessageKind.HELLO, {
        doc:
          'What either side speaks. The protocol is the lower of the two versions. An empty digest is not compared. The server ' +
          'tells its name of the node, and what one connection may have under way.',
        in: { protocol: u32, ...identity },
        out: {
          protocol: u32,
          ...identity,
          node: string(32),
          maxMessageBytes: u32,
          maxRequests: u32,
          maxPendingBytes: u32,
          maxFds: u32,
        },
      }),
      error: cmd(MessageKind.REPLY, {
        doc: 'What follows a header whose `code` is the number of an error. `details` is a JSON object, or empty.',
        out: { errno: string(16), syscall: string(32), message: string(1024), details: string(1024) },
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
