import { lstatSync, rmSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { accelError, isAccelError } from '@uaccel/uapi'
import { Journal } from './journal.js'
import type { Claim, FromProcess, ToProcess } from './messages.js'

/** Tells the parent. One that is gone is told of by `disconnect`: an error here is not to be faster. */
export function say(message: FromProcess): void {
  if (process.connected) process.send!(message, undefined, undefined, () => {})
}

export const journal = new Journal((lines, dropped) => say({ type: 'lines', lines, dropped }))

/** Ends this process when all that was said has left it. */
export function leave(): void {
  journal.flush()
  if (process.connected) process.send!({ type: 'lines', lines: [], dropped: 0 }, () => process.exit())
  else process.exit()
}

/** Says why this process cannot go on, with the stack of what went wrong first. */
export function sayFailed(error: unknown): void {
  journal.flush()
  const known = isAccelError(error)
    ? error
    : accelError('ERR_ACCEL_IO', error instanceof Error ? `${error.name}: ${error.message}` : String(error))
  let first = error
  while (first instanceof Error && first.cause instanceof Error) first = first.cause
  const stack = first instanceof Error ? (first.stack ?? '') : ''
  say({ type: 'failed', code: known.code, message: known.message, stack })
}

/**
 * What both processes do: they hear, end with SIGTERM, and with their parent, whose node they take away then. A terminal sends SIGINT to
 * all of its processes: what happens then is the parent's to say.
 *
 * @param stop Brings all to rest. Its end is the end of the process.
 */
export function live(hear: (message: ToProcess) => void, stop: (reason: string) => Promise<void>): void {
  let claim: Claim | undefined
  let ending = false
  const end = (reason: string) => {
    if (ending) return
    ending = true
    void stop(reason).catch(sayFailed).then(leave)
  }
  watchParent()
  process.on('message', (message: ToProcess) => {
    if (message.type === 'stop') return end(message.reason)
    if ('claim' in message) claim = message.claim
    hear(message)
  })
  process.once('disconnect', () => {
    if (claim) forsake(claim)
    end('uaccel dev has ended')
  })
  process.once('SIGTERM', () => end('its process was told to end'))
  for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})
  process.on('uncaughtExceptionMonitor', sayFailed)
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
}

/** How long this process may take to end without its parent. */
const ALONE_MS = 6_000
const LOOK_MS = 500

/** Code that never gives its event loop back hears nothing of its parent's end: another thread sees it, and ends the process. */
function watchParent(): void {
  const look = `const parent = process.ppid
const timer = setInterval(() => {
  if (process.ppid === parent) return
  clearInterval(timer)
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), ${ALONE_MS})
}, ${LOOK_MS})`
  new Worker(look, { eval: true }).unref()
}

/** Takes the socket of the node away, where it still is that one: whoever listens on it holds it, so nobody has replaced it. */
function forsake({ path, id }: Claim): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found && `${found.dev}:${found.ino}` === id) rmSync(path, { force: true })
}
