import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Transport } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import type { Test } from 'tap'

/** How a model is served. */
export interface ServedModelOptions {
  /** What the model itself takes: plain data. */
  readonly model?: object
}

/** A device model in a process of its own, behind vfio-user. */
export interface ServedModel {
  /** Its socket, for whoever speaks vfio-user, such as QEMU. It is there once {@link start} has resolved. */
  readonly path: string
  /** Starts the process, unless it runs. */
  start(): Promise<void>
  /** Connects to it, and starts it before where it does not run. */
  connect(): Promise<Transport>
  /** What the driver did since the last time that the device does not allow. @throws ERR_ACCEL_CLOSED where the process ends meanwhile */
  violations(): Promise<string[]>
  /** The device is gone at once, as if it lost its power: its process is killed. */
  kill(): Promise<void>
}

const program = fileURLToPath(new URL('./model-server.js', import.meta.url))

/**
 * A process for the model that a module exports: a crash of it is none of the test's, and its memory is reached as that of a device is.
 * It ends with the test.
 *
 * @throws from `start` and `connect`: ERR_ACCEL_CLOSED with what the process said, where it ends at once
 */
export function servedModel(t: Test, module: URL, options: ServedModelOptions = {}): ServedModel {
  // The name of a socket is short: a folder of the test would be too deep.
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  const path = join(folder, 'model.sock')
  let server: ChildProcess | undefined

  async function start(): Promise<void> {
    if (server) return
    const child = fork(program, [module.href, path, JSON.stringify(options.model ?? {})], {
      execArgv: [], // what a test runner loads into its tests, such as a compiler, takes seconds
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    })
    const said = text(child.stderr!)
    child.stderr!.pipe(process.stderr, { end: false }) // also what it says later, such as why it ended
    const gone = once(child, 'exit')
    server = child
    child.once('exit', () => {
      if (server === child) server = undefined
    })
    const ready = await Promise.race([once(child, 'message'), gone.then(() => undefined)])
    if (!ready)
      throw accelError(
        'ERR_ACCEL_CLOSED',
        `The model of ${module.href} did not start: ${(await said).trim()}`,
      )
  }

  async function end(how: (child: ChildProcess) => void): Promise<void> {
    const child = server
    if (!child) return
    const gone = once(child, 'exit')
    how(child)
    await gone
  }

  t.teardown(async () => {
    await end((child) => child.disconnect())
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    path,
    start,
    async connect() {
      await start()
      return connectVfioUser(path)
    },
    async violations() {
      const child = server
      if (!child) return []
      const told = new AbortController()
      const { signal } = told
      try {
        const answer = once(child, 'message', { signal }) as Promise<[{ violations: string[] }]>
        const gone = once(child, 'exit', { signal }).then((): [{ violations: string[] }] => {
          throw accelError(
            'ERR_ACCEL_CLOSED',
            `The process of ${module.href} ended before it told its violations.`,
          )
        })
        for (const each of [answer, gone]) each.catch(() => {})
        child.send('violations', () => {}) // one that cannot be told has ended
        const [{ violations }] = await Promise.race([answer, gone])
        return violations
      } finally {
        told.abort()
      }
    },
    kill: () => end((child) => void child.kill('SIGKILL')),
  }
}
