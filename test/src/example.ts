import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** What a program left behind. */
export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs an example as its user does, in a process of its own; `more` goes into its environment, `started` gets its process id. */
export function runExample(
  name: string,
  args: readonly string[],
  more: NodeJS.ProcessEnv = {},
  started: (pid: number) => void = () => {},
): Promise<Ended> {
  const main = fileURLToPath(new URL(`../../examples/${name}/dist/main.js`, import.meta.url))
  const { NODE_OPTIONS: _, ...env } = process.env
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { env: { ...env, ...more }, maxBuffer: 2 ** 26, timeout: 120_000 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
        resolve({ code, stdout, stderr })
      },
    )
    if (child.pid !== undefined) started(child.pid)
  })
}
