import type { OpenOptions, PeerCredentials } from '@uaccel/accel'
import { abi, sys, type Watch, watch } from '@uaccel/sys'
import {
  type AccelError,
  accelError,
  commonUapi,
  HEADER_BYTES,
  isAccelError,
  MAX_MESSAGE_BYTES,
  MAX_TAIL_BYTES,
} from '@uaccel/uapi'
import { accountId, userName } from './accounts.js'
import {
  Connection,
  type ConnectionHost,
  type ConnectionLimits,
  DEFAULT_CONNECTION_LIMITS,
} from './connection.js'
import { ownFolder, type PlacedSocket, placeSocket } from './place.js'
import type { Servable } from './servable.js'

/** How a node is offered to other processes. */
export interface ServeNodeOptions {
  /** Where its socket is made. /run/uaccel as root, else `$XDG_RUNTIME_DIR/uaccel`. */
  readonly folder?: string
  /** Permissions of the socket: who may write to it may open the node. 0o600 unless told. */
  readonly mode?: number
  /** User and group of the socket, by number or name. The server's own unless told. */
  readonly owner?: number | string
  readonly group?: number | string
  /** One open at a time: others are refused with `ERR_ACCEL_BUSY`. Default false. */
  readonly exclusive?: boolean
  /**
   * Opens at one time; more are refused with `ERR_ACCEL_AGAIN`. 256 unless told. Of them a quarter, at most 8, are for owners alone:
   * root, and the user of the server.
   */
  readonly maxOpens?: number
  /** Opens of one user at one time, who is no owner. As many as there are for all unless told. */
  readonly maxUserOpens?: number
  readonly limits?: Partial<ConnectionLimits>
  /** Told when a client was admitted, and when it left and for what reason. */
  readonly onClient?: (event: 'opened' | 'left', client: ConnectionInfo) => void
}

/** Who has a node open. */
export interface ConnectionInfo {
  readonly peer: PeerCredentials
  readonly since: Date
  readonly pendingRequests: number
}

/** Connections that are taken in one turn of the event loop. */
const TURN_CLIENTS = 16
/** Why a connection may not be had now (accept(2)), and when it is tried again. */
const passing = new Set(['ECONNABORTED', 'EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'])
const RETRY_MS = 100
const DEFAULT_MODE = 0o600
const DEFAULT_MAX_OPENS = 256
/** Opens that only owners may take: they can look, reset and stop whatever others do. */
const OWNER_OPENS = 8
/** Connections without an open: those that say hello, and those that are being freed. */
const MAX_OTHERS = 256
/** The same of one user who is no owner. */
const MAX_USER_OTHERS = 64
const DEFAULT_DRAIN_MS = 5000
/** How long a server that ends waits for what opens held to be freed; who removes the device after it has a limit of its own. */
const FREE_MS = 15_000

/**
 * Offers a node to other processes, on a Unix socket of its name: docs/protocol.md. Each connection is one open. Ends with `close`,
 * and by itself when the device goes. Opens of this process are not counted.
 *
 * @throws ERR_ACCEL_BUSY another server has the socket
 * @throws ERR_ACCEL_PERMISSION this user may not make it there, or with that owner
 * @throws ERR_ACCEL_NOT_FOUND no such user or group; no folder for sockets of this user
 */
export async function serveNode(node: Servable, options: ServeNodeOptions = {}): Promise<NodeServer> {
  if (node.reason) {
    throw accelError('ERR_ACCEL_NO_DEVICE', `${node.name} is gone: ${node.reason.message}`, {
      cause: node.reason,
    })
  }
  const { mode = DEFAULT_MODE, owner, group, folder = ownFolder() } = options
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o777) {
    throw accelError('ERR_ACCEL_OUT_OF_RANGE', `The mode of a node wants 0 to 0o777, found ${mode}`)
  }
  const placed = await placeSocket(folder, node.name, {
    mode,
    uid: owner === undefined ? -1 : accountId('user', owner),
    gid: group === undefined ? -1 : accountId('group', group),
  })
  return new NodeServer(node, placed, options)
}

