import { execFile, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Accel } from '@uaccel/accel'
import { openAccel, openBuffers } from '@uaccel/client'
import driver from '@uaccel/driver-nvme'
import { NvmeFaults, nvmeModel } from '@uaccel/driver-nvme/model'
import { encodeSteps, nvmeUapi } from '@uaccel/driver-nvme/uapi'
import { loopback } from '@uaccel/model'
import t, { type Test } from 'tap'
import { type NvmeDevice, withDisk } from './device.js'
import { Ext4 } from './ext4.js'
import { makeImage } from './image.js'
import { NamespaceReader } from './namespace.js'
import { formatReport, type Summary } from './report.js'
import { largeTree, noise, smallTree, temporaryFolder } from './tree.test.helper.js'
import { verify } from './verify.js'

// Programs are started, on machines that may be slow.
t.setTimeout(600_000)

const here = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url))
const main = here('dist/main.js')
const LINE = 65_536

async function onModel(t: Test, disk: Uint8Array, faults = new NvmeFaults()): Promise<NvmeDevice> {
  const transport = loopback(nvmeModel, { model: { ...withDisk(disk), faults } })
  const accel = new Accel()
  accel.register(driver)
  await accel.add(transport)
  t.teardown(async () => {
    await accel.close()
    transport.assertClean()
  })
  const client = accel.open(nvmeUapi, 'accel0')
  return { client, buffers: openBuffers(client), close: () => accel.close() }
}

/** A child until the test ends. */
function inBackground(t: Test, program: string, args: readonly string[]) {
  const child = fork(program, args, { stdio: ['ignore', 'ignore', 2, 'ipc'] })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
  })
  return child
}

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Promise((resolve) =>
    execFile(
      process.execPath,
      [main, ...args],
      { env: { ...process.env, ...env } },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    ),
  )
}

