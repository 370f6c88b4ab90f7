import { accelError } from '@uaccel/uapi'

/** Largest delay of setTimeout. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/** Runs `expired` once CLOCK_MONOTONIC, which `process.hrtime` reads, has passed `deadlineNs`. Answers what forgets it. */
function atDeadline(deadlineNs: bigint, expired: () => void): () => void {
  let timer: NodeJS.Timeout | undefined
  const look = () => {
    const leftNs = deadlineNs - process.hrtime.bigint()
    if (leftNs <= 0n) expired()
    else timer = setTimeout(look, Math.min(MAX_TIMEOUT_MS, Math.ceil(Number(leftNs) / 1e6)))
  }
  look()
  return () => clearTimeout(timer)
}

/** How long a wait may take, and what ends it before. */
export interface WaitLimit {
  /** Of CLOCK_MONOTONIC, in nanoseconds; one that has passed only looks. */
  readonly deadlineNs: bigint
  readonly signal: AbortSignal
}

/**
 * Waits for something that `begin` waits for: it calls `done`, at once or later, and answers what forgets it.
 * Rejects with `ERR_ACCEL_TIMEOUT` naming `what` at the deadline, or with the signal's reason.
 */
export function waitUntil(
  what: string,
  { deadlineNs, signal }: WaitLimit,
  begin: (done: () => void) => () => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let over = false
    const forgets: (() => void)[] = []
    const end = (tell: () => void) => {
      if (over) return
      over = true
      for (const forget of forgets) forget()
      tell()
    }
    const add = (forget: () => void) => {
      if (over) forget()
      else forgets.push(forget)
    }
    add(begin(() => end(resolve)))
    if (over) return
    const aborted = () => end(() => reject(signal.reason))
    signal.addEventListener('abort', aborted, { once: true })
    add(() => signal.removeEventListener('abort', aborted))
    if (signal.aborted) aborted()
    const late = () =>
      end(() => reject(accelError('ERR_ACCEL_TIMEOUT', `${what} was not reached by its deadline`)))
    if (!over) add(atDeadline(deadlineNs, late))
  })
}
