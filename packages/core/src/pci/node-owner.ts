import { chmodSync, constants, lchownSync, lstatSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { accelError } from '@uaccel/uapi'
import type { UserNode } from './nodes.js'
import type { Limit } from './sysfs-write.js'
import { deviceNumber } from './uses.js'

/** To whom a node is given. What is absent stays as it is. */
export interface NodeOwner {
  readonly uid?: number
  /** The group may read and write then. */
  readonly gid?: number
}

const intervalMs = 20

/**
 * Gives nodes to a user and a group, each when it has appeared: udev or devtmpfs make them after the driver has taken
 * the device.
 *
 * @throws ERR_ACCEL_TIMEOUT for a node that does not appear; ERR_ACCEL_PERMISSION
 */
export async function giveNodes(
  nodes: readonly UserNode[],
  { uid, gid }: NodeOwner,
  { timeoutMs, signal }: Limit,
): Promise<void> {
  const end = performance.now() + timeoutMs
  for (const node of nodes) {
    while (!isThere(node)) {
      if (signal?.aborted)
        throw accelError('ERR_ACCEL_ABORTED', `${node.path} was not waited for`, { cause: signal.reason })
      if (performance.now() > end) {
        throw accelError(
          'ERR_ACCEL_TIMEOUT',
          `${node.path}, character device ${node.number}, did not appear within ${timeoutMs} ms: is devtmpfs mounted there, or udev running?`,
        )
      }
      await sleep(intervalMs)
    }
    try {
      lchownSync(node.path, uid ?? -1, gid ?? -1)
      if (gid !== undefined) chmodSync(node.path, 0o660)
    } catch (cause) {
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `${node.path} could not be given away: ${(cause as Error).message}. Run this as root`,
        {
          cause,
        },
      )
    }
  }
}

/** True where the path is that character device itself, and no link to something else. */
function isThere({ path, number }: UserNode): boolean {
  try {
    const { mode, rdev } = lstatSync(path)
    return (mode & constants.S_IFMT) === constants.S_IFCHR && deviceNumber(rdev) === number
  } catch {
    return false
  }
}
