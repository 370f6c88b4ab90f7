import { spawn } from 'node:child_process'
import { accelError } from '@uaccel/uapi'

/** How long something may take. */
export interface Limit {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** Reads and writes of sysfs that the kernel may hold up: an unbind waits for whoever has the device. */
export interface SysfsAccess {
  write(path: string, value: string, limit: Limit): Promise<void>
  read(path: string, limit: Limit): Promise<string>
}

/**
 * Each access is a process of its own. A thread of this one that waits in the kernel could not be given up, and this
 * process could not even end.
 *
 * @throws ERR_ACCEL_TIMEOUT and ERR_ACCEL_ABORTED: the kernel goes on with it; ERR_ACCEL_PERMISSION, ERR_ACCEL_SYSTEM
 */
export const sysfsAccess: SysfsAccess = {
  async write(path, value, limit) {
    await shell(`printf '%s\\n' "$1" > "$2"`, [value, path], `writing "${value}" to ${path}`, limit)
  },
  async read(path, limit) {
    return shell(`cat -- "$1"`, [path], `reading ${path}`, limit)
  },
}

async function shell(
  script: string,
  args: readonly string[],
  what: string,
  { timeoutMs, signal }: Limit,
): Promise<string> {
  const child = spawn('/bin/sh', ['-c', script, 'sh', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    detached: true,
  })
  let [out, errors] = ['', '']
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    errors += chunk
  })
  let timer: NodeJS.Timeout | undefined
  let stop: (() => void) | undefined
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve)
      timer = setTimeout(
        () => reject(accelError('ERR_ACCEL_TIMEOUT', `${what} did not end within ${timeoutMs} ms`)),
        timeoutMs,
      )
      stop = () =>
        reject(accelError('ERR_ACCEL_ABORTED', `${what} was not waited for`, { cause: signal?.reason }))
      if (signal?.aborted) stop()
      signal?.addEventListener('abort', stop)
    })
    if (code === 0) return out
    throw accelError(
      /permission denied|not permitted|read-only/i.test(errors) ? 'ERR_ACCEL_PERMISSION' : 'ERR_ACCEL_SYSTEM',
      `${what}: ${errors.trim().slice(-200) || `the shell ended with ${code}`}`,
    )
  } finally {
    clearTimeout(timer)
    if (stop) signal?.removeEventListener('abort', stop)
    child.stdout.destroy()
    child.stderr.destroy()
    child.unref()
  }
}