t.test('a namespace as bytes: any part, many reads at once, each line once', async (t) => {
  const disk = noise(10 * LINE + 1536, 1)
  const namespace = await NamespaceReader.open(await onModel(t, disk), { depth: 4, lines: 3 })
  t.match(namespace, { nsid: 1, sizeBytes: disk.length })
  for (const [offset, sizeBytes] of [
    [0, 0],
    [0, 1],
    [LINE - 1, 2],
    [5, 10 * LINE],
    [disk.length - 1, 1],
    [disk.length, 0],
    [0, disk.length],
  ] as const) {
    const read = Buffer.from(await namespace.read(offset, sizeBytes))
    t.ok(read.equals(disk.subarray(offset, offset + sizeBytes)), `${sizeBytes} bytes from ${offset} on`)
  }
  t.equal(namespace.mostAtOnce, 4)
  const before = namespace.reads
  await Promise.all(Array.from({ length: 50 }, (_, i) => namespace.read(4 * LINE + i, 100)))
  t.equal(namespace.reads, before + 1, 'who wants the same waits for the same read')
  for (const [offset, sizeBytes] of [
    [disk.length, 1],
    [0, disk.length + 1],
    [-1, 1],
    [0, -1],
    [Number.NaN, 1],
  ] as const)
    await t.rejects(namespace.read(offset, sizeBytes), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
})

t.test('namespaces that there are not', async (t) => {
  const device = await onModel(t, new Uint8Array(512))
  await t.rejects(NamespaceReader.open(device, { nsid: 2 }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /none from 2 on/,
  })
  const namespace = await NamespaceReader.open(device, { nsid: 1 })
  await t.rejects(Ext4.open(namespace), { code: 'ERR_ACCEL_INVALID_ARGUMENT', message: /There is no ext2/ })
})

t.test(
  'an error of the device ends what wanted it, and the next read goes to the device again',
  async (t) => {
    const faults = new NvmeFaults()
    const disk = noise(4 * LINE, 2)
    const namespace = await NamespaceReader.open(await onModel(t, disk, faults), { depth: 2 })
    faults.status(0x281, { opcode: 2, count: 1 }) // unrecovered read error (NVMe base 1.4, figure 128)
    const both = await Promise.allSettled([namespace.read(0, 3 * LINE), namespace.read(3 * LINE, 10)])
    t.match(both, [{ status: 'rejected', reason: { code: 'ERR_ACCEL_IO' } }, { status: 'fulfilled' }])
    t.ok(Buffer.from(await namespace.read(0, disk.length)).equals(disk))
  },
)

t.test('a whole tree through the driver, and what is damaged on the way', async (t) => {
  const folder = temporaryFolder(t)
  largeTree(folder)
  const disk = await makeImage(folder, { type: 'ext4', extra: ['-b', '4096'] })
  const namespace = await NamespaceReader.open(await onModel(t, disk))
  const { mismatches } = await verify(await Ext4.open(namespace), folder)
  t.same(mismatches, [])
  t.equal(namespace.mostAtOnce, 16)

  const damaged = disk.slice()
  damaged.fill(0, 1 << 20) // tables and data, but for those at the start
  const reader = await NamespaceReader.open(await onModel(t, damaged))
  const verified = await verify(await Ext4.open(reader), folder).catch((error) => error)
  t.ok(verified.code === 'ERR_ACCEL_INVALID_ARGUMENT' || verified.mismatches.length > 0, 'it shows')
})

t.test('the report fits a terminal', async (t) => {
  const summary: Summary = {
    ...{ device: 'QEMU NVMe Ctrl (accel0)', transport: 'vfio, iommufd', namespace: 1, fileSystem: 'ext4' },
    ...{ blockBytes: 4096, files: 123_456, directories: 12_345, links: 1_234, bytes: 12_345_678_901 },
    ...{ megabytesPerSecond: 1234.5, reads: 123_456, mostReadsAtOnce: 16 },
    mismatches: Array.from({ length: 12 }, (_, i) => `/${i}\x1b[2J: differs`),
  }
  const lines = formatReport(summary).split('\n')
  t.same(
    lines.filter((line) => line.length > 80),
    [],
  )
  t.notMatch(lines.join('\n'), '\x1b')
  t.match(lines.at(-2), 'and 2 more')
})

t.test('the program, on its model', async (t) => {
  const folder = temporaryFolder(t)
  const [files, image] = [join(folder, 'files'), join(folder, 'disk.img')]
  mkdirSync(files)
  smallTree(files)
  writeFileSync(image, await makeImage(files, { type: 'ext2' }))
  const [made, given, listed, inner, one, ...helps] = await Promise.all(
    [
      ['verify', files, '--json'],
      ['--image', image, 'verify', files],
      ['--image', image, 'ls'],
      ['--image', image, 'ls', 'short/c'],
      ['--image', image, 'ls', 'text'],
      ['--help'],
      ['-h'],
    ].map((args) => run(args)),
  )
  t.equal(made.stderr, '')
  t.equal(made.stdout.indexOf('\n'), made.stdout.length - 1, 'one line')
  t.match(JSON.parse(made.stdout), {
    ...{ device: 'uaccel NVMe model, emulated (accel0)', transport: 'loopback', fileSystem: 'ext4' },
    ...{ files: 5, directories: 4, links: 2, mismatches: [] },
  })
  t.equal(given.code, 0)
  t.match(given.stdout, /file system {2}ext2 on namespace 1/)
  t.same(
    listed.stdout.split('\n').map((line) => line.slice(25)),
    [
      'a',
      'empty',
      `long -> a/${'./'.repeat(40)}b/c/deep`,
      'lost+found',
      'noise',
      'short -> a/b',
      'sparse',
      'text',
      '',
    ],
  )
  t.match(inner.stdout, /^-rw.* 5 {2}deep\n$/)
  t.match(one.stdout, /^-rw.* 9 {2}text\n$/)
  for (const help of helps) t.match(help.stdout, /^Usage/)
  const names = ['noise', 'sparse', 'empty']
  const cat = (name: string) =>
    promisify(execFile)(process.execPath, [main, '--image', image, 'cat', name], { encoding: 'buffer' })
  const written = await Promise.all(names.map(cat))
  for (const [i, name] of names.entries())
    t.ok(written[i].stdout.equals(readFileSync(join(files, name))), `${name}, byte for byte`)

  writeFileSync(join(files, 'text'), 'another!\n')
  const differing = await run(['--image', image, 'verify', files])
  t.equal(differing.code, 1)
  t.match(differing.stdout, /│ +1 │\n.*\n\/text: the contents differ\n$/)

  const reader = spawn('sh', [
    '-c',
    '"$0" "$1" --image "$2" cat sparse | head -c 10 >/dev/null; echo ended',
    process.execPath,
    main,
    image,
  ])
  const said: Buffer[] = []
  for await (const part of reader.stderr) said.push(part)
  t.equal(Buffer.concat(said).toString(), '', 'who has seen enough is no error')
})

t.test('what is wrong is said in a sentence, with an exit code', async (t) => {
  const folder = temporaryFolder(t)
  const [text, image] = [join(folder, 'text'), join(folder, 'disk.img')]
  writeFileSync(text, 'no file system\n')
  smallTree(folder)
  writeFileSync(image, await makeImage(folder))
  const cases = [
    [['--wrong'], 2, /^Unknown option '--wrong'/],
    [['mount'], 2, /^there are the commands verify, ls, cat, serve, found mount/],
    [['cat', '--image', image], 2, /^cat wants one word, found 0/],
    [['ls', '--image', image, 'a', 'b'], 2, /^ls wants one word at most, found 2/],
    [['ls'], 2, /^ls wants --image or --device/],
    [['serve', 'a'], 2, /^serve wants --image/],
    [['ls', '--image', image, '--device', 'accel0'], 2, /^--image is for our model/],
    [['ls', '--image', image, '--json'], 2, /^--json is for verify/],
    [['--type', 'xfs'], 2, /^--type wants ext2, ext3, ext4, found xfs/],
    [['--iommu', 'none'], 2, /^--iommu wants type1 or iommufd/],
    [['--namespace', '0'], 2, /^--namespace wants a number from 1 on, found 0/],
    [
      ['verify', join(folder, 'none')],
      1,
      /^ERR_ACCEL_NOT_FOUND: There is no file or folder .*none on this machine\n$/,
    ],
    [['verify', text], 1, /^ERR_ACCEL_INVALID_ARGUMENT: .*text is a file, wanted a folder\n$/],
    [['ls', '--image', text], 1, /^ERR_ACCEL_INVALID_ARGUMENT: There is no ext2, ext3 or ext4 file system/],
    [['ls', '--image', folder], 1, /^ERR_ACCEL_INVALID_ARGUMENT: .* is a folder, wanted a file\n$/],
    [['ls', '--image', join(folder, 'none')], 1, /^ERR_ACCEL_NOT_FOUND: /],
    [['ls', '--image', image, 'none'], 1, /^ERR_ACCEL_NOT_FOUND: There is no none in the file system/],
    [
      ['cat', '--image', image, 'no\x1b[2Jne'],
      1,
      /^ERR_ACCEL_NOT_FOUND: There is no no\?\[2Jne in the file system/,
    ],
    [['cat', '--image', image, 'a'], 1, /^ERR_ACCEL_INVALID_ARGUMENT: a is a directory, wanted a file\n$/],
    [['ls', '--image', image, '--namespace', '9'], 1, /^ERR_ACCEL_NOT_FOUND: Wanted namespace 9/],
    [['ls', '--device', join(folder, 'no.sock')], 1, /^ERR_ACCEL_NOT_FOUND: .*no\.sock/],
    [['ls', '--device', 'accel99'], 1, /^ERR_ACCEL_NOT_FOUND: .*accel99/],
  ] as const
  const all = await Promise.all(cases.map(([args]) => run(args)))
  for (const [i, [args, code, said]] of cases.entries()) {
    const ended = all[i]
    t.equal(ended.code, code, args.join(' '))
    t.match(ended.stderr, said)
    t.equal(ended.stdout, '')
  }
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'mke2fs'), '#!/bin/sh\necho no room >&2; exit 1\n', { mode: 0o755 })
  const failed = await run(['verify', folder], { PATH: `${bin}:${process.env.PATH}` })
  t.equal(failed.code, 1)
  t.match(failed.stderr, /^ERR_ACCEL_SYSTEM: mke2fs made no image of .*: no room\n$/)
})

