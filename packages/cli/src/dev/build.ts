import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import type { Compiler } from './package.js'

/** How a build ended. */
export interface Built {
  readonly ok: boolean
  readonly ms: number
  /** What the compiler said, a line each: errors where it is not ok. */
  readonly lines: readonly string[]
}

/** What makes the modules of a package. */
export interface Builder {
  /** Resolves when all that was changed before is built, with how that ended. */
  build(): Promise<Built>
  close(): void
}

/** `src/driver.ts(12,7): error TS2322: ...`: what `tsc --pretty false` says. */
const DIAGNOSTIC = /^(.+)\((\d+),(\d+)\): (error|warning) (TS\d+): (.*)$/
/** What it says while it watches. */
const BEGINS = /(Starting compilation in watch mode|Starting incremental compilation)\.\.\.\s*$/
const ENDS = /Found (\d+) errors?\. Watching for file changes\.\s*$/

const ARGUMENTS = ['-b', '--pretty', 'false']
/** From this version on the compiler is native: a build takes a fraction of a second, and 7.0.2 does not notice changes when it watches. */
const NATIVE = 7

/** The way to build that suits a compiler; `watching` where many builds follow. `changed` is called when one has ended that was not asked for. */
export function builderOf(
  compiler: Compiler,
  folder: string,
  watching: boolean,
  changed: () => void,
): Builder {
  return watching && compiler.major < NATIVE
    ? new WatchingBuilder(compiler.program, folder, changed)
    : new OneShotBuilder(compiler.program, folder)
}

/** Runs the compiler for each build: what is up to date costs it next to nothing. */
class OneShotBuilder implements Builder {
  readonly #program: string
  readonly #folder: string
  #child: ChildProcess | undefined

  constructor(program: string, folder: string) {
    this.#program = program
    this.#folder = folder
  }

  async build(): Promise<Built> {
    const start = performance.now()
    // A group of its own, to be ended as a whole: the compiler may be a program that is started by another. What is preloaded into this process
    // (a recorder, a test runner's loader) is not for it, and `env` takes it away where the parent's loader would put it into any environment.
    const child = spawn('env', ['--unset=NODE_OPTIONS', process.execPath, this.#program, ...ARGUMENTS], {
      cwd: this.#folder,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    const [out, errors, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close') as Promise<[number | null]>,
    ])
    this.#child = undefined
    const lines = `${out}${errors}`.split('\n').filter((line) => line.trim() !== '')
    return { ok: code === 0, ms: performance.now() - start, lines: lines.map(clickable) }
  }

  close(): void {
    try {
      if (this.#child?.pid !== undefined) process.kill(-this.#child.pid, 'SIGKILL')
    } catch {} // it ended by itself
  }
}

/** Ends the compiler with the channel to this process, so also where this one is killed. */
const GUARD = 'data:text/javascript,process.on("disconnect",()=>process.exit())'

/** A compiler in JavaScript takes seconds to start: it goes on, and builds by itself what changed. */
class WatchingBuilder implements Builder {
  readonly #program: string
  readonly #folder: string
  readonly #changed: () => void
  #child: ChildProcess | undefined
  #last: Built | undefined
  #lines: string[] = []
  #began = 0
  #waiting: (() => void)[] = []

  constructor(program: string, folder: string, changed: () => void) {
    this.#program = program
    this.#folder = folder
    this.#changed = changed
  }

  async build(): Promise<Built> {
    if (!this.#child) this.#start()
    while (!this.#last) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    return this.#last
  }

  close(): void {
    this.#child?.kill('SIGKILL')
  }

  #start(): void {
    this.#begin()
    const child = fork(this.#program, [...ARGUMENTS, '--watch', '--preserveWatchOutput'], {
      cwd: this.#folder,
      execArgv: ['--import', GUARD],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.#child = child
    for (const input of [child.stdout!, child.stderr!])
      createInterface({ input }).on('line', (line) => this.#hear(line))
    child.once('close', (code) => {
      this.#child = undefined
      this.#end({ ok: false, lines: [...this.#lines, `the compiler ended with code ${code}`] })
    })
  }

  #hear(line: string): void {
    const [, count] = ENDS.exec(line) ?? []
    if (BEGINS.test(line)) this.#begin()
    else if (count !== undefined) this.#end({ ok: count === '0', lines: this.#lines })
    else if (line.trim() !== '') this.#lines.push(clickable(line))
  }

  #begin(): void {
    this.#began = performance.now()
    this.#lines = []
    this.#last = undefined
  }

  #end({ ok, lines }: Omit<Built, 'ms'>): void {
    this.#last = { ok, lines, ms: performance.now() - this.#began }
    const waiting = this.#waiting.splice(0)
    if (waiting.length === 0) this.#changed()
    for (const resolve of waiting) resolve()
  }
}

/** `file:line:column`, which terminals and editors follow. */
const clickable = (line: string) => {
  const [, file, row, column, , code, message] = DIAGNOSTIC.exec(line) ?? []
  return file === undefined ? line : `${file}:${row}:${column} ${message} (${code})`
}