/** The same on a socket that listens already, such as one that systemd made. Takes over its descriptor; its file stays. */
export function serveSocket(
  node: Servable,
  fd: number,
  path: string,
  options: Omit<ServeNodeOptions, 'folder' | 'mode' | 'owner' | 'group'> = {},
): NodeServer {
  return new NodeServer(node, { path, fd, remove() {} }, options)
}

/** A node on its socket. Made by {@link serveNode}. */
export class NodeServer implements AsyncDisposable {
  readonly path: string
  readonly node: Servable
  /** Resolves when the server has ended: by `close`, or because its device is gone. */
  readonly closed: Promise<void>
  readonly #placed: PlacedSocket
  readonly #exclusive: boolean
  readonly #maxOpens: number
  readonly #maxUserOpens: number
  readonly #onClient: ServeNodeOptions['onClient']
  readonly #host: ConnectionHost
  /** All that hold a descriptor here. */
  readonly #connections = new Set<Connection>()
  #accepting: Watch | undefined
  #retry: NodeJS.Timeout | undefined
  #stopping: Promise<void> | undefined
  #resolveClosed!: () => void

  /** @internal */
  constructor(node: Servable, placed: PlacedSocket, options: ServeNodeOptions) {
    this.node = node
    this.path = placed.path
    this.#placed = placed
    this.#exclusive = options.exclusive ?? false
    this.#maxOpens = options.maxOpens ?? DEFAULT_MAX_OPENS
    this.#maxUserOpens = options.maxUserOpens ?? this.#maxOpens
    this.#onClient = options.onClient
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    this.#host = {
      node,
      limits: { ...DEFAULT_CONNECTION_LIMITS, maxMessageBytes: longestRequest(node), ...options.limits },
      admit: (connection) => this.#admit(connection),
      left: (connection) => this.#tell('left', connection),
      gone: (connection) => this.#connections.delete(connection),
    }
    this.#listen()
    void node.lost.then((reason) => this.#stop(reason, 0))
  }

  /** Who has the node open now. */
  get connections(): ConnectionInfo[] {
    return this.#open()
  }

  /**
   * Takes the node away: new opens find nothing, requests under way get `drainMs` to end (5 seconds unless told), then the opens
   * are closed and what belonged to them is freed. The device stays its owner's. Idempotent; a second one with 0 ms ends what the
   * first one waits for.
   */
  close({ drainMs = DEFAULT_DRAIN_MS }: { readonly drainMs?: number } = {}): Promise<void> {
    return this.#stop(accelError('ERR_ACCEL_CLOSED', `the server of ${this.node.name} was stopped`), drainMs)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #stop(reason: AccelError, drainMs: number): Promise<void> {
    if (this.#stopping && drainMs === 0) for (const connection of this.#connections) connection.end(reason)
    this.#stopping ??= this.#drain(reason, drainMs)
    return this.#stopping
  }

  async #drain(reason: AccelError, drainMs: number): Promise<void> {
    clearTimeout(this.#retry)
    this.#accepting?.close()
    this.#placed.remove()
    sys.close(this.#placed.fd)
    // What a lost node still answers in this turn, such as the event of its removal, is sent before the end.
    await new Promise((resolve) => setImmediate(resolve))
    const connections = [...this.#connections]
    for (const connection of connections) {
      if (drainMs > 0) void connection.drain(reason, drainMs)
      else connection.end(reason)
    }
    const all = Promise.all(connections.map(({ gone }) => gone))
    let timer: NodeJS.Timeout | undefined
    const expired = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, drainMs + FREE_MS)
    })
    await Promise.race([all, expired])
    clearTimeout(timer)
    this.#resolveClosed()
  }

