import { execFile, spawn } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { errorTable } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import type { CreateError } from './index.js'

const bin = fileURLToPath(new URL('../bin/create-driver.mjs', import.meta.url))
const template = fileURLToPath(new URL('../template/', import.meta.url))

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-create-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Runs the command without a terminal. */
const create = (cwd: string, ...args: string[]) =>
  new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(
      process.execPath,
      [bin, ...args],
      { cwd, env: { PATH: process.env.PATH } },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    )
  })

const everything = (folder: string) => readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()

t.test('names and ids are those of the author, in every file', async (t) => {
  const folder = folderOf(t)
  const { code, stdout, stderr } = await create(
    folder,
    '@me/edge-tpu-2',
    '--vendor',
    '10ee',
    '--device',
    '0x9038',
    '-y',
  )
  t.same([code, stderr], [0, ''])
  t.match(stdout, /cd edge-tpu-2\n {2}npm install\n/)
  const made = join(folder, 'edge-tpu-2')
  const files = everything(made)
  const wanted = everything(template).filter((path) => !/^(dist|node_modules|\.tap)(\/|$)/.test(path))
  t.same(
    files,
    wanted.map((path) => (path === '_gitignore' ? '.gitignore' : path)).sort(),
    'all of the template',
  )
  const text = (path: string) => readFileSync(join(made, path), 'utf8')
  const all = files
    .filter((path) => path.includes('.') && !path.endsWith('workflows') && path !== '.github')
    .map(text)
  t.notMatch(all.join('\n'), /my-?npu|0x1234|0acc/i, 'nothing is left of the template')
  const { name, dependencies, overrides } = JSON.parse(text('package.json'))
  t.equal(name, '@me/edge-tpu-2')
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  t.equal(dependencies['@uaccel/accel'], `^${version}`, 'the version of the command that made it')
  t.equal(overrides, undefined)
  t.match(text('src/driver.ts'), /name: 'edge-tpu-2',\n.*edgeTpu2Uapi,\n.*vendor: 0x10ee, device: 0x9038/)
  t.match(text('model/index.ts'), /export const edgeTpu2Model = defineModel<EdgeTpu2Options>/)
  t.match(text('README.md'), /from '@me\/edge-tpu-2\/uapi'/)
})

t.test('an empty folder is taken, and one with nothing but a repository', async (t) => {
  const folder = folderOf(t)
  mkdirSync(join(folder, '.git'))
  t.match(await create(folder, 'my-npu', '--dir', '.'), {
    code: 0,
    stdout: /files in \.:.*\n\n {2}npm install/,
  })
  t.ok(readdirSync(folder).includes('package.json'))
  t.match(await create(folder, 'my-npu', '--dir', 'some/where'), { code: 0, stdout: /cd some\/where\n/ })
})

t.test('what cannot be made is refused in a sentence, and leaves nothing', async (t) => {
  const folder = folderOf(t)
  mkdirSync(join(folder, 'full'))
  writeFileSync(join(folder, 'full', 'mine.txt'), 'mine')
  writeFileSync(join(folder, 'file'), 'mine')
  const before = everything(folder)
  for (const [args, code, stderr] of [
    [[], 2, /a name is wanted, such as: npm create @uaccel\/driver my-npu/],
    [['My-Npu'], 1, /"My-Npu" is no name .*begins with a-z.*my-npu.*INVALID_ARGUMENT/],
    [[''], 1, /it is empty.*INVALID_ARGUMENT/],
    [['../evil'], 1, /a scope.*INVALID_ARGUMENT/],
    [['@me/a/b'], 1, /a scope.*INVALID_ARGUMENT/],
    [['..'], 1, /INVALID_ARGUMENT/],
    [['my_npu'], 1, /a-z, 0-9 and -.*INVALID_ARGUMENT/],
    [['a'.repeat(32)], 1, /at most 31 characters.*INVALID_ARGUMENT/],
    [[`@${'a'.repeat(210)}/npu`], 1, /npm takes 214 characters.*INVALID_ARGUMENT/],
    [['crypto'], 1, /Node or npm has a module of that name.*INVALID_ARGUMENT/],
    [['npu', '--vendor', '0x12345'], 1, /vendor id 0x12345 is out of range: 0x0000 to 0xfffe.*OUT_OF_RANGE/],
    [['npu', '--vendor', 'ffff'], 1, /there is no device.*OUT_OF_RANGE/],
    [['npu', '--device', '10000'], 1, /device id 10000 is out of range.*OUT_OF_RANGE/],
    [['npu', '--device', '12g'], 1, /"12g" is no device id.*0x1234.*INVALID_ARGUMENT/],
    [['npu', '--device', '-1'], 1, /"-1" is no device id.*INVALID_ARGUMENT/],
    [['full'], 1, /full is not empty: it has mine\.txt\. Nothing was written.*--dir.*BUSY/],
    [['file'], 1, /file is a file where a folder is to be.*INVALID_ARGUMENT/],
    [['npu', '--dir', 'file/npu'], 1, /is a file where a folder is to be.*INVALID_ARGUMENT/],
    [['npu', '--packages', 'none'], 1, /no folder .*none of packages.*NOT_FOUND/],
    [['npu', '--packages', 'full'], 1, /is none of @uaccel\/accel .*npm pack.*NOT_FOUND/],
    [['npu', '--frobnicate'], 2, /unknown option.*\n.*--help/],
    [['npu', 'two'], 2, /too many arguments/],
  ] as const) {
    const ended = await create(folder, ...args)
    t.match(ended, { code, stdout: '', stderr }, `create-driver ${args.join(' ')}`)
    const [, named] = /\((ERR_\w+)\)\n$/.exec(ended.stderr) ?? []
    if (code === 1) t.ok(named && Object.hasOwn(errorTable, named), `${named} is of the table`)
  }
  t.same(everything(folder), before)
})