t.test('without mke2fs it says what to install', async (t) => {
  const folder = temporaryFolder(t)
  const error = await makeImage(folder, { mke2fs: 'mke2fs-that-nobody-has' }).catch((error) => error)
  t.match(error, { code: 'ERR_ACCEL_NOT_FOUND', message: /apt install e2fsprogs/ })
})

t.test('the program over vfio-user', async (t) => {
  const folder = temporaryFolder(t)
  const [files, image, socket] = ['files', 'disk.img', 'nvme.sock'].map((name) => join(folder, name))
  mkdirSync(files)
  smallTree(files)
  writeFileSync(join(files, 'large'), noise(3_000_001, 3))
  writeFileSync(image, await makeImage(files))
  await once(inBackground(t, main, ['serve', socket, '--image', image]), 'message')
  const { stdout, stderr } = await run(['verify', files, '--device', socket, '--json'])
  t.equal(stderr, '')
  t.match(JSON.parse(stdout), { transport: 'vfio-user', mismatches: [], mostReadsAtOnce: 16 })
  const edu = join(folder, 'edu.sock')
  const command = here('../../packages/cli/bin/uaccel.mjs')
  await once(inBackground(t, command, ['model', 'edu', '--socket', edu, '--quiet']), 'message')
  const wrong = await run(['ls', '--device', edu])
  t.equal(wrong.code, 1)
  t.match(wrong.stderr, /^ERR_ACCEL_NO_DRIVER: .*edu\.sock is no NVMe controller\./)
})

