import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { IommuKind } from '@uaccel/core'
import type { Test } from 'tap'

/*
 * In the guest: a device under kernel VFIO that a process of root serves as /run/uaccel/accel0, and clients of a user without rights.
 */

/** A user without any right. */
export const NOBODY = 65534
export const nodePath = '/run/uaccel/accel0'

/** What a program says: emulated processors take their time. */
const LIMIT_MS = 120_000

/** A program, and the first that it said. */
interface Started {
  readonly process: ChildProcess
  readonly said: Readonly<Record<string, unknown>>
}

async function start(t: Test, file: string, args: readonly string[], user: number): Promise<Started> {
  // Without it, nodes are looked for where root makes them.
  const { XDG_RUNTIME_DIR: _, ...env } = process.env
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env,
    uid: user,
    gid: user,
  })
  t.teardown(() => child.kill('SIGKILL'))
  return { process: child, said: await nextWord(child) }
}

/** The next that a program says. */
export async function nextWord(child: ChildProcess): Promise<Readonly<Record<string, unknown>>> {
  const limit = new AbortController()
  const signal = AbortSignal.any([limit.signal, AbortSignal.timeout(LIMIT_MS)])
  const ended = once(child, 'exit', { signal }).then(([code, killed]) => ({ ended: killed ?? code }))
  ended.catch(() => {})
  try {
    return await Promise.race([once(child, 'message', { signal }).then(([word]) => word), ended])
  } finally {
    limit.abort()
  }
}

/** Serves the device at `bdf`: see nodes.guest.server.ts. */
export async function serveInGuest(
  t: Test,
  bdf: string,
  iommu: IommuKind,
  ...how: 'exclusive'[]
): Promise<ChildProcess> {
  const { process: server, said } = await start(t, './nodes.guest.server.js', [bdf, iommu, ...how], 0)
  t.same(said, { served: nodePath })
  return server
}

/** A client: see nodes.guest.client.ts. */
export const clientInGuest = (t: Test, ...args: string[]) => start(t, './nodes.guest.client.js', args, NOBODY)

/** Ends a server in order. */
export async function stopServer(server: ChildProcess): Promise<void> {
  const gone = once(server, 'exit')
  server.kill('SIGTERM')
  await gone
}
