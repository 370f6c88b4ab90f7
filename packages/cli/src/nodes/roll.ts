import { type AccelError, isAccelError } from '@uaccel/uapi'
import { columnsOfStdout, note, printSchema } from '../output.js'
import { clean, grid } from '../text.js'
import type { FolderFlag, FoundNode } from './find.js'
import { findNodes, noNodes, openNode } from './find.js'

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
}

/** How long one node may take: a server that hangs keeps nobody from seeing the others. */
const ASK_MS = 2000

/** `uaccel list --nodes`: a line for each node, also for one that cannot be opened. */
export async function listNodes(flags: FolderFlag & { json?: boolean }): Promise<void> {
  const nodes = await Promise.all(findNodes(flags).map((node) => look(node, flags)))
  if (flags.json) return printSchema('uaccel.nodes/1', { nodes: nodes.map(jsonOf) })
  if (nodes.length === 0) return note(noNodes(flags))
  const columns = [
    { head: 'NODE' },
    { head: 'DEVICE', flexible: true },
    { head: 'DRIVER' },
    { head: 'ADDRESS', flexible: true },
    { head: 'STATE', flexible: true },
  ]
  const rows = nodes.map(({ target, identity, state, error }) => [
    target,
    clean(identity?.name ?? '') || '-',
    clean(identity?.driver ?? '-'),
    identity ? clean(`${identity.transport} ${identity.address}`) : '-',
    error ? whyNot(error) : (state ?? '-'),
  ])
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

function jsonOf({ target, path, identity, state, opens, error }: RollEntry) {
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
  }
}
