import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type Ended, start, uaccel, uaccelBin } from './uaccel.js'

t.setTimeout(300_000)

const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
t.teardown(() => rmSync(folder, { recursive: true }))
/** Temporary files of the command itself: nothing may stay there. */
const TMPDIR = join(folder, 'tmp')
mkdirSync(TMPDIR)

const run = (...args: string[]) => uaccel(args, { cwd: folder, env: { TMPDIR } })
const digits = (name: string) => fileURLToPath(new URL(`../../examples/digits/${name}`, import.meta.url))

/** Asserts an error: its exit code, its words and code on stderr, and nothing on stdout. */
function failed(t: Test, { code, stdout, stderr }: Ended, wanted: { code: number; stderr: RegExp }): void {
  t.equal(code, wanted.code, stderr)
  t.match(stderr, wanted.stderr)
  t.equal(stdout, '')
  t.notMatch(stderr, /^ {4}at /m, 'no stack for errors of the table')
}

/** A model in a process of its own, from when it answers until the test ends. */
async function serve(
  t: Test,
  name: string,
  ...flags: string[]
): Promise<{ path: string; model: ChildProcess }> {
  const path = `./${name}-${process.hrtime.bigint()}.sock`
  const model = start(['model', name, '--socket', path, ...flags], { cwd: folder })
  t.teardown(async () => {
    if (model.exitCode !== null || model.signalCode !== null) return
    model.kill()
    await once(model, 'exit')
  })
  for await (const chunk of model.stderr!.iterator({ destroyOnReturn: false })) {
    t.equal(String(chunk), `${name.replace('.mjs', '')} on ${path}\n`)
    break
  }
  return { path, model }
}

t.test('help, version, and a command line that is not understood', async (t) => {
  const help = await run('--help')
  t.match(help, { code: 0, stderr: '' })
  for (const word of [
    'list',
    'bind',
    'unbind',
    'doctor',
    'config',
    'reg',
    'reset',
    'model',
    'uapi',
    'lab',
    'infer',
    'NO_COLOR',
  ])
    t.match(help.stdout, word)
  t.match(help.stdout, /Exit codes:\n {2}0 {2}done\n {2}1 {2}.*\n {2}2 {2}.*\n {2}3 {2}/)
  t.strictSame(await run('--version'), { code: 0, stdout: '0.1.0\n', stderr: '' })
  for (const [args, words] of [
    [['frobnicate'], /unknown command 'frobnicate'\nTry: uaccel --help/],
    [['list', '--frobnicate'], /unknown option '--frobnicate'\nTry: uaccel list --help/],
    [['reg', 'read', './x.sock'], /missing required argument 'names'\nTry: uaccel reg read --help/],
    [['reg', 'frobnicate'], /unknown command 'frobnicate'\nTry: uaccel reg --help/],
    [['model', 'edu'], /required option '-s, --socket <path>' not specified/],
    [['infer', 'x.onnx'], /required option '-i, --input <file...>' not specified/],
    [['infer', 'x.onnx', '-i', 'x', '-r', '0'], /A positive whole number is wanted/],
    [['lab'], /no command for the guest; for example: uaccel lab -- uname -r/],
    [['lab', '--limit', 'soon', '--', 'true'], /A positive whole number is wanted/],
  ] as const) {
    failed(t, await run(...args), { code: 2, stderr: words })
  }
  const bare = await run()
  t.match(bare, { code: 2, stdout: '', stderr: /^Usage: uaccel/ })
})

t.test('list', async (t) => {
  const json = await run('list', '--json')
  t.match(json, { code: 0, stderr: '' })
  for (const { bdf, vendor, bars } of JSON.parse(json.stdout) as Record<string, unknown>[]) {
    t.match(bdf, /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/)
    t.type(vendor, 'number')
    t.ok(Array.isArray(bars))
  }
  t.match(await run('list', '--all'), { code: 0 })
})

