import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { accelError } from '@uaccel/uapi'
import { Child } from './child.js'

const FLAGS = ['-O2', '-Wall']
const sources = fileURLToPath(new URL('../c/', import.meta.url))
const built = fileURLToPath(new URL('c/', import.meta.url))

function cc(args: readonly string[]): string {
  const compiler = process.env.CC || 'cc'
  try {
    return execFileSync(compiler, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (cause) {
    const { code, stderr = '' } = cause as { code?: unknown; stderr?: string }
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      code === 'ENOENT'
        ? `The C baselines need a C compiler, and ${compiler} is not there. Install one: apt install build-essential`
        : `${compiler} ${args.join(' ')} failed. A C compiler with its headers is needed: apt install build-essential\n${stderr}`,
      { cause },
    )
  }
}

/** The compiler's name and version. `ERR_ACCEL_NOT_FOUND` where there is none. */
export function compilerVersion(): string {
  return cc(['--version']).split('\n', 1)[0].trim()
}

/** The path of a program of `c/`, built when its source, the headers or the compiler are new. */
export function buildBaseline(name: string): string {
  const hash = createHash('sha256').update(`${compilerVersion()} ${FLAGS.join(' ')}`)
  for (const file of [`${name}.c`, ...readdirSync(sources).filter((f) => f.endsWith('.h'))]) {
    hash.update(readFileSync(sources + file))
  }
  const program = `${built}${name}-${hash.digest('hex').slice(0, 12)}`
  if (!existsSync(program)) {
    mkdirSync(built, { recursive: true })
    const fresh = `${program}.${process.pid}`
    cc([...FLAGS, '-o', fresh, `${sources}${name}.c`])
    renameSync(fresh, program) // another run may be about to start the same program
  }
  return program
}

/** Builds and starts a program of `c/`. */
export function startBaseline(
  name: string,
  args: readonly string[] = [],
  fds: readonly number[] = [],
): Child {
  return new Child(buildBaseline(name), args, fds)
}
