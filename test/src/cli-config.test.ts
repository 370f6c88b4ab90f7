import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { serveModelCommand } from './served-model.js'
import { uaccel } from './uaccel.js'

/** `uaccel config -v` of a model in another process, and of dumps. */

t.setTimeout(120_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const run = (...args: string[]) => uaccel(['config', ...args], { cwd: folder })

t.test('every register, field by field, with sizes of BARs', async (t) => {
  const socket = await serveModelCommand(t, 'npu', folder)
  const { code, stdout, stderr } = await run('-v', socket)
  t.match({ code, stderr }, { code: 0, stderr: '' })
  t.match(stdout, /^ {2}COMMAND +io- memory\+ busMaster- /m)
  t.match(stdout, /^ {2}BAR 2 {6}memory at 0xe1000000, 16 MiB, 64-bit, prefetchable$/m)
  t.match(stdout, /^ {6}DEVCTL +correctableErrors- /m)
  t.match(stdout, /^ {6}TABLE +bar=4 offset=0x0$/m)
  for (const line of stdout.split('\n').slice(1)) t.ok(line.length <= 80, line)
  const plain = await run(socket)
  t.notMatch(plain.stdout, /DEVCTL/)

  const json = JSON.parse((await run('-v', '--json', socket)).stdout)
  t.equal(json.bars[0].sizeBytes, 32 << 10)
  const express = json.capabilities.find(({ id }: { id: number }) => id === 0x10)
  const [, devcap] = express.registers
  t.match(devcap, {
    name: 'DEVCAP',
    offset: express.offset + 4,
    width: 32,
    fields: { functionLevelReset: true },
  })
  t.notOk('registers' in JSON.parse((await run('--json', socket)).stdout).capabilities[0])

  const all = await run('-vv', socket)
  t.match(all.stdout, /^ {6}0x\w{3} 0x10000000 +DEVCAP +maxPayloadBytes=128 /m)
  const file = './npu.txt'
  writeFileSync(join(folder, file), all.stdout)
  const again = await run('-v', file)
  t.match(again, { code: 0, stderr: '' })
  const capabilities = (text: string) => text.slice(text.indexOf('[0x40]'))
  t.equal(capabilities(again.stdout), capabilities(stdout), 'a dump says the same')
})

t.test('files: bytes of sysfs, of lspci, and what is neither', async (t) => {
  const bytes = Buffer.alloc(256)
  bytes.set([0x34, 0x12, 0xe8, 0x11])
  writeFileSync(join(folder, 'raw'), bytes)
  t.match(await run('./raw'), { code: 0, stdout: /^\.\/raw {2}0x1234:0x11e8/ })
  const lines = '00:05.0 x\n00: 34 12 e8 11\n00:06.0 y\n00: 36 1b 10 00\n'
  writeFileSync(join(folder, 'two.txt'), lines)
  t.match(await run('./two.txt'), { code: 0, stdout: /0x1234:0x11e8.*only 4 bytes of config space/s })
  for (const [name, text, stderr] of [
    ['gap', '00: 34 12\n10: 00\n', /"10: 00" follows 2 bytes.*INVALID_ARGUMENT/],
    ['prose', 'nothing here', /holds 12 bytes, and no config space.*INVALID_ARGUMENT/],
    ['empty', '', /holds 0 bytes/],
  ] as const) {
    writeFileSync(join(folder, name), text)
    t.match(await run('-v', `./${name}`), { code: 1, stdout: '', stderr })
  }
  t.match(await run('./none'), { code: 3, stderr: /NOT_FOUND/ })
  t.match(await run('--help'), { code: 0, stdout: /lspci -vvv.*Examples:/s })
})
