import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { accelError } from '@uaccel/uapi'

const bin = fileURLToPath(new URL('../bin/uaccel.mjs', import.meta.url))

/** Serves a model in a process of its own while `use` runs, on a socket that nobody else has. */
export async function withModel<T>(name: string, use: (socket: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'uaccel-'))
  const socket = join(folder, `${name}.sock`)
  const server = spawn(process.execPath, [bin, 'model', name, '--socket', socket], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  try {
    await ready(server.stderr, name)
    return await use(socket)
  } finally {
    server.kill()
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit')
    await rm(folder, { recursive: true, force: true })
  }
}

/** The model tells on stderr when its socket is there. */
function ready(stderr: NodeJS.ReadableStream, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    stderr.on('data', (chunk) => {
      text += String(chunk)
      if (text.includes(`${name} on `)) resolve()
    })
    stderr.once('end', () =>
      reject(accelError('ERR_ACCEL_CLOSED', `The model ${name} did not start: ${text.trim()}`)),
    )
  })
}