t.test('bind, unbind and doctor', async (t) => {
  for (const command of ['bind', 'unbind', 'doctor']) {
    failed(t, await run(command, '5.0'), { code: 1, stderr: /"5.0" is not a PCI address.*INVALID_ARGUMENT/ })
    failed(t, await run(command, 'fffe:ff:1f.7'), {
      code: 3,
      stderr: /no PCI device fffe:ff:1f.7.*NOT_FOUND/,
    })
    t.match(await run(command, '--help'), { code: 0, stdout: /Examples:\n {2}uaccel / })
  }
  failed(t, await run('bind'), { code: 2, stderr: /missing required argument 'address'/ })
  failed(t, await run('bind', '00:05.0', '--limit', '0'), { code: 2, stderr: /Seconds are wanted/ })
  for (const [owner, code, stderr] of [
    ['a b', 1, /"a b" is no owner.*INVALID_ARGUMENT/],
    ['no-such-user', 3, /no user no-such-user.*NOT_FOUND/],
    [':no-such-group', 3, /no group no-such-group.*NOT_FOUND/],
  ] as const)
    failed(t, await run('bind', 'fffe:ff:1f.7', '--owner', owner), { code, stderr })

  const json = await run('doctor', '--json')
  const { ok, findings } = JSON.parse(json.stdout) as { ok: boolean; findings: Record<string, unknown>[] }
  t.equal(json.code, ok ? 0 : 1)
  for (const finding of findings)
    t.match(finding, { id: /^[a-z-]+$/, status: /^(ok|warning|failed|unknown)$/ })
  t.match(await run('doctor'), { code: json.code, stderr: '', stdout: /Platform: linux x64, Node / })
})

t.test('registers and config space of a model in another process', async (t) => {
  const { path } = await serve(t, 'edu')
  t.strictSame(await run('reg', 'read', path, 'ID'), {
    code: 0,
    stdout: 'ID = 0x010000ed  major=1  minor=0  tag=237\n',
    stderr: '',
  })
  const json = await run('reg', 'read', path, 'ID', 'DMA_SOURCE', '--json')
  t.match(json, { code: 0, stderr: '' })
  t.strictSame(JSON.parse(json.stdout), [
    { bar: 0, name: 'ID', offset: 0, width: 32, value: 0x010000ed, fields: { major: 1, minor: 0, tag: 237 } },
    { bar: 0, name: 'DMA_SOURCE', offset: 0x80, width: 64, value: '0x0', fields: {} },
  ])

  const list = await run('reg', 'list', path)
  t.match(list, { code: 0, stderr: '' })
  t.match(list.stdout, /^BAR +offset +bits +access +name +fields$/m)
  t.match(list.stdout, /^0 +0x098 +64 +rw +DMA_COMMAND +start toRam irqOnDone$/m)
  t.match(JSON.parse((await run('reg', 'list', path, '--json')).stdout), [{ name: 'ID', access: 'ro' }])

  t.strictSame(await run('reg', 'write', path, 'LIVENESS', '0x12345678'), { code: 0, stdout: '', stderr: '' })
  t.strictSame(await run('reg', 'write', path, 'LIVENESS', '305419896', '--read', 'LIVENESS', 'STATUS'), {
    code: 0,
    stdout: 'LIVENESS = 0xedcba987\nSTATUS = 0x00000000  computing=false  irqOnDone=false\n',
    stderr: '',
  })
  const big = await run('reg', 'write', path, 'DMA_SOURCE', '0xfedcba9876543210', '--read', 'DMA_SOURCE')
  t.equal(big.stdout, 'DMA_SOURCE = 0xfedcba9876543210\n')

  failed(t, await run('reg', 'read', path, 'NOPE'), {
    code: 3,
    stderr: /^uaccel: There is no register NOPE; there are ID, .* \(ERR_ACCEL_NOT_FOUND\)\n$/,
  })
  failed(t, await run('reg', 'read', path, 'id'), {
    code: 3,
    stderr: /^uaccel: There is no register id, but ID\. \(ERR_ACCEL_NOT_FOUND\)\n$/,
  })
  for (const value of ['0xg', '0x100000000', '1.5', '']) {
    failed(t, await run('reg', 'write', path, 'LIVENESS', value), {
      code: 1,
      stderr: /no value of LIVENESS, which has 32 bits.*ERR_ACCEL_OUT_OF_RANGE/,
    })
  }
  failed(t, await run('reg', 'write', path, 'ID', '1'), {
    code: 1,
    stderr: /read-only.*ERR_ACCEL_BAD_ACCESS/,
  })
  failed(t, await run('reg', 'read', path, 'IRQ_ACK'), {
    code: 1,
    stderr: /write-only.*ERR_ACCEL_BAD_ACCESS/,
  })

  const config = await run('config', path)
  t.match(config, { code: 0, stderr: '' })
  t.match(config.stdout, /0x1234:0x11e8/)
  t.match(config.stdout, /^ {2}\[0x40\] +MSI: /m)
  const decoded = await run('config', path, '--json')
  t.match(decoded, { code: 0, stderr: '' })
  t.match(JSON.parse(decoded.stdout), { vendor: 0x1234, device: 0x11e8, capabilities: [{ name: 'MSI' }] })

  failed(t, await run('infer', digits('digits.onnx'), '--input', digits('digit.npy'), '--device', path), {
    code: 1,
    stderr: /No driver for pci 1234:11e8.*ERR_ACCEL_NO_DRIVER/,
  })
})

