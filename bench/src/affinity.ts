import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { accelError } from '@uaccel/uapi'

function setCores(list: string): void {
  try {
    execFileSync('taskset', ['-p', '-c', list, String(process.pid)], { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (cause) {
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `taskset could not put this process on core ${list}: ${(cause as Error).message}. It is in util-linux: apt install util-linux`,
      { cause },
    )
  }
}

/** The cores that this process may run on, as "0-3,8": proc(5). */
function allowedCores(): string {
  return /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]
}

/** The first two cores that this process may run on; `undefined` where it has only one. */
export function twoCores(): readonly [number, number] | undefined {
  const cores = allowedCores()
    .split(',')
    .flatMap((part) => {
      const [first, last = first] = part.split('-').map(Number) as [number, number?]
      return Array.from({ length: Math.min(2, last - first + 1) }, (_, i) => first + i)
    })
  return cores.length < 2 ? undefined : [cores[0]!, cores[1]!]
}

/** Runs `work` with this thread, and the processes that it starts meanwhile, on that core. */
export async function onCore<T>(core: number, work: () => T | Promise<T>): Promise<T> {
  const before = allowedCores()
  setCores(String(core))
  try {
    return await work()
  } finally {
    setCores(before)
  }
}

/** {@link onCore}, on the first that this process may run on. */
export function onOneCore(work: () => Promise<void>): Promise<void> {
  return onCore(Number(/^\d+/.exec(allowedCores())![0]), work)
}
