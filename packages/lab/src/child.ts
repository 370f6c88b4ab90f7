import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { AccelError } from '@uaccel/uapi'

/**
 * Starts a program that the kernel kills when this process ends, however it ends: also by SIGKILL, where no
 * handler runs (PR_SET_PDEATHSIG, through setpriv). It stands in a session of its own, so that Ctrl-C in the
 * terminal reaches only us.
 */
export function spawnTied(command: readonly string[], options: SpawnOptions): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], { ...options, detached: true })
}

/** Resolves with how the process ended. A process that could not be started rejects. */
export function ended(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal }))
  })
}

export interface RunOptions {
  cwd?: string
  env?: NodeJS.ProcessEnv
  signal?: AbortSignal | undefined
  /** Each line of standard output, as it comes. */
  onLine?: ((line: string) => void) | undefined
  /** Each line on descriptor 3, where the program was told to report its progress. */
  onStatus?: ((line: string) => void) | undefined
}

/**
 * Runs a program to its end and returns its standard output.
 * @throws ERR_ACCEL_NOT_FOUND where there is no such program, ERR_ACCEL_ABORTED, ERR_ACCEL_SYSTEM with the end
 * of what it printed where it ends with anything but 0
 */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const aborted = () =>
    new AccelError('ERR_ACCEL_ABORTED', `${command[0]} was stopped`, { cause: options.signal?.reason })
  if (options.signal?.aborted) throw aborted()
  const child = spawnTied(command, {
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    env: { ...(options.env ?? process.env), LC_ALL: 'C' },
    stdio: ['ignore', 'pipe', 'pipe', options.onStatus ? 'pipe' : 'ignore'],
  })
  const stop = () => {
    // The whole session: a `make` has children that do not die with it.
    if (child.pid !== undefined) killGroup(child.pid)
  }
  options.signal?.addEventListener('abort', stop)
  let stdout = ''
  let tail = ''
  const collect = (text: string) => {
    tail = (tail + text).slice(-4000)
  }
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    collect(text)
  })
  child.stderr!.setEncoding('utf8').on('data', collect)
  if (options.onLine) eachLine(child.stdout!, options.onLine)
  if (options.onStatus) eachLine(child.stdio[3] as NodeJS.ReadableStream, options.onStatus)
  try {
    const { code, signal } = await ended(child)
    if (options.signal?.aborted) throw aborted()
    if (code === 0) return stdout
    throw new AccelError(
      code === 127 ? 'ERR_ACCEL_NOT_FOUND' : 'ERR_ACCEL_SYSTEM',
      `${command.slice(0, 4).join(' ')} ended with ${signal ?? code}:\n${tail.trim()}`,
    )
  } catch (cause) {
    if (cause instanceof AccelError) throw cause
    throw new AccelError('ERR_ACCEL_NOT_FOUND', 'setpriv (of util-linux) is needed to run the lab', { cause })
  } finally {
    options.signal?.removeEventListener('abort', stop)
  }
}

/** Ends a session that {@link spawnTied} began. */
export function killGroup(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // already gone
  }
}

export function eachLine(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = ''
  stream.on('data', (chunk: Buffer | string) => {
    const lines = (rest + chunk.toString()).split('\n')
    rest = lines.pop()!
    for (const line of lines) onLine(line)
  })
  stream.on('end', () => {
    if (rest !== '') onLine(rest)
  })
}