  #listen(): void {
    this.#accepting = watch(this.#placed.fd, () => this.#accept())
  }

  /** The watch is level-triggered: who comes later has its turn, and clients that never stop coming leave the loop to others. */
  #accept(): void {
    for (let taken = 0; taken < TURN_CLIENTS && !this.#stopping; taken++) {
      let fd: number | undefined
      try {
        fd = sys.accept(this.#placed.fd, abi.SOCK_NONBLOCK)
      } catch (error) {
        // The client gave up already, or no descriptor is free: that passes, and no client may end a server by it.
        if (!isAccelError(error) || !passing.has(error.errno ?? '')) throw error
        this.#accepting?.close()
        this.#retry = setTimeout(() => this.#listen(), RETRY_MS)
        return
      }
      if (fd === undefined) return
      const connection = new Connection(fd, sys.peerCredentials(fd), this.#host)
      this.#connections.add(connection)
      const full = this.#full([...this.#connections], connection.peer, MAX_OTHERS, MAX_USER_OTHERS)
      if (full) connection.end(full)
    }
  }

  #open(): Connection[] {
    return [...this.#connections].filter(({ isOpen }) => isOpen)
  }

  #admit(connection: Connection): unknown {
    const { node } = this
    if (node.state === 'resetting') {
      throw accelError('ERR_ACCEL_AGAIN', `${node.name} is in reset: try again`)
    }
    const open = this.#open()
    if (this.#exclusive) {
      const [holder] = open
      if (holder) throw this.#held(holder)
      if ([...this.#connections].some((other) => other.isFreeing)) {
        throw accelError('ERR_ACCEL_AGAIN', `${node.name} is being cleaned after its last user: try again`)
      }
    }
    const full = this.#full([...open, connection], connection.peer)
    if (full) throw full
    const opened = node.open(openOptions(connection.peer))
    this.#tell('opened', connection)
    return opened
  }

  /** What a listener throws is not for the client that it is told of. */
  #tell(event: 'opened' | 'left', connection: Connection): void {
    try {
      this.#onClient?.(event, connection)
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }

  #held({ peer, since }: Connection): AccelError {
    const user = userName(peer.uid)
    const at = since.toISOString()
    return accelError(
      'ERR_ACCEL_BUSY',
      `${this.node.name} is exclusive, and process ${peer.pid} of ${user} has it since ${at}: end that one first`,
      { details: { pid: peer.pid, uid: peer.uid, user, since: at } },
    )
  }

  /** Why these, of which the last is of `peer`, are too many; `undefined` where they are not. `more` are allowed beyond the opens. */
  #full(all: readonly Connection[], peer: PeerCredentials, more = 0, moreOfUser = 0): AccelError | undefined {
    const { name } = this.node
    const maxOpens = this.#maxOpens
    if (owns(peer)) {
      if (all.length <= maxOpens + more) return undefined
      return full(`${name} has as many opens as it may have`, { maxOpens })
    }
    const forAll = maxOpens - Math.min(OWNER_OPENS, maxOpens >> 2)
    const maxUserOpens = Math.min(this.#maxUserOpens, forAll)
    if (all.filter(({ peer: { uid } }) => uid === peer.uid).length > maxUserOpens + moreOfUser)
      return full(`${userName(peer.uid)} has as many opens of ${name} as a user may have`, { maxUserOpens })
    if (all.filter((other) => !owns(other.peer)).length <= forAll + more && all.length <= maxOpens + more)
      return undefined
    return full(`${name} has as many opens as it may have`, { maxOpens })
  }
}

const full = (what: string, details: Readonly<Record<string, number>>) =>
  accelError('ERR_ACCEL_AGAIN', `${what}: try again later`, { details })

/** Root, and who runs the server. */
const owns = ({ uid }: PeerCredentials) => uid === 0 || uid === process.geteuid?.()

/** Owners have all rights; others may call commands, and read what everybody may. */
function openOptions(peer: PeerCredentials): OpenOptions {
  return owns(peer) ? { peer } : { peer, rights: {} }
}

/** Somewhat more than the longest command may have with a newer client's tail: its codec gets to say what was too long. */
function longestRequest({ driver: { uapi } }: Servable): number {
  const commands = [...Object.values(uapi.commands), ...Object.values(commonUapi.commands)]
  const longest = Math.max(...commands.map((command) => command.in.layout.sizeBytes))
  return Math.min(HEADER_BYTES + longest + 2 * MAX_TAIL_BYTES, MAX_MESSAGE_BYTES)
}
