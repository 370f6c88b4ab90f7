import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { closeAll, MessageSocket, sys } from '@uaccel/sys'
import {
  type AccelError,
  accelError,
  commonUapi,
  decodeError,
  isAccelError,
  MessageKind,
  nodeFolders,
  nodeProtocol,
  PROTOCOL_VERSION,
  requireSameUapi,
  spoken,
  type Uapi,
} from '@uaccel/uapi'
import { NodeClient, type ServerHello } from './client.js'

/** How a node is opened. */
export interface OpenOptions {
  /** How long the server may take to answer, in ms. 5 seconds unless told. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** Where nodes are looked for by name, in place of `$XDG_RUNTIME_DIR/uaccel` and /run/uaccel. */
  readonly folder?: string
}

/** How long a peer may leave requests unread: a server reads always. */
const STALL_MS = 30_000
/** Between two attempts to connect to a server whose queue is full. */
const RETRY_MS = 20
/** The queue of the server is looked at without waiting for it: the event loop has others to serve. */
const CONNECT_MS = 1
const HELLO_ID = 0

/**
 * Opens a device that another process serves: `accel0`, or the path of its socket. The open lasts until `close`, or until this
 * process ends, however it does.
 *
 * @throws ERR_ACCEL_NOT_FOUND no such node, or nobody serves it
 * @throws ERR_ACCEL_PERMISSION this user may not open it
 * @throws ERR_ACCEL_VERSION it speaks another uAPI, or the same one in another form
 * @throws ERR_ACCEL_BUSY it is exclusive, and somebody has it: the message and `details` say who
 * @throws ERR_ACCEL_AGAIN it is in reset, being cleaned after its last user, or has as many opens as it may have
 * @throws ERR_ACCEL_NO_DEVICE its device is gone
 * @throws ERR_ACCEL_TIMEOUT its server does not answer
 */
export async function openAccel<U extends Uapi>(
  uapi: U,
  name: string,
  options: OpenOptions = {},
): Promise<NodeClient<U>> {
  const { timeoutMs = 5000, signal } = options
  const deadline = performance.now() + timeoutMs
  const { path, fd } = await connect(name, options, deadline)
  return new Promise((resolve, reject) => {
    let client: NodeClient<U> | undefined
    const settle = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    const fail = (error: AccelError) => {
      settle()
      socket.close()
      reject(error)
    }
    const abort = () =>
      fail(
        accelError('ERR_ACCEL_ABORTED', `The open of ${path} was aborted by its caller`, {
          cause: signal?.reason,
        }),
      )
    const socket = new MessageSocket(
      fd,
      {
        message: (message) => {
          if (client) return client.receive(message)
          closeAll(message.fds) // a hello has none
          try {
            const hello = checkHello(path, uapi, message.kind, message.code, message.payload)
            client = new NodeClient(uapi, socket, hello)
          } catch (error) {
            if (!isAccelError(error)) throw error
            return fail(error)
          }
          settle()
          resolve(client)
        },
        ended: (cause) => {
          if (client) return client.dropped(cause)
          const why =
            'It ended the connection during the hello: it is no server of nodes, or is being stopped'
          fail(accelError('ERR_ACCEL_PROTOCOL', `Cannot open ${path}: ${why}`, { cause }))
        },
      },
      { stallMs: STALL_MS, receiveWhileBlocked: true },
    )
    const timer = setTimeout(
      () =>
        fail(
          accelError(
            'ERR_ACCEL_TIMEOUT',
            `The server of ${path} did not answer within ${timeoutMs} ms. Is it a server of nodes, and alive?`,
          ),
        ),
      Math.max(0, deadline - performance.now()),
    )
    signal?.addEventListener('abort', abort, { once: true })
    if (signal?.aborted) return abort()
    const hello = nodeProtocol.commands.hello.in.encode({
      protocol: PROTOCOL_VERSION,
      ...spoken(uapi),
      commonVersion: commonUapi.version,
    })
    socket.send(MessageKind.HELLO, HELLO_ID, 0, 0, hello)
  })
}

/** What the server says of itself, or why it refuses. */
function checkHello(path: string, uapi: Uapi, kind: number, code: number, payload: Uint8Array): ServerHello {
  if ((kind === MessageKind.HELLO && code !== 0) || kind === MessageKind.EVENT)
    throw decodeError(code, payload)
  if (kind !== MessageKind.HELLO) {
    throw accelError('ERR_ACCEL_PROTOCOL', `${path} answered the hello with a message of kind ${kind}`)
  }
  const hello = nodeProtocol.commands.hello.out.decode(payload)
  if (hello.protocol !== PROTOCOL_VERSION) {
    throw accelError(
      'ERR_ACCEL_VERSION',
      `The server of ${path} speaks version ${hello.protocol} of the node protocol; this client speaks ${PROTOCOL_VERSION}`,
    )
  }
  requireSameUapi(hello.node, hello, spoken(uapi))
  return hello
}

async function connect(
  name: string,
  { folder, signal }: OpenOptions,
  deadline: number,
): Promise<{ path: string; fd: number }> {
  const folders = folder === undefined ? nodeFolders() : [folder]
  const paths = name.includes('/') ? [name] : folders.map((each) => join(each, name))
  for (;;) {
    let full: unknown
    for (const path of paths) {
      try {
        return { path, fd: sys.connectUnix(path, CONNECT_MS) }
      } catch (error) {
        if (!isAccelError(error)) throw error
        if (error.errno === 'EAGAIN') full = error
        else if (error.errno !== 'ENOENT') throw notOpened(path, error)
      }
    }
    if (full === undefined) {
      const there = nodeNames(folder).join(', ') || 'none'
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `No node ${paths.join(' or ')}; there: ${there}. Is its server running?`,
      )
    }
    if (performance.now() >= deadline) throw full
    await sleep(RETRY_MS, undefined, { signal }).catch((cause) => {
      throw accelError('ERR_ACCEL_ABORTED', `The open of ${name} was aborted by its caller`, { cause })
    })
  }
}

function notOpened(path: string, cause: AccelError): AccelError {
  const { errno, syscall } = cause
  const extras = {
    cause,
    ...(errno === undefined ? {} : { errno }),
    ...(syscall === undefined ? {} : { syscall }),
  }
  if (errno === 'ECONNREFUSED') {
    return accelError(
      'ERR_ACCEL_NOT_FOUND',
      `Nobody serves ${path}: its server has ended. Start it again`,
      extras,
    )
  }
  const why =
    errno === 'EACCES'
      ? 'this user may not. Its mode, owner and group are set where it is served'
      : cause.message
  return accelError(cause.code, `Cannot open ${path}: ${why}`, extras)
}

/** Names of the nodes that are there, where `openAccel` looks for them; whether somebody serves them is another matter. */
export function nodeNames(folder?: string): string[] {
  const names = (folder === undefined ? nodeFolders() : [folder]).flatMap((each) => {
    try {
      return readdirSync(each).filter((name) => /^accel\d+$/.test(name))
    } catch {
      return [] // not there, or not ours to read
    }
  })
  const number = (name: string) => Number(name.slice('accel'.length))
  return [...new Set(names)].sort((a, b) => number(a) - number(b))
}