t.test(
  'a place that may not be written to',
  { skip: process.getuid?.() !== 0 && 'it takes another user' },
  async (t) => {
    const folder = folderOf(t)
    // A copy of the package, since nobody may not read one that is in a home; the folder is its maker's alone.
    const copy = mkdtempSync(join(tmpdir(), 'uaccel-create-'))
    t.teardown(() => rmSync(copy, { recursive: true, force: true }))
    chmodSync(copy, 0o755)
    for (const part of ['package.json', 'dist', 'template'])
      cpSync(fileURLToPath(new URL(`../${part}`, import.meta.url)), join(copy, part), { recursive: true })
    const { createDriver } = (await import(join(copy, 'dist/index.js'))) as typeof import('./index.js')
    const { euid, seteuid } = { euid: process.geteuid!(), seteuid: process.seteuid! }
    seteuid(65_534)
    try {
      t.throws(() => createDriver({ name: 'my-npu', folder: join(folder, 'my-npu') }), {
        code: 'ERR_ACCEL_PERMISSION',
        message: /may not be written \(EACCES\)\. Nothing was made.*--dir/,
      } satisfies { code: CreateError['code']; message: RegExp })
    } finally {
      seteuid(euid)
    }
  },
)

t.test('what was written is taken back where a later file fails', async (t) => {
  const folder = folderOf(t)
  mkdirSync(join(folder, 'in'))
  const { writeFiles } = await import('./write.js')
  const files = [
    { path: 'a.txt', text: 'a' },
    { path: 'deep/er/b.txt', text: 'b' },
    { path: 'a.txt/c.txt', text: 'a file is in the way' },
  ]
  t.throws(() => writeFiles(join(folder, 'in'), files), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => writeFiles(join(folder, 'new/one'), files), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.same(everything(folder), ['in'])
})

t.test('a file that is written in part, as on a full disk, is taken back with the rest', async (t) => {
  const folder = folderOf(t)
  // No file may be longer than 1 KiB: what is longer is cut, as where a disk is full.
  // The test runner's loader writes files of its own at the end.
  const command = `unset NODE_OPTIONS; ulimit -f 1; exec '${process.execPath}' '${bin}' my-npu --yes`
  const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    execFile('bash', ['-c', command], { cwd: folder }, (error, _stdout, stderr) =>
      resolve({ code: error?.code, stderr }),
    )
  })
  t.equal(code, 1)
  t.match(stderr, /^create-driver: .*could not be written: EFBIG.*Nothing was made \(ERR_ACCEL_SYSTEM\)\n$/)
  t.same(everything(folder), [])
})

/** Runs the command on a terminal: each answer is typed once its question stands there. What the screen showed, and what it ended with. */
function onTerminal(
  cwd: string,
  answers: readonly (readonly [question: RegExp, answer: string])[],
  ...args: string[]
) {
  return new Promise<{ code: number; screen: string }>((resolve) => {
    const command = `stty cols 120 rows 40; exec ${[process.execPath, bin, ...args].join(' ')}`
    const child = spawn('script', ['-qec', command, '/dev/null'], { cwd, stdio: ['pipe', 'pipe', 'inherit'] })
    const left = [...answers]
    let [screen, since] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      screen += text
      since += text
      const [next] = left
      if (!next?.[0].test(since)) return
      left.shift()
      since = ''
      child.stdin.write(next[1])
    })
    child.on('close', (code) => resolve({ code: code ?? -1, screen }))
  })
}

t.test('on a terminal it asks for what is not given, and again where an answer will not do', async (t) => {
  const folder = folderOf(t)
  const { code, screen } = await onTerminal(
    folder,
    [
      [/called\?/, 'Edge\r'],
      [/begins with a-z/, '\x15edge\r'], // Ctrl-U clears the line
      [/PCI vendor id/, '\r'],
    ],
    '--device',
    '9038',
  )
  if (code !== 0) t.comment(screen)
  t.equal(code, 0)
  t.match(screen, /files in edge: .*npm install/s)
  t.notMatch(screen, /PCI device id/, 'which was given')
  t.match(readFileSync(join(folder, 'edge/src/driver.ts'), 'utf8'), /vendor: 0x1234, device: 0x9038/)
})

t.test('who gives up has nothing', async (t) => {
  const folder = folderOf(t)
  t.match(await onTerminal(folder, [[/called\?/, '\x03']]), { code: 1, screen: /Nothing was made/ })
  t.same(everything(folder), [])
})
