import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { accelError } from '@uaccel/uapi'
import type { CellRequest, CellResult, FaultFinding } from './types.js'

/** How often a process that runs cells says that its event loop turns. */
export const BEAT_MS = 100
/** A process is blocked when so many times its limit has passed, whether it has worked or not. */
const PATIENCE = 10
/** Whatever a cell does, it has ended by then: its waits have limits of their own, in a time that runs ahead. */
const CELL_MS = 60_000
/** Where it writes the stack of a thread that was blocked: behind standard streams and Node's channel. */
export const STACK_FD = 4

export type RunnerMessage =
  | { readonly kind: 'ready' | 'beat' }
  | { readonly kind: 'result'; readonly result: CellResult }

const program = fileURLToPath(new URL('./runner.process.js', import.meta.url))
/** Jiffies of /proc/PID/stat for a second (USER_HZ, proc(5)). */
const USER_HZ = 100

/** A process that runs cells, and is replaced when one of them leaves it unusable. */
export class Runner {
  readonly #args: readonly string[]
  readonly #blockedMs: number
  #child: ChildProcess | undefined
  /** Resolves once it and its streams have ended. */
  #closed: Promise<unknown> | undefined

  /**
   * @param args The module of the matrix, the name of its export, and a folder for sockets.
   * @param blockedMs For how long it may work without a turn of its event loop.
   */
  constructor(args: readonly string[], blockedMs: number) {
    this.#args = [...args, String(blockedMs)]
    this.#blockedMs = blockedMs
  }

  async run(request: CellRequest): Promise<CellResult> {
    const child = await this.#ready()
    const start = performance.now()
    let stack = ''
    const onStack = (bytes: Buffer) => {
      stack += bytes.toString()
    }
    const stacks = child.stdio[STACK_FD] as Readable
    stacks.on('data', onStack)
    let seenMs = start
    let seenCpuMs = cpuMs(child)
    let blocked = false
    let overdue = false
    const watchdog = setInterval(() => {
      const silentMs = performance.now() - seenMs
      blocked = cpuMs(child) - seenCpuMs >= this.#blockedMs * 2 || silentMs >= this.#blockedMs * PATIENCE
      overdue = performance.now() - start > CELL_MS
      if (!blocked && !overdue) return
      kill(child)
    }, BEAT_MS)
    let hear: ((message: RunnerMessage) => void) | undefined
    const result = new Promise<CellResult>((resolve) => {
      hear = (message) => {
        seenMs = performance.now()
        seenCpuMs = cpuMs(child)
        if (message.kind === 'result') resolve(message.result)
      }
      child.on('message', hear)
    })
    try {
      child.send(request, () => {}) // one that cannot be told has ended
      const answer = await Promise.race([result, this.#closed!.then(() => undefined)])
      if (answer !== undefined) {
        if (answer.spent) this.end()
        return answer
      }
      this.#child = undefined
      return {
        struck: true,
        outcome: 'none',
        findings: [finding(child, blocked ? this.#blockedMs : undefined, overdue, stack)],
        tookMs: performance.now() - start,
        spent: true,
      }
    } finally {
      clearInterval(watchdog)
      child.off('message', hear!)
      stacks.off('data', onStack)
    }
  }

  /** Ends the process, and with it the model's. */
  readonly end = (): void => {
    process.off('exit', this.end)
    if (this.#child !== undefined) kill(this.#child)
    this.#child = undefined
  }

  async #ready(): Promise<ChildProcess> {
    if (this.#child !== undefined) return this.#child
    const child = fork(program, this.#args, {
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', 'pipe'],
    })
    this.#closed = once(child, 'close')
    const [first] = (await Promise.race([once(child, 'message'), this.#closed])) as [unknown]
    if (typeof first !== 'object') {
      throw accelError(
        'ERR_ACCEL_CLOSED',
        `A process for the cells ended before it was ready, exit ${first}. What it printed says why the module of the matrix does not load.`,
      )
    }
    this.#child = child
    // One whose thread is blocked does not see that its parent is gone.
    process.off('exit', this.end).on('exit', this.end)
    return child
  }
}

/** What is wrong where a process ended in a cell. */
function finding(
  child: ChildProcess,
  blockedMs: number | undefined,
  overdue: boolean,
  stack: string,
): FaultFinding {
  if (blockedMs !== undefined || stack !== '') {
    const where = stack === '' ? ', and it read no register' : `\n${frames(stack)}`
    return {
      verdict: 'hung',
      message: `the thread was blocked: its event loop has no turn${where}`,
    }
  }
  if (overdue) return { verdict: 'hung', message: `it has not ended after ${CELL_MS} ms, and never rests` }
  return { verdict: 'crashed', message: `the process ended, ${child.signalCode ?? `exit ${child.exitCode}`}` }
}

/** A group of its own, so that the model's process goes with it. */
function kill({ pid }: ChildProcess): void {
  try {
    process.kill(-pid!, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

function cpuMs({ pid }: ChildProcess): number {
  try {
    // Fields 14 and 15, utime and stime, counted from behind the command (proc(5)).
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return ((Number(fields[11]) + Number(fields[12])) * 1000) / USER_HZ
  } catch {
    return 0
  }
}

/** Without the frames of what watches. */
function frames(stack: string): string {
  return stack
    .split('\n')
    .slice(1)
    .filter((line) => !/testkit\/dist\/faults\/(held|runner|moments)/.test(line))
    .join('\n')
}