t.test('a model is told to trap, and ends on a signal', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { path, model } = await serve(t, 'edu', '--trapped')
    t.match(await run('reg', 'read', path, 'ID'), { code: 0, stdout: /^ID = 0x010000ed/ })
    // It looks whether a server answers, and that makes it no client.
    failed(t, await run('model', 'edu', '--socket', path), { code: 1, stderr: /ERR_ACCEL_BUSY/ })
    const told = text(model.stderr!)
    const exit = once(model, 'exit')
    model.kill(signal)
    t.strictSame(await exit, [0, null], signal)
    t.notOk(existsSync(join(folder, path)), 'its socket is gone')
    t.equal(await told, 'client connected\nclient left\n')
  }
})

t.test('the model of a module', async (t) => {
  writeFileSync(
    join(folder, 'edu.mjs'),
    `export { eduModel } from '${import.meta.resolve('@uaccel/driver-edu/model')}'`,
  )
  const { path } = await serve(t, 'edu.mjs')
  t.match(await run('reg', 'read', path, 'ID'), { code: 0, stdout: /^ID = 0x010000ed/ })
  failed(t, await run('model', './none.js', '-s', './x.sock'), {
    code: 3,
    stderr: /none\.js cannot be loaded: .*ERR_ACCEL_NOT_FOUND/,
  })
  writeFileSync(join(folder, 'empty.mjs'), 'export const model = {}')
  failed(t, await run('model', './empty.mjs', '-s', './x.sock'), {
    code: 1,
    stderr: /exports no model: .*defineModel.*ERR_ACCEL_INVALID_ARGUMENT/,
  })
})

