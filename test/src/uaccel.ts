import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

/** The `uaccel` command of this repository. */
export const uaccelBin = fileURLToPath(new URL('../../packages/cli/bin/uaccel.mjs', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string | undefined>>
}

/** Runs `uaccel` to its end, without a terminal. */
export async function uaccel(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const child = start(args, options)
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'close') as Promise<[number | null]>,
  ])
  return { code, stdout, stderr }
}

/**
 * Starts `uaccel`; its output is to be read. The test runner puts itself into the programs of its tests by NODE_OPTIONS, and their end by a signal would
 * be another.
 */
export function start(args: readonly string[], { cwd, env }: RunOptions = {}): ChildProcess {
  return spawn('/usr/bin/env', ['--unset=NODE_OPTIONS', process.execPath, uaccelBin, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}
