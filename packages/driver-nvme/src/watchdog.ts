import { accelError } from '@uaccel/uapi'
import type { NvmeQueue } from './queue.js'

/** The watchdog looks so often in the time that a command has. */
const TURNS = 4

/** Has `look` run so often that a command which is late is seen in time. Clear it with `clearInterval`. */
export function startWatchdog(timeoutMs: number, look: () => void): NodeJS.Timeout {
  return setInterval(look, timeoutMs / TURNS).unref()
}

/**
 * A turn of the watchdog for an I/O queue: has late commands aborted. `ERR_ACCEL_TIMEOUT` where one is as late again after that: only a
 * reset ends it.
 */
export function endLate(queue: NvmeQueue, timeoutMs: number, abort: (cid: number) => void): void {
  for (const { cid, aborting } of queue.turn(TURNS)) {
    if (aborting) throw lateError(queue, cid, timeoutMs)
    abort(cid)
  }
}

/** The same for the admin queue: nothing aborts on a queue that is stuck itself. */
export function endLateAdmin(queue: NvmeQueue, timeoutMs: number): void {
  for (const { cid } of queue.turn(TURNS)) {
    queue.abort(cid) // marks it: it ends as the late one
    throw lateError(queue, cid, timeoutMs)
  }
}

function lateError(queue: NvmeQueue, cid: number, timeoutMs: number) {
  return accelError(
    'ERR_ACCEL_TIMEOUT',
    `NVMe command ${cid} of queue ${queue.id} did not end within ${timeoutMs} ms, nor after it was to be aborted`,
  )
}
