import {
  chmodSync,
  chownSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  unlinkSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { abi, sys, systemError } from '@uaccel/sys'
import { accelError, isAccelError, nodeFolders, SYSTEM_NODE_FOLDER } from '@uaccel/uapi'
import { userName } from './accounts.js'

/** Who may open a node: permissions of its socket. A client needs the right to write. */
export interface Access {
  readonly mode: number
  /** -1 leaves it to the system, as in chown(2). */
  readonly uid: number
  readonly gid: number
}

/** A socket that listens in its place. */
export interface PlacedSocket {
  readonly path: string
  readonly fd: number
  /** Takes the file away, where it still is this socket. */
  remove(): void
}

const FOLDER_MODE = 0o755
/** How long somebody else may be placing a socket in the same folder. */
const LOCK_MS = 5000
const LOCK_RETRY_MS = 10
/** Whether a socket has a server is seen at once; one whose queue is full has one. */
const PROBE_MS = 1
const BACKLOG = 128
/** Where a socket is made before it appears under its name. */
const DRAFT = '.new-'
/** There while somebody places or removes a socket. Its file is the server's alone: who may only look into the folder locks nothing. */
const LOCK = '.lock'
/** Permissions of a folder: others may write, and only remove what is theirs. inode(7) */
const S_IWOTH = 0o0002
const S_ISVTX = 0o1000

/**
 * Makes a listening socket, with its permissions, at `folder/name`. It appears there as a whole: nobody can connect before it
 * has its owner and mode. One that a dead server left is replaced; of two servers that start at once, one gets it.
 *
 * @throws ERR_ACCEL_BUSY a server answers on it; ERR_ACCEL_INVALID_ARGUMENT something else is there
 * @throws ERR_ACCEL_PERMISSION this user may not, or others could change what is in the folder
 */
export async function placeSocket(folder: string, name: string, access: Access): Promise<PlacedSocket> {
  const path = join(folder, name)
  makeFolder(folder)
  return locked(folder, () => {
    refuseServed(path)
    // Who was killed before the rename left its draft: nobody else has one now.
    for (const draft of readdirSync(folder).filter((each) => each.startsWith(DRAFT)))
      rmSync(join(folder, draft), { recursive: true, force: true })
    const made = attempt('mkdir', folder, () => mkdtempSync(join(folder, DRAFT)))
    let fd: number | undefined
    try {
      const first = join(made, 's')
      fd = sys.listenUnix(first, BACKLOG)
      attempt('chown', path, () => chownSync(first, access.uid, access.gid))
      attempt('chmod', path, () => chmodSync(first, access.mode))
      const id = identity(lstatSync(first))
      attempt('rename', path, () => renameSync(first, path))
      return { path, fd, remove: () => removeIfStill(path, id) }
    } catch (error) {
      if (fd !== undefined) sys.close(fd)
      throw error
    } finally {
      rmSync(made, { recursive: true, force: true })
    }
  })
}

/** Makes the folder of nodes, where it is absent. @throws ERR_ACCEL_PERMISSION this user may not; see {@link requireSafe} */
export function makeFolder(folder: string): void {
  attempt('mkdir', folder, () => mkdirSync(folder, { recursive: true, mode: FOLDER_MODE }))
  requireSafe(folder)
}

/**
 * Refuses a folder of nodes that somebody else owns, or may write to: a socket under construction could be exchanged there for a
 * link, whose target would get the owner and the mode; and clients could be led to another server.
 *
 * @throws ERR_ACCEL_PERMISSION it is there, and such a folder
 */
export function requireSafe(folder: string): void {
  const found = attempt('stat', folder, () => statSync(folder, { throwIfNoEntry: false }))
  if (!found) return
  const { uid, mode } = found
  const problem =
    uid !== 0 && uid !== process.geteuid?.()
      ? `belongs to ${userName(uid)}`
      : (mode & S_IWOTH) !== 0 && (mode & S_ISVTX) === 0
        ? 'can be changed by every user'
        : undefined
  if (problem === undefined) return
  throw accelError(
    'ERR_ACCEL_PERMISSION',
    `The folder of nodes ${folder} ${problem}: it is to be root's or the server's own, and not writable for others. Name another one, or remove it`,
  )
}

/** Takes away the socket that a server which died left at `folder/name`. One that is served stays. */
export async function removeDead(folder: string, name: string): Promise<void> {
  const path = join(folder, name)
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return
  await locked(folder, () => {
    try {
      refuseServed(path)
    } catch (error) {
      if (isAccelError(error, 'ERR_ACCEL_BUSY')) return
      throw error
    }
    rmSync(path, { force: true })
  })
}

/** Runs `work` while no other server places or removes a socket in the folder. */
async function locked<T>(folder: string, work: () => T): Promise<T> {
  const lock = join(folder, LOCK)
  for (const start = performance.now(); ; await sleep(LOCK_RETRY_MS)) {
    const fd = sys.open(lock, abi.O_RDWR | abi.O_CREAT | abi.O_NOFOLLOW)
    try {
      if (sys.lockFile(fd) && isStill(lock, fd)) {
        try {
          return work()
        } finally {
          rmSync(lock, { force: true })
        }
      }
    } finally {
      sys.close(fd)
    }
    if (performance.now() - start < LOCK_MS) continue
    throw accelError(
      'ERR_ACCEL_TIMEOUT',
      `Somebody has held the lock ${lock} for ${LOCK_MS} ms: see \`lslocks\`, and end it`,
    )
  }
}

/** Who had the lock before may have taken its file away; then others lock a new one. */
function isStill(path: string, fd: number): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false })
  return found !== undefined && identity(found) === identity(fstatSync(fd))
}

/** Where the nodes of this user's servers are. */
export function ownFolder(): string {
  if (process.getuid?.() === 0) return SYSTEM_NODE_FOLDER
  const own = nodeFolders().find((folder) => folder !== SYSTEM_NODE_FOLDER)
  if (own !== undefined) return own
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    'There is no folder for sockets of this user: XDG_RUNTIME_DIR is not set. Set it, or name a folder',
  )
}

function refuseServed(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (!found) return
  if (!found.isSocket()) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path} exists and is no socket: move it out of the way`)
  }
  let pid: number | undefined
  try {
    const fd = sys.connectUnix(path, PROBE_MS)
    try {
      pid = sys.peerCredentials(fd).pid
    } finally {
      sys.close(fd)
    }
  } catch (error) {
    if (!isAccelError(error)) throw error
    if (error.errno === 'ECONNREFUSED') return // its server is dead: the new socket takes its place
    if (error.errno !== 'EAGAIN') throw error
  }
  const who = pid === undefined ? 'a server that is busy' : `process ${pid}`
  throw accelError('ERR_ACCEL_BUSY', `${path} is served by ${who}: stop that one first`, {
    ...(pid === undefined ? {} : { details: { pid } }),
  })
}

const identity = ({ dev, ino }: Stats) => `${dev}:${ino}`

function removeIfStill(path: string, id: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found && identity(found) === id) attempt('unlink', path, () => unlinkSync(path))
}

/** What Node's file system throws, as an error of the table. */
function attempt<T>(syscall: string, path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException
    if (errno === undefined) throw error
    throw systemError(syscall, errno, path)
  }
}
