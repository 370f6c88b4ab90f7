import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { graphOf } from './graph.js'
import { readPackage } from './package.js'
import { FolderWatch } from './watch.js'

function folderOf(t: Test, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-graph-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(folder, file, '..'), { recursive: true })
    writeFileSync(join(folder, file), text)
  }
  return folder
}

const packageJson = (exports: unknown) => JSON.stringify({ name: '@me/npu', exports })

t.test('a package is read as Node reads it', async (t) => {
  const model = './m.js'
  const read = (exports: unknown) => {
    const folder = folderOf(t, { 'package.json': packageJson(exports) })
    return readPackage(folder)
  }
  const { driver, own, compiler } = read({
    '.': { types: './d.d.ts', browser: './no.js', node: { import: './d.js' }, default: './no.js' },
    './uapi': './u.js',
    './model': { default: model },
  })
  t.equal(basename(driver), 'd.js')
  t.equal(basename(own.get('@me/npu/uapi')!), 'u.js')
  t.equal(compiler, undefined)
  t.throws(() => read('./d.js'), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /exports no model: "exports" wants "\.\/model"/,
  })
  t.throws(() => read({ './model': model }), { code: 'ERR_ACCEL_NOT_FOUND', message: /exports no driver/ })
  t.throws(() => readPackage(folderOf(t, { 'package.json': '{' })), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => readPackage(folderOf(t, {})), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /npm create @uaccel\/driver/,
  })
  const typed = { 'package.json': packageJson({ '.': './d.js', './model': model }), 'tsconfig.json': '{}' }
  t.throws(() => readPackage(folderOf(t, typed)), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /npm install --save-dev typescript/,
  })
})

t.test('what a module consists of, and when it is another one', async (t) => {
  const folder = folderOf(t, {
    'a.js': `import { b } from './b.js'\nimport '@me/npu/c'\nimport 'other'\nexport * from "../outside.js"\nconst d = await import('./d.js')`,
    'b.js': `const firmware = readFileSync(new URL('./fw.bin', import.meta.url))`,
    'c.js': `import './a.js'`,
    'fw.bin': 'x',
    'unrelated.js': '',
    'node_modules/other/index.js': '',
  })
  const own = new Map([['@me/npu/c', join(folder, 'c.js')]])
  const graph = () => graphOf(join(folder, 'a.js'), { folder, own })
  const { files, digest } = graph()
  t.same(
    files.map((file) => basename(file)),
    ['a.js', 'b.js', 'c.js', 'd.js', 'fw.bin'],
    'd.js is not there yet, and yet belongs to it',
  )
  writeFileSync(join(folder, 'unrelated.js'), 'changed')
  writeFileSync(join(folder, 'b.js'), `const firmware = readFileSync(new URL('./fw.bin', import.meta.url))`)
  t.equal(graph().digest, digest, 'written again is not changed')
  for (const [file, text] of [
    ['fw.bin', 'y'],
    ['d.js', ''],
    ['c.js', `import './b.js'`],
  ] as const) {
    const before = graph().digest
    writeFileSync(join(folder, file), text)
    t.not(graph().digest, before, file)
  }
})

t.test('a folder is watched with those that come later, and without those that nobody wrote', async (t) => {
  const folder = folderOf(t, { 'src/a.js': '', 'dist/a.js': '', 'node_modules/x/x.js': '', '.git/HEAD': '' })
  const seen = new Set<string>()
  const watch = new FolderWatch(folder, new Set([join(folder, 'dist')]), (path) =>
    seen.add(path.slice(folder.length + 1)),
  )
  t.teardown(() => watch.close())
  const sees = async (file: string, act: () => void) => {
    seen.clear()
    act()
    for (let waited = 0; waited < 10_000 && !seen.has(file); waited += 10) await sleep(10)
    t.ok(seen.has(file), file)
  }
  const write = (file: string) => writeFileSync(join(folder, file), `${Math.random()}`)
  await sees('src/a.js', () => write('src/a.js'))
  await sees('src/a.js', () => {
    write('src/a.js~')
    renameSync(join(folder, 'src/a.js~'), join(folder, 'src/a.js'))
  })
  await sees('src/deep', () => mkdirSync(join(folder, 'src/deep')))
  await sees('src/deep/b.js', () => write('src/deep/b.js'))
  // Exchanged as a whole, as version control does.
  await sees('src', () => {
    renameSync(join(folder, 'src'), join(folder, 'old'))
    mkdirSync(join(folder, 'src'))
  })
  await sees('src/a.js', () => write('src/a.js'))
  seen.clear()
  for (const file of ['dist/a.js', 'node_modules/x/x.js', '.git/HEAD', '.swap']) write(file)
  await sees('last.js', () => write('last.js'))
  t.same([...seen], ['last.js'])
})
