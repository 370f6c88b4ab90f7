import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DeviceIdentity } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import t from 'tap'
import { readConfig } from './config.js'
import { parseJson } from './json.js'
import { Numbers } from './numbers.js'
import { plan } from './plan.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-config-'))
const file = join(folder, 'uaccel.json')
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const drivers = ['@uaccel/driver-edu', '@uaccel/driver-npu']

function read(text: string) {
  writeFileSync(file, text)
  return readConfig({ file, drivers, resolveFrom: [] })
}

/** What is wrong with a file: code, and lines without the name of the file. */
async function wrong(text: string): Promise<[code: string, ...lines: string[]]> {
  try {
    await read(text)
  } catch (error) {
    if (!isAccelError(error)) throw error
    return [error.code, ...error.message.split('\n').map((line) => line.replace(`${file}:`, ''))]
  }
  throw new Error('it was taken')
}

t.test('what is no JSON', async (t) => {
  for (const [text, problem] of [
    ['', '1: wanted a value, found the end of the file'],
    ['{\n  "folder" "/run"\n}', '2: wanted ":" after "folder", found "\\"/run\\""'],
    ['{ "folder": "/a",\n\n "folder": "/b" }', '3: "folder" stands here again, after line 1'],
    ['{ "drivers": ["a" "b"] }', '1: wanted "," or "]", found "\\"b\\"]"'],
    ['{ "devices": [,] }', '1: wanted a value, found ""'],
    ['{ folder: 1 }', '1: wanted a name in quotes, found "folder:"'],
    ['{} // done\n{}', '2: wanted the end of the file, found "{}"'],
    ['{ "metrics": "a\nb" }', '1: wanted a value, found "\\"a"'],
    ['['.repeat(40), '1: more than 32 values within each other'],
  ] as const) {
    t.same(await wrong(text), ['ERR_ACCEL_INVALID_ARGUMENT', problem], text)
  }
})

t.test('packages in the working directory do not stand in for those of the command', async (t) => {
  const at = process.cwd()
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-config-'))
  const file = join(folder, 'uaccel.json')
  const fake = join(folder, 'node_modules/@uaccel/driver-edu')
  mkdirSync(fake, { recursive: true })
  writeFileSync(join(fake, 'package.json'), '{ "main": "index.js" }')
  writeFileSync(join(fake, 'index.js'), 'throw new Error("it was run")')
  process.chdir(folder)
  try {
    const value = { folder }
    const config = await readConfig({
      value,
      drivers: ['@uaccel/driver-edu'],
      resolveFrom: [import.meta.url],
    })
    t.equal(config.drivers[0]?.driver.name, 'edu')
    t.notMatch(config.drivers[0]?.module, folder)
    writeFileSync(file, '{}')
    await t.rejects(
      readConfig({ file, drivers, resolveFrom: [] }),
      { message: /it was run/ },
      'a file has its own',
    )
  } finally {
    process.chdir(at)
    rmSync(folder, { recursive: true })
  }
})

