import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { accelError } from '@uaccel/uapi'

const bin = fileURLToPath(new URL('../bin/uaccel.mjs', import.meta.url))

/**
 * Serves a model in a process of its own while `use` runs, on a socket that nobody else has. It ends with this process, and hears no signal of the
 * terminal: whoever calls this catches those, and has `use` end.
 */
export async function withModel<T>(name: string, use: (socket: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  const socket = join(folder, `${name}.sock`)
  const server = fork(bin, ['model', name, '--socket', socket, '--quiet'], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    detached: true,
  })
  const gone = once(server, 'exit')
  try {
    const errors = text(server.stderr!)
    // It says when its socket is there.
    const started = await Promise.race([once(server, 'message'), gone.then(() => undefined)])
    if (!started)
      throw accelError('ERR_ACCEL_CLOSED', `The model ${name} did not start: ${(await errors).trim()}`)
    return await use(socket)
  } finally {
    if (server.connected) server.disconnect()
    await gone
    rmSync(folder, { recursive: true, force: true })
  }
}
