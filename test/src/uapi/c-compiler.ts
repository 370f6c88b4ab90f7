import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

/** What the headers have to pass without a word. -Wpadded: no byte of a structure may be there without a name. */
const strict = ['-Wall', '-Wextra', '-Werror', '-Wpedantic', '-Wpadded']

const folder = mkdtempSync(join(tmpdir(), 'uaccel-c-'))
t.teardown(() => rmSync(folder, { recursive: true }))

let count = 0

function write(extension: string, text: string): string {
  const path = join(folder, `${++count}${extension}`)
  writeFileSync(path, text)
  return path
}

/** What the compiler says of a header on its own, in C11 and in C++11: nothing where it is right. */
export function complaints(header: string): string {
  const path = write('.h', header)
  const checked = [
    ['cc', ['-std=c11', '-x', 'c', ...strict, '-fsyntax-only', path]],
    ['c++', ['-std=c++11', '-x', 'c++', ...strict, '-fsyntax-only', path]],
  ] as const
  return checked
    .map(([compiler, args]) => {
      const { error, stderr } = spawnSync(compiler, args, { encoding: 'utf8' })
      if (error) throw error
      return stderr
    })
    .join('')
}

/** What is said on stderr is in the error. */
const quiet = { stdio: 'pipe' } as const

/** Builds a program of these headers and this text, and runs it: bytes in, bytes out. It has to end with 0. */
export function runC(headers: readonly string[], text: string, stdin: Uint8Array): Uint8Array {
  const includes = headers.map((header) => `#include "${write('.h', header)}"\n`).join('')
  const program = join(folder, `${++count}`)
  execFileSync('cc', ['-std=c11', ...strict, '-O0', '-o', program, write('.c', includes + text)], quiet)
  return execFileSync(program, { ...quiet, input: stdin, maxBuffer: 2 ** 28 })
}
