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

/** Runs `work` with this thread, and the processes that it starts meanwhile, on one core. */
export async function onOneCore(work: () => Promise<void>): Promise<void> {
  // "0-3,8": proc(5)
  const allowed = /^Cpus_allowed_list:\s*(.+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]
  setCores(/^\d+/.exec(allowed)![0])
  try {
    await work()
  } finally {
    setCores(allowed)
  }
}
