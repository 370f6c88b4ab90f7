import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openAccel } from '@uaccel/client'
import { commonUapi, isAccelError } from '@uaccel/uapi'

const command = fileURLToPath(new URL('../../../cli/bin/uaccel.mjs', import.meta.url))
const START_MS = 30_000

/** An NPU whose model has a process of its own, and the node of a server that drives it over vfio-user. */
export interface ServedNpu {
  /** The path of the node. */
  readonly node: string
  readonly model: ChildProcess
  close(): Promise<void>
}

/** Starts the model and the server, with the commands that a user has. */
export async function serveNpu(): Promise<ServedNpu> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-wpt-'))
  const { NODE_OPTIONS: _, ...env } = process.env
  let said = ''
  const start = (...args: string[]) => {
    const child = spawn(process.execPath, [command, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = `${said}${text}`.slice(-4096)
    })
    return child
  }
  const socket = join(folder, 'npu.sock')
  const model = start('model', 'npu', '--socket', socket)
  await until(
    () => existsSync(socket),
    model,
    () => said,
  )
  const config = join(folder, 'uaccel.json')
  writeFileSync(config, JSON.stringify({ folder, devices: [{ vfioUser: socket }] }))
  const server = start('serve', '--config', config)
  const node = join(folder, 'accel0')
  await until(
    async () => {
      try {
        await (await openAccel(commonUapi, node)).close()
        return true
      } catch (error) {
        if (isAccelError(error)) return false
        throw error
      }
    },
    server,
    () => said,
  )
  return {
    node,
    model,
    async close() {
      for (const child of [server, model]) {
        const gone = new Promise((resolve) => child.once('exit', resolve))
        if (child.exitCode !== null || child.signalCode !== null) continue
        child.kill('SIGTERM')
        await gone
      }
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function until(
  holds: () => boolean | Promise<boolean>,
  child: ChildProcess,
  said: () => string,
): Promise<void> {
  const what = child.spawnargs.slice(2).join(' ')
  for (const start = performance.now(); !(await holds()); await sleep(20)) {
    if (child.exitCode !== null) throw new Error(`${what} ended with ${child.exitCode}: ${said()}`)
    if (performance.now() - start > START_MS)
      throw new Error(`${what} is not ready after ${START_MS} ms: ${said()}`)
  }
}
