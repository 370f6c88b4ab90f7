import { lstatSync, readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type NodeClient, openAccel } from '@uaccel/client'
import { accelError, type CallOptions, commonUapi, isAccelError, nodeFolders } from '@uaccel/uapi'
import type { Command } from 'commander'
import { report } from '../output.js'

/** A node of any driver, opened for what every device answers. */
export type CommonNode = NodeClient<typeof commonUapi>

/** Where nodes are looked for. */
export interface FolderFlag {
  folder?: string
}

/** How a node is named on the command line, for help texts. */
export const nodeHelp = 'node, such as accel0; or the path of its socket'

export const folderOption = [
  '-f, --folder <folder>',
  'where nodes are looked for (default: $XDG_RUNTIME_DIR/uaccel, then /run/uaccel)',
] as const

const NODE_NAME = /^accel(\d+)$/

/** Whether a word of the command line is a node, and no device. */
export const isNode = (text: string): boolean => NODE_NAME.test(basename(text))

/** A socket where nodes are. */
export interface FoundNode {
  /** What to open it with: its name, or its path where a node of that name comes before it. */
  readonly target: string
  readonly path: string
}

/** The nodes that are there, served or not, by number. A folder that is absent has none; one that may not be read is an error. */
export function findNodes({ folder }: FolderFlag = {}): FoundNode[] {
  const found: FoundNode[] = []
  for (const each of folder === undefined ? nodeFolders() : [folder]) {
    const names = namesIn(each).sort((a, b) => numberOf(a) - numberOf(b))
    for (const name of names) {
      const path = join(each, name)
      found.push({ target: found.some(({ target }) => target === name) ? path : name, path })
    }
  }
  return found
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter(
      (name) => NODE_NAME.test(name) && lstatSync(join(folder, name), { throwIfNoEntry: false })?.isSocket(),
    )
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') return []
    if (code === 'EACCES')
      throw accelError('ERR_ACCEL_PERMISSION', `This user may not look into ${folder}, where nodes are`, {
        cause,
      })
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${folder} is no folder that can be read (${code})`, {
      cause,
    })
  }
}

const numberOf = (name: string) => Number(NODE_NAME.exec(name)![1])

/** The nodes that were named, or all that there are. `ERR_ACCEL_NOT_FOUND` where there is none. */
export function chosenNodes(named: readonly string[], flags: FolderFlag): string[] {
  if (named.length > 0) return [...new Set(named)]
  const found = findNodes(flags).map(({ target }) => target)
  if (found.length > 0) return found
  throw accelError('ERR_ACCEL_NOT_FOUND', noNodes(flags))
}

/** What to do where there is no node. */
export function noNodes({ folder }: FolderFlag): string {
  const where = folder === undefined ? nodeFolders() : [folder]
  const option = folder === undefined ? '' : ` --folder ${folder}`
  return (
    `There is no node in ${where.join(' or ')}. \`uaccel serve${option}\` makes them for the devices of this machine, ` +
    `\`uaccel serve --model edu npu${option}\` for models; nodes elsewhere are found with --folder.`
  )
}

/** Opens a node by name or path. Errors are those of `openAccel`. */
export function openNode(
  target: string,
  { folder }: FolderFlag = {},
  options: CallOptions = {},
): Promise<CommonNode> {
  return openAccel(commonUapi, target, { ...options, ...(folder === undefined ? {} : { folder }) })
}

/** Opens nodes at the same time. One that cannot be opened is told, with the exit code of the first, and the others are given. */
export async function openNodes(targets: readonly string[], flags: FolderFlag): Promise<CommonNode[]> {
  const opened = await Promise.allSettled(targets.map((target) => openNode(target, flags)))
  return opened.flatMap((result) => {
    if (result.status === 'fulfilled') return [result.value]
    if (!isAccelError(result.reason)) throw result.reason
    process.exitCode ||= report(result.reason)
    return []
  })
}

/** Runs `use` with a node, and closes it. */
export async function withNode<T>(
  target: string,
  flags: FolderFlag,
  use: (node: CommonNode) => Promise<T>,
): Promise<T> {
  const node = await openNode(target, flags)
  try {
    return await use(node)
  } finally {
    await node.close()
  }
}

/** The options of every command that takes nodes. */
export function nodeOptions(command: Command): Command {
  return command.option(...folderOption)
}