t.test('devices that are not there, and sockets that are something else', async (t) => {
  failed(t, await run('reg', 'read', './none.sock', 'ID'), {
    code: 3,
    stderr: /none\.sock: no such file.*ERR_ACCEL_NOT_FOUND/,
  })
  failed(t, await run('reg', 'read', 'fffe:ff:1f.7', 'ID'), { code: 3, stderr: /ERR_ACCEL_NOT_FOUND/ })
  failed(t, await run('config', 'fffe:ff:1f.7'), { code: 3, stderr: /ERR_ACCEL_NOT_FOUND/ })
  failed(t, await run('config', 'none.sock'), {
    code: 1,
    stderr: /neither a PCI address .* nor a path: .* \.\/none\.sock.*ERR_ACCEL_INVALID_ARGUMENT/,
  })
  failed(t, await run('model', 'frobnicate', '-s', './x.sock'), {
    code: 3,
    stderr: /there are edu, npu, nvme/,
  })

  failed(t, await run('model', 'edu', '-s', './none/x.sock'), {
    code: 3,
    stderr: /no folder \.\/none to make/,
  })
  writeFileSync(join(folder, 'plain'), 'kept')
  failed(t, await run('model', 'edu', '-s', './plain'), { code: 1, stderr: /not a socket.*INVALID_ARGUMENT/ })
  t.equal(readFileSync(join(folder, 'plain'), 'utf8'), 'kept')

  for (const [name, answer] of [
    ['http', 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'],
    ['zeroes', Buffer.alloc(64)],
  ] as const) {
    const server = createServer((socket) =>
      socket
        .on('error', () => {})
        .resume()
        .write(answer),
    )
    await listen(t, server, name)
    failed(t, await run('reg', 'read', `./${name}`, 'ID'), { code: 1, stderr: /ERR_ACCEL_PROTOCOL/ })
  }
  await listen(
    t,
    createServer((socket) => socket.destroy()),
    'closes',
  )
  failed(t, await run('reg', 'read', './closes', 'ID'), { code: 1, stderr: /ERR_ACCEL_(CLOSED|PROTOCOL)/ })
})

async function listen(t: Test, server: Server, name: string): Promise<void> {
  server.listen(join(folder, name))
  await once(server, 'listening')
  t.teardown(() => new Promise<void>((resolve) => server.close(() => resolve())))
}

t.test('colours are for terminals that want them', async (t) => {
  const colour = '\x1b['
  const args = ['reg', 'read', './none.sock', 'ID']
  t.notOk(
    (await uaccel(args, { cwd: folder, env: { FORCE_COLOR: '1' } })).stderr.includes(colour),
    'no terminal',
  )
  const command = [process.execPath, uaccelBin, ...args].join(' ')
  for (const [NO_COLOR, coloured] of [
    ['', true],
    ['1', false],
  ] as const) {
    const child = spawn('script', ['-qec', command, '/dev/null'], {
      cwd: folder,
      env: { ...process.env, NO_COLOR },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [seen, [code]] = await Promise.all([text(child.stdout), once(child, 'close')])
    t.match(seen, /ERR_ACCEL_NOT_FOUND/)
    t.equal(code, 3)
    t.equal(seen.includes(colour), coloured, `terminal, NO_COLOR=${NO_COLOR}`)
  }
})

t.test('who reads only the beginning of the output', async (t) => {
  const { path } = await serve(t, 'npu')
  const child = start(['reg', 'list', path], { cwd: folder })
  child.stdout!.destroy()
  t.strictSame([await text(child.stderr!), child.exitCode ?? (await once(child, 'exit'))[0]], ['', 0])
})

t.test('reset', async (t) => {
  const { path } = await serve(t, 'edu')
  await run('reg', 'write', path, 'LIVENESS', '1')
  t.strictSame(await run('reset', path), {
    code: 0,
    stdout: '',
    stderr: `${path} answers after a function reset.\n`,
  })
  failed(t, await run('reset', path, '--hot'), {
    code: 1,
    stderr: /has no hot reset that its transport can trigger; there are: function.*ERR_ACCEL_UNSUPPORTED/,
  })
  failed(t, await run('reset', './nowhere.sock'), { code: 3, stderr: /ERR_ACCEL_NOT_FOUND/ })
})

t.test('nothing is left', async (t) => {
  t.strictSame(readdirSync(TMPDIR), [])
  t.strictSame(
    readdirSync(folder).filter((name) => name.endsWith('.sock')),
    [],
  )
})