t.test('what would be refused when it is served', async (t) => {
  const open = join(folder, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  t.same(await wrong(`{\n "folder": "${open}",\n "devices": []\n}`), [
    'ERR_ACCEL_PERMISSION',
    `2: folder: The folder of nodes ${open} can be changed by every user: it is to be root's or the server's own, and not writable for others. Name another one, or remove it`,
  ])
  t.same(await wrong('{ "metrics": "127.0.0.1:65536" }'), [
    'ERR_ACCEL_INVALID_ARGUMENT',
    '1: metrics wants address:port, or a path, found "127.0.0.1:65536"',
  ])
})

t.test('values come as they are, with their lines', async (t) => {
  const { value } = parseJson(
    '\ufeff{ // comment\n "a": [1, -2.5e1, "\\u00e4//", true, null],\n "b": {} }',
    'f',
  )
  t.ok(value instanceof Map)
  const { a, b } = Object.fromEntries(value as ReadonlyMap<string, never>) as Record<string, never>
  t.same(a, { keyLine: 2, line: 2, value: [1, -25, 'ä//', true, null].map((value) => ({ line: 2, value })) })
  t.match(b, { keyLine: 3, line: 3 })
})

t.test('what a configuration cannot say', async (t) => {
  const invalid = 'ERR_ACCEL_INVALID_ARGUMENT'
  for (const [text, code, ...problems] of [
    ['[]', invalid, '1: the configuration wants an object, found a list'],
    ['{ "device": [] }', invalid, '1: device is not known; is it "devices"?'],
    ['{ "devices": [{}, {\n "mdoe": "660" }] }', invalid, '2: devices[1].mdoe is not known; is it "mode"?'],
    [
      '{ "control": { "exclusive": true } }',
      invalid,
      '1: control.exclusive is not known; there are mode, owner, group',
    ],
    [
      '{ "defaults": { "mode": 660 } }',
      invalid,
      '1: defaults.mode wants three octal digits in quotes, such as "660", found 660',
    ],
    [
      '{ "defaults": { "mode": "888" } }',
      invalid,
      '1: defaults.mode wants three octal digits in quotes, such as "660", found "888"',
    ],
    ['{ "defaults": { "exclusive": 1 } }', invalid, '1: defaults.exclusive wants true or false, found 1'],
    [
      '{ "defaults": { "maxOpens": 0 } }',
      invalid,
      '1: defaults.maxOpens wants a whole number from 1 to 65536, found 0',
    ],
    [
      '{ "defaults": { "limits": { "stallMs": 1.5 } } }',
      invalid,
      '1: defaults.limits.stallMs wants a whole number from 1 to 3600000, found 1.5',
    ],
    [
      '{ "defaults": { "iommu": "vtd" } }',
      invalid,
      '1: defaults.iommu wants "auto", "type1", "iommufd", found "vtd"',
    ],
    ['{ "folder": "run" }', invalid, '1: folder wants an absolute path, found "run"'],
    ['{ "metrics": "9464" }', invalid, '1: metrics wants address:port, or a path, found "9464"'],
    [
      '{ "devices": [{ "address": "5" }] }',
      invalid,
      '1: devices[0].address wants a PCI address in quotes, such as "0000:00:05.0", found "5"',
    ],
    [
      '{ "devices": [{ "id": "1234" }] }',
      invalid,
      '1: devices[0].id wants vendor and device in quotes, such as "1234:11e8", found "1234"',
    ],
    [
      '{ "devices": [{ "address": "00:05.0", "model": "edu" }] }',
      invalid,
      '1: devices[0] names its device by address and model: one of them',
    ],
    [
      '{ "devices": [\n{ "address": "00:05.0" },\n{ "address": "0000:00:05.0" }] }',
      invalid,
      '3: devices[1].address is 0000:00:05.0, which devices[0].address is already',
    ],
    [
      '{ "devices": [{ "vfioUser": "a.sock" }, { "vfioUser": "./a.sock" }] }',
      invalid,
      `1: devices[1].vfioUser is ${folder}/a.sock, which devices[0].vfioUser is already`,
    ],
    [
      '{ "devices": [{ "model": "edu", "number": 3 }, { "model": "npu", "number": 3 }] }',
      invalid,
      '1: devices[1].number is accel3, which devices[0].number is already',
    ],
    [
      '{ "devices": [{ "id": "1234:11e8", "number": 3 }] }',
      invalid,
      '1: devices[0].number is for one device, and this entry is for all that fit: name it by `address`',
    ],
    [
      '{ "defaults": { "backOff": { "capMs": 10 } }, "devices": [{ "model": "edu" }] }',
      invalid,
      '1: devices[0] has a backOff.capMs of 10, less than its baseMs of 1000',
    ],
    [
      '{ "drivers": ["@uaccel/driver-edu", "@uaccel/driver-nope"] }',
      'ERR_ACCEL_NOT_FOUND',
      '1: drivers[1]: no package or module "@uaccel/driver-nope": install it beside the configuration or the command, or give its path',
    ],
    [
      '{ "drivers": ["@uaccel/driver-edu", "@uaccel/driver-edu"] }',
      invalid,
      '1: drivers[1] is a driver of the name edu, which @uaccel/driver-edu has already',
    ],
    [
      '{ "devices": [{ "driver": "@uaccel/driver-x" }] }',
      'ERR_ACCEL_NOT_FOUND',
      '1: devices[0].driver wants one of `drivers`: @uaccel/driver-edu, @uaccel/driver-npu',
    ],
    [
      '{ "devices": [{ "model": "nothing" }] }',
      'ERR_ACCEL_NOT_FOUND',
      '1: devices[0].model: no model or driver "nothing"; there are edu, npu',
    ],
    [
      '{ "drivers": ["@uaccel/driver-npu"], "devices": [{ "model": "@uaccel/driver-edu/model" }] }',
      'ERR_ACCEL_NO_DRIVER',
      '1: devices[0].model: the model @uaccel/driver-edu/model (pci 1234:11e8 class 00ff00) has no driver among @uaccel/driver-npu',
    ],
    [
      '{\n"defaults": {\n"group": "no-such-group" }, "devices": [{}, { "model": "edu" }] }',
      'ERR_ACCEL_NOT_FOUND',
      '3: defaults.group: There is no group "no-such-group" in /etc/group: add it, or give its number',
    ],
    [
      '{ "defaults": { "modes": 1 },\n "devices": [{ "number": -1 }] }',
      invalid,
      '1: defaults.modes is not known; is it "mode"?',
      '2: devices[0].number wants a whole number from 0 to 1048575, found -1',
    ],
  ] as const) {
    t.same(await wrong(text), [code, ...problems], text)
  }
  writeFileSync(join(folder, 'nothing.mjs'), 'export default {}')
  const [code, line] = await wrong('{ "drivers": ["./nothing.mjs"] }')
  t.equal(code, invalid)
  t.match(line, /^1: drivers\[0\]: file:.*nothing\.mjs is no driver: its default export/)
  writeFileSync(join(folder, 'broken.mjs'), 'throw new Error("no such library")')
  t.match(
    (await wrong('{ "drivers": ["./broken.mjs"] }'))[1],
    /broken\.mjs cannot be loaded: no such library/,
  )
  // Packages beside the file: one that has nothing for who is not an ES module, and one that works.
  const packed = (name: string, exports: unknown) => {
    const own = join(folder, 'node_modules', name)
    mkdirSync(own, { recursive: true })
    writeFileSync(join(own, 'package.json'), JSON.stringify({ name, type: 'module', exports }))
    const driver = '{ name: "own", uapi: {}, ids: [{ bus: "pci", vendor: 1 }], probe() {} }'
    writeFileSync(join(own, 'driver.js'), `export default ${driver}`)
  }
  packed('import-only', { '.': { import: './driver.js' } })
  t.match(
    (await wrong('{ "drivers": ["import-only"] }'))[1],
    /"import-only": it is there, and cannot be loaded: No "exports"/,
  )
  packed('own-driver', './driver.js')
  const { drivers: loaded } = await read(`{ "folder": "${folder}", "drivers": ["own-driver"] }`)
  t.match(loaded, [{ source: 'own-driver', module: /own-driver\/driver\.js$/, driver: { name: 'own' } }])
  await t.rejects(readConfig({ file: join(folder, 'absent.json'), drivers, resolveFrom: [] }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /^The configuration .*absent\.json cannot be read/,
  })
})

const pci = (address: string, vendor: number, device: number): DeviceIdentity => ({
  bus: 'pci',
  vendor,
  device,
  subsystemVendor: 0,
  subsystem: 0,
  revision: 0,
  classCode: 0,
  transport: { kind: 'vfio', address },
})
const edu = (address: string) => pci(address, 0x1234, 0x11e8)

t.test('which devices are served', async (t) => {
  const config = await read(`{
    "folder": ${JSON.stringify(folder)},
    "defaults": { "mode": "660", "backOff": { "baseMs": 5 }, "drainMs": 7 },
    "devices": [
      { "address": "0000:00:06.0", "exclusive": true, "number": 4, "backOff": { "capMs": 50 } },
      { "id": "acce:0001", "drainMs": 9 },
      { "driver": "@uaccel/driver-edu" },
      { "model": "edu" }, { "model": "edu" },
      { "vfioUser": "edu.sock" },
      { "address": "0000:00:1f.0" }
    ]
  }`)
  const numbers = new Numbers(folder)
  const found = [
    edu('0000:00:05.0'),
    edu('0000:00:06.0'),
    pci('0000:01:00.0', 0xacce, 1),
    pci('0000:00:00.0', 0x8086, 1),
  ]
  const first = plan(config, found, numbers)
  numbers.keep(first.assigned)
  t.same(
    first.specs.map(({ job: { number, address, way, drivers, serve }, supervision }) => [
      number,
      address,
      way.kind,
      drivers.length,
      serve.exclusive ?? false,
      supervision.drainMs,
    ]),
    [
      [0, '0000:01:00.0', 'vfio', 1, false, 9],
      [1, '0000:00:05.0', 'vfio', 1, false, 7],
      [2, 'edu', 'model', 1, false, 7],
      [3, 'edu-2', 'model', 1, false, 7],
      [4, '0000:00:06.0', 'vfio', 1, true, 7],
      [5, join(folder, 'edu.sock'), 'vfioUser', 2, false, 7],
    ],
  )
  t.match(first.specs[4]?.supervision, { baseMs: 5, capMs: 50 }, 'members of an object are set one by one')
  t.match(first.specs[0]?.job.serve, { mode: 0o660 })
  t.same(first.waiting, ['0000:00:1f.0 is not bound to vfio-pci: see `uaccel doctor 0000:00:1f.0`'])

  const again = plan(config, [edu('0000:00:02.0'), ...found.slice(2)], new Numbers(folder))
  t.same(
    again.specs.map(({ job }) => [job.number, job.address]),
    [
      [0, '0000:01:00.0'],
      [2, 'edu'],
      [3, 'edu-2'],
      [5, join(folder, 'edu.sock')],
      [6, '0000:00:02.0'],
    ],
    'after a restart each has its number again, and that of one which is gone is kept for it',
  )
})
