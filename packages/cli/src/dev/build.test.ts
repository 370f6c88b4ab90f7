import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { builderOf } from './build.js'
import type { Compiler } from './package.js'

t.setTimeout(120_000)

const here = createRequire(import.meta.url)

/** The compiler that a package there would take. */
function compilerFrom(require: NodeJS.Require): Compiler {
  const file = require.resolve('typescript/package.json')
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string }
  return { program: join(dirname(file), 'bin', 'tsc'), major: Number.parseInt(version, 10) }
}

function project(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-build-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const compilerOptions = { target: 'es2023', module: 'nodenext', types: [], outDir: 'dist', rootDir: '.' }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['a.ts'] }))
  return {
    folder,
    write: (text: string) => writeFileSync(join(folder, 'a.ts'), text),
    output: () => readFileSync(join(folder, 'dist/a.js'), 'utf8'),
  }
}

const wrong = ["a.ts:1:14 Type 'string' is not assignable to type 'number'. (TS2322)"]

t.test('a compiler that is run for each build', async (t) => {
  const { folder, write, output } = project(t)
  const builder = builderOf(compilerFrom(here), folder, false, () => {})
  write('export const a: number = 1\n')
  t.match(await builder.build(), { ok: true, lines: [] })
  t.match(output(), 'a = 1')
  write("export const a: number = 'x'\n")
  t.match(await builder.build(), { ok: false, lines: wrong })
  write('export const a: number = 2\n')
  const building = builder.build()
  builder.close()
  t.match(await building, { ok: false }, 'it was ended')
  t.match(await builder.build(), { ok: true })
  t.match(output(), 'a = 2')
})

t.test('a compiler in JavaScript stays, and tells when it has built', async (t) => {
  // One of before 7, which tools of the tests bring along.
  const compiler = compilerFrom(createRequire(here.resolve('tshy/package.json')))
  t.ok(compiler.major < 7)
  const { folder, write, output } = project(t)
  let changes = 0
  const builder = builderOf(compiler, folder, true, () => changes++)
  t.teardown(() => builder.close())
  write('export const a: number = 1\n')
  const first = await builder.build()
  t.match(first, { ok: true, lines: [] })
  t.equal(await builder.build(), first, 'nothing changed')
  t.equal(changes, 0)
  /** TypeScript says that it watches a moment before it does (reportErrorSummary and startWatching of tsbuildPublic.ts): an edit may be missed then. */
  const edited = async (text: string, ok: boolean) => {
    for (let tries = 0; tries < 20; tries++) {
      const before = changes
      write(text)
      for (let waited = 0; waited < 3_000 && changes === before; waited += 10) await sleep(10)
      const built = await builder.build()
      if (built.ok === ok) return built
    }
    throw new Error('it noticed no edit')
  }
  t.match(await edited("export const a: number = 'x'\n", false), { lines: wrong })
  t.match(await edited('export const a: number = 2\n', true), { lines: [] })
  t.ok(changes >= 2, 'and said so')
  t.match(output(), 'a = 2')
  const running = () => readdirSync('/proc').filter((pid) => isIn(pid, folder))
  t.equal(running().length, 1)
  builder.close()
  for (let waited = 0; waited < 10_000 && running().length > 0; waited += 10) await sleep(10)
  t.same(running(), [])
})

const isIn = (pid: string, folder: string) => {
  try {
    return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`) === folder
  } catch {
    return false
  }
}
