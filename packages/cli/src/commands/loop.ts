import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { InvalidArgumentError } from 'commander'

/** Aborted by SIGINT and SIGTERM: what follows a device until told otherwise ends well then. */
export function interrupted(): AbortSignal {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal) // each call that is under way has one
  const end = () => controller.abort()
  // Once: who presses again, while something hangs, ends the process.
  process.once('SIGINT', end).once('SIGTERM', end)
  return controller.signal
}

/** Waits so many milliseconds, or until the signal. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.max(0, ms), undefined, { signal }).catch(() => {})
}

/** The least interval: asking takes about a millisecond. */
const MIN_S = 0.05
const MAX_S = 86_400

/** An interval on the command line. */
export function seconds(text: string): number {
  const value = Number(text)
  if (!/^\d*\.?\d+$/.test(text) || value < MIN_S || value > MAX_S)
    throw new InvalidArgumentError(`Seconds are wanted, from ${MIN_S} to ${MAX_S}.`)
  return value
}

/** A number of times on the command line. */
export function positive(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < 1 || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('A positive whole number is wanted.')
  return value
}
