import { basename, join } from 'node:path'
import { openAccel } from '@uaccel/client'
import {
  type AccelError,
  CONTROL_NODE,
  type CommandReply,
  controlUapi,
  isAccelError,
  nodeFolders,
} from '@uaccel/uapi'
import { columnsOfStdout, note, printSchema } from '../output.js'
import { clean, grid } from '../text.js'
import type { FolderFlag, FoundNode } from './find.js'
import { findNodes, isNode, noNodes, openNode } from './find.js'

/** What a supervisor tells of a node. */
type Supervised = CommandReply<typeof controlUapi, 'nodes'>['entries'][number]

/** What is said of a node in one line. */
interface RollEntry extends FoundNode {
  readonly identity?: {
    readonly name: string
    readonly driver: string
    readonly transport: string
    readonly address: string
  }
  readonly state?: string
  readonly opens?: number
  readonly error?: AccelError
  /** Where it has a supervisor. */
  readonly supervised?: Supervised | undefined
}

/** How long one node may take: a server that hangs keeps nobody from seeing the others. */
const ASK_MS = 2000

/** `uaccel list --nodes`: a line for each node, also for one that cannot be opened. */
export async function listNodes(flags: FolderFlag & { json?: boolean }): Promise<void> {
  const folders = flags.folder === undefined ? nodeFolders() : [flags.folder]
  const told = new Map((await Promise.all(folders.map(askSupervisor))).flat())
  const found = findNodes(flags)
  // One whose process does not run has no socket.
  for (const path of told.keys()) {
    const name = basename(path)
    if (!found.some((node) => node.path === path))
      found.push({ target: found.some(({ target }) => target === name) ? path : name, path })
  }
  const place = ({ path }: FoundNode) => folders.findIndex((folder) => join(folder, basename(path)) === path)
  const number = ({ path }: FoundNode) => Number(basename(path).slice('accel'.length))
  found.sort((a, b) => place(a) - place(b) || number(a) - number(b))
  const nodes = await Promise.all(
    found.map(async (node) => ({ ...(await look(node, flags)), supervised: told.get(node.path) })),
  )
  if (flags.json) return printSchema('uaccel.nodes/1', { nodes: nodes.map(jsonOf) })
  if (nodes.length === 0) return note(noNodes(flags))
  const columns = [
    { head: 'NODE' },
    { head: 'DEVICE', flexible: true },
    { head: 'DRIVER' },
    { head: 'ADDRESS', flexible: true },
    { head: 'STATE', flexible: true },
  ]
  const rows = nodes.map(({ target, identity, state, error, supervised }) => {
    const { driver, transport, address } = identity ??
      supervised ?? { driver: '', transport: '', address: '' }
    return [
      target,
      clean(identity?.name ?? '') || '-',
      clean(driver) || '-',
      clean(`${transport} ${address}`).trim() || '-',
      error ? (notRunning(supervised) ?? whyNot(error)) : (state ?? '-'),
    ]
  })
  process.stdout.write(`${grid(columns, rows, columnsOfStdout()).join('\n')}\n`)
}

async function look(node: FoundNode, flags: FolderFlag): Promise<RollEntry> {
  try {
    const options = { timeoutMs: ASK_MS }
    const client = await openNode(node.path, flags, options)
    try {
      const [identity, status] = await Promise.all([
        client.query('identity', 0, options),
        client.query('status', 0, options),
      ])
      return {
        ...node,
        ...(identity ? { identity } : {}),
        // This open is none of the node's users.
        ...(status ? { state: status.state, opens: status.opens - 1 } : {}),
      }
    } finally {
      await client.close()
    }
  } catch (error) {
    if (!isAccelError(error)) throw error
    return { ...node, error }
  }
}

/** What the supervisor of a folder tells of its nodes, by path; nothing where there is none. */
async function askSupervisor(folder: string): Promise<[path: string, node: Supervised][]> {
  const options = { timeoutMs: ASK_MS }
  try {
    const control = await openAccel(controlUapi, join(folder, CONTROL_NODE), options)
    try {
      const nodes: Supervised[] = []
      for (;;) {
        const { total, entries } = await control.call('nodes', { from: nodes.length }, options)
        nodes.push(...entries)
        if (entries.length === 0 || nodes.length >= total) break
      }
      return nodes
        .filter(({ name }) => name === basename(name) && isNode(name))
        .map((node) => [join(folder, node.name), node])
    } finally {
      await control.close()
    }
  } catch (error) {
    if (!isAccelError(error)) throw error
    if (error.code !== 'ERR_ACCEL_NOT_FOUND')
      note(`The supervisor of ${folder} does not tell: ${clean(error.message)}`)
    return []
  }
}

/** The state of a node that has no process for its device now, and why. */
function notRunning(node: Supervised | undefined): string | undefined {
  if (node === undefined || node.state === 'running') return undefined
  const { state, retryNs, reason } = node
  const words = state === 'backOff' ? `back-off, ${Math.ceil(Number(retryNs) / 1e9)} s` : state
  return clean(reason === '' ? words : `${words}: ${reason}`)
}

/** Why a node cannot be opened, in few words. */
export function whyNot({ code, message, details }: AccelError): string {
  const pid = details?.pid
  switch (code) {
    case 'ERR_ACCEL_NOT_FOUND':
      return 'not served: its server has ended'
    case 'ERR_ACCEL_PERMISSION':
      return 'this user may not open it'
    case 'ERR_ACCEL_BUSY':
      return typeof pid === 'number' ? `held by process ${pid}` : clean(message)
    case 'ERR_ACCEL_TIMEOUT':
      return 'its server does not answer'
    default:
      return clean(message)
  }
}

function jsonOf({ target, path, identity, state, opens, error, supervised }: RollEntry) {
  return {
    node: target,
    path,
    ...(identity
      ? {
          ...(identity.name === '' ? {} : { name: identity.name }),
          driver: identity.driver,
          transport: identity.transport,
          address: identity.address,
        }
      : {}),
    ...(state === undefined ? {} : { state, opens }),
    ...(error ? { error: { code: error.code, message: error.message } } : {}),
    ...(supervised ? { process: processOf(supervised) } : {}),
  }
}

function processOf({ state, known, pid, restarts, retryNs, reason }: Supervised) {
  return {
    state,
    restarts,
    ...(known.pid ? { pid } : {}),
    ...(known.retry ? { retryMs: Math.round(Number(retryNs) / 1e6) } : {}),
    ...(reason === '' ? {} : { reason }),
  }
}
