import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { commonUapi } from '@uaccel/uapi'
import { abiOf, cHeader, formatAbi, markdownReference } from '@uaccel/uapi/reference'
import t from 'tap'
import { uaccel } from './uaccel.js'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-uapi-'))
t.teardown(() => rmSync(folder, { recursive: true }))

const run = (...args: string[]) => uaccel(['uapi', ...args], { cwd: folder })
const fileOf = (path: string) => readFileSync(join(folder, path), 'utf8')

/** A driver author's module. */
function author(name: string, commands: string, more = ''): string {
  const text = `
import { added, bytes, cmd, u16, u32, uapi } from ${JSON.stringify(import.meta.resolve('@uaccel/uapi'))}
export const myUapi = uapi({ name: 'mine', version: 2, commands: { ${commands} } })
export default myUapi
export const limit = 5
${more}`
  writeFileSync(join(folder, `${name}.mjs`), text)
  return `./${name}.mjs`
}

t.test('one form goes to stdout', async (t) => {
  t.strictSame(await run('edu'), { code: 0, stdout: markdownReference(eduUapi), stderr: '' })
  t.strictSame(await run('common', '--markdown'), {
    code: 0,
    stdout: markdownReference(commonUapi),
    stderr: '',
  })
  t.strictSame(await run('edu', '--header'), { code: 0, stdout: cHeader(eduUapi), stderr: '' })
  t.strictSame(await run('edu', '--json'), { code: 0, stdout: formatAbi(abiOf(eduUapi)), stderr: '' })
  t.match(await run('--help'), {
    code: 0,
    stdout:
      /common, control, node, query, edu, npu,\s+nvme,\s+virtio-crypto,\s+or\s+a\s+module.*Examples:\n {2}uaccel uapi/s,
  })
  t.same(readdirSync(folder), [], 'nothing was written')
})

t.test("a module of an author's own, and its files", async (t) => {
  const path = author('first', 'run: cmd(0x40, { in: { n: u32 } })')
  t.match(await run(path), { code: 0, stdout: /^# uAPI of mine\n/ })
  t.strictSame(await run(path, '--markdown', '--header', '--write', 'docs/uapi'), {
    code: 0,
    stdout: '',
    stderr: 'docs/uapi/mine.md\ndocs/uapi/mine.h\n',
  })
  t.match(fileOf('docs/uapi/mine.h'), /struct uaccel_mine_run_in \{\n\tuint32_t n;\n\};/)
  t.match(fileOf('docs/uapi/mine.md'), /^# uAPI of mine\n/)
  t.match(await run(path, '--json', '--write', '.'), { code: 0, stderr: 'abi.json\n' })
  t.match(JSON.parse(fileOf('abi.json')), { format: 1, name: 'mine', commands: [{ number: 0x40 }] })
})

t.test('a snapshot grows, and is not broken unless asked', async (t) => {
  author('first', 'run: cmd(0x40, { in: { n: u32 } })')
  await run('./first.mjs', '--json', '--write', 'abi')
  const first = fileOf('abi/abi.json')
  const broken = author('broken', 'run: cmd(0x40, { in: { n: u16 } }), other: cmd(0x41)')
  const refused = await run(broken, '--json', '--header', '--write', 'abi')
  t.match(refused, {
    code: 1,
    stdout: '',
    stderr:
      /mine\.run\.in\.n was u32 and is u16\n.*0x42 is free.*: uaccel uapi \.\/broken\.mjs --json --write abi --force \(ERR_ACCEL_VERSION\)/,
  })
  t.same(readdirSync(join(folder, 'abi')), ['abi.json'], 'no file was written')
  t.equal(fileOf('abi/abi.json'), first)
  const grown = author('grown', 'run: cmd(0x40, { in: { n: u32, m: added(3, u16) } })').replace('./', '')
  writeFileSync(join(folder, grown), fileOf(grown).replace('version: 2', 'version: 3'))
  t.match(await run(`./${grown}`, '--json', '--write', 'abi'), { code: 0 })
  t.match(fileOf('abi/abi.json'), /"since": 3/)
  t.match(await run(broken, '--json', '--write', 'abi', '--force'), { code: 0 })
  t.match(fileOf('abi/abi.json'), /"u16"/)
  writeFileSync(join(folder, 'abi/abi.json'), '<<<<<<<')
  t.match(await run(broken, '--json', '--write', 'abi'), { code: 1, stderr: /no JSON.*INVALID_ARGUMENT/ })
})

t.test('what is no uAPI', async (t) => {
  t.match(await run('nothing'), {
    code: 3,
    stderr:
      /no uAPI "nothing"; there are common, control, node, query, edu, npu, nvme, virtio-crypto\. .*NOT_FOUND/,
  })
  t.match(await run('./nothing.js'), { code: 3, stderr: /cannot be imported.*NOT_FOUND/ })
  t.match(await run('.'), { code: 3, stderr: /NOT_FOUND/ })
  writeFileSync(join(folder, 'none.mjs'), 'export const a = { name: "x", version: 1, commands: {} }')
  t.match(await run('./none.mjs'), { code: 3, stderr: /exports no uAPI.*NOT_FOUND/ })
  writeFileSync(join(folder, 'wrong.mjs'), 'export const = 1')
  t.match(await run('./wrong.mjs'), { code: 1, stderr: /cannot be imported.*INVALID_ARGUMENT/ })
  const twice = author('twice', '', "export const other = uapi({ name: 'other', version: 1, commands: {} })")
  t.match(await run(twice), { code: 1, stderr: /exports several uAPIs: .*INVALID_ARGUMENT/ })
  const cannot = author('cannot', 'run: cmd(0x3f)')
  t.match(await run(cannot), { code: 1, stderr: /mine\.run: number 63.*INVALID_ARGUMENT/ })
})

t.test('a command line that is not understood, and a folder that cannot be written', async (t) => {
  for (const [args, words] of [
    [['edu', '--json', '--header'], /only one of --header, --json goes to stdout/],
    [['edu', '--write', '.'], /--write wants at least one of/],
    [['edu', '--force'], /--force is for --json --write/],
    [['edu', '--header', '--write', '.', '--force'], /--force is for --json --write/],
    [[], /missing required argument 'name'/],
  ] as const)
    t.match(await run(...args), { code: 2, stdout: '', stderr: words })
  writeFileSync(join(folder, 'file'), '')
  t.match(await run('edu', '--header', '--write', 'file/below'), {
    code: 1,
    stderr: /can be written into file\/below: .*ERR_ACCEL_SYSTEM/,
  })
  mkdirSync(join(folder, 'odd/abi.json'), { recursive: true })
  t.match(await run('edu', '--json', '--write', 'odd'), {
    code: 1,
    stderr: /cannot be read: .*ERR_ACCEL_SYSTEM/,
  })
})
