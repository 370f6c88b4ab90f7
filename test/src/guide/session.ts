import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { plainEnv } from '../unprivileged.js'
import { pattern, type Step } from './page.js'

const installed = fileURLToPath(new URL('../../../node_modules', import.meta.url))
/** What is printed by a process in the background has this long to come. */
const SETTLE_MS = 20_000

/** A shell as a reader has it, without a terminal: job control, its own environment, one stream of output. */
export class Session {
  readonly #shell: ChildProcess
  readonly #folder: string
  #output = ''
  #commands = 0
  /** The folder that the shell is in: files are written there. */
  #at: string

  constructor(folder: string) {
    this.#folder = folder
    this.#at = folder
    const env = Object.fromEntries(
      Object.entries(plainEnv).filter(([name]) => !/^(npm_|FORCE_COLOR|NODE_TEST|TAP(_|$))/i.test(name)),
    )
    this.#shell = spawn('bash', ['--norc', '--noprofile'], {
      cwd: folder,
      env: { ...env, NO_COLOR: '1', npm_config_loglevel: 'error' }, // no advice of npm's on the machine's settings
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#shell.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#output += text
    })
    // The test runner puts its loader into each environment that a program is given.
    this.#shell.stdin!.write('exec 2>&1; set -m; unset NODE_OPTIONS\n')
  }

  /** Does a step. @throws Error with what was printed, where that is not what the page says or a command fails */
  async do(step: Step): Promise<void> {
    if (step.do === 'write') {
      const path = join(this.#at, step.file)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, step.text)
      return
    }
    let printed = ''
    for (const command of step.commands) {
      if (command.startsWith('npm install ')) {
        link(this.#at, command.split(' ').slice(2))
        continue
      }
      const { output, status } = await this.#run(command)
      printed += output
      if (status !== 0) throw new Error(`line ${step.line}: ${command}\nended with ${status}:\n${printed}`)
      // What programs say at their end is not of the next step.
      if (command.startsWith('kill %')) printed += (await this.#run(command.replace('kill', 'wait'))).output
    }
    if (step.prints === undefined) return
    const wanted = pattern(step.prints)
    for (const end = Date.now() + SETTLE_MS; !wanted.test(printed); await sleep(50)) {
      printed += this.#take()
      if (Date.now() > end || !step.commands.at(-1)!.endsWith('&'))
        throw new Error(`line ${step.line}: the page says\n${step.prints}\nand this was printed:\n${printed}`)
    }
  }

  /** Ends the shell and all that runs in it. */
  async close(): Promise<void> {
    this.#shell.stdin!.end('for job in $(jobs -p); do kill -- -$job; done; wait; exit\n')
    const late = setTimeout(() => this.#shell.kill('SIGKILL'), SETTLE_MS)
    if (this.#shell.exitCode === null) await once(this.#shell, 'close')
    clearTimeout(late)
  }

  async #run(command: string): Promise<{ output: string; status: number }> {
    const mark = `--- ${++this.#commands} of ${process.pid}`
    // Commands that read their standard input would read the next commands.
    this.#shell.stdin!.write(`{ ${command}\n} </dev/null; printf '%s\\t%s\\t%s\\n' '${mark}' $? "$PWD"\n`)
    for (;;) {
      const [, status, at] = new RegExp(`^${mark}\t(\\d+)\t(.*)\n`, 'm').exec(this.#output) ?? []
      if (at !== undefined) {
        this.#at = at
        return { output: this.#take(mark), status: Number(status) }
      }
      if (this.#shell.exitCode !== null)
        throw new Error(`the shell of ${this.#folder} ended:\n${this.#output}`)
      await sleep(10)
    }
  }

  /** What was printed up to the line that begins with `mark`, without what the shell says of its jobs, and the model of its clients. */
  #take(mark?: string): string {
    const end = mark === undefined ? this.#output.length : this.#output.indexOf(mark)
    const taken = this.#output.slice(0, end)
    this.#output = mark === undefined ? '' : this.#output.slice(this.#output.indexOf('\n', end) + 1)
    return taken.replaceAll(/^(?:\[\d+\][+-]? .*|client connected|client left)\n/gm, '')
  }
}

/** Puts packages into a folder as npm would, as links to those here: only what is named can be imported. */
function link(folder: string, words: readonly string[]): void {
  const modules = join(folder, 'node_modules')
  mkdirSync(join(modules, '.bin'), { recursive: true })
  for (const name of words.filter((word) => !word.startsWith('-'))) {
    const from = realpathSync(join(installed, name))
    mkdirSync(dirname(join(modules, name)), { recursive: true })
    symlinkSync(from, join(modules, name))
    const { bin = {} } = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8')) as {
      bin?: Record<string, string>
    }
    for (const [command, path] of Object.entries(bin))
      symlinkSync(join(from, path), join(modules, '.bin', command))
  }
}