t.test('the program on a node, whose disk is written and read', async (t) => {
  const folder = temporaryFolder(t)
  const [files, nodes] = [join(folder, 'files'), join(folder, 'uaccel')]
  mkdirSync(files)
  smallTree(files)
  const command = here('../../packages/cli/bin/uaccel.mjs')
  inBackground(t, command, ['serve', '--model', 'nvme', '--folder', nodes])
  for (const end = Date.now() + 60_000; !existsSync(join(nodes, 'accel0')) && Date.now() < end; )
    await sleep(50)
  const blank = await run(['ls', '--device', 'accel0'], { XDG_RUNTIME_DIR: folder })
  t.match(blank, { code: 1, stderr: /^ERR_ACCEL_INVALID_ARGUMENT: There is no ext2/ })

  const client = await openAccel(nvmeUapi, 'accel0', { folder: nodes })
  const { namespaces } = await client.call('namespaces', { after: 0 })
  const image = await makeImage(files, { type: 'ext2', sizeBytes: 512 * Number(namespaces[0].blocks) })
  const buffers = openBuffers(client)
  const buffer = await buffers.create(image.length)
  buffer.u8.set(image)
  const step = { operation: 'write', buffer: 0, lba: 0, blocks: image.length / 512 } as const
  await buffers.run({ buffers: [{ buffer, access: 'read' }], payload: encodeSteps([step]) })
  await client.close()
  const { stdout, stderr } = await run(['verify', files, '--device', 'accel0', '--json'], {
    XDG_RUNTIME_DIR: folder,
  })
  t.equal(stderr, '')
  t.match(JSON.parse(stdout), { device: /accel0/, fileSystem: 'ext2', mismatches: [] })
})
