import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { Accel, type AccelNode, accelDriver, attribute } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { eduModel } from '@uaccel/driver-edu/model'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { loopback } from '@uaccel/model'
import { serveNode } from '@uaccel/server'
import { sys } from '@uaccel/sys'
import { accelError, cmd, commonUapi, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { nodeFolder } from './nodes.js'
import { type Ended, start, uaccel, uaccelBin } from './uaccel.js'
import { asNobody } from './unprivileged.js'

/** `uaccel` on nodes: accel0 and accel1 are models that another process serves, `rich` has all that a driver can tell of. */

t.setTimeout(300_000)

const folder = nodeFolder(t)
const run = (...args: string[]) => uaccel([...args, '--folder', folder])

/** Asserts an error: its exit code, its words on stderr, and nothing on stdout. */
function failed(t: Test, { code, stdout, stderr }: Ended, wanted: { code: number; stderr: RegExp }): void {
  t.equal(code, wanted.code, stderr)
  t.match(stderr, wanted.stderr)
  t.equal(stdout, '')
  t.notMatch(stderr, /^ {4}at /m, 'no stack for errors of the table')
}

/** No terminal has to break a line, and no line has what a terminal would obey. */
function readable(t: Test, output: string): void {
  for (const line of output.split('\n')) t.ok(line.length <= 80 && !/\p{Cc}/u.test(line), line)
}

async function serve(t: Test, at: string, ...models: string[]): Promise<ChildProcess> {
  const server = fork(uaccelBin, ['serve', '--folder', at, '--mode', '666', '--model', ...models], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  server.stderr!.resume()
  t.teardown(() => server.kill('SIGKILL'))
  await once(server, 'message')
  return server
}

const richUapi = uapi({ name: 'rich', version: 1, commands: { ping: cmd(0x40, {}) } })

/** A device that tells all that a driver can, some of it meant to take a terminal over. */
async function rich(t: Test, at: string): Promise<{ node: AccelNode; publish(reason: string): void }> {
  const accel = new Accel()
  t.teardown(() => accel.close())
  const level = attribute({
    show: () => value,
    type: 'integer',
    unit: 'dB',
    store(text) {
      value = Number(text)
    },
  })
  let value = 3
  let publish = (_: string) => {}
  accel.register(
    accelDriver({
      name: 'rich',
      version: '1.2.3',
      uapi: richUapi,
      ids: [{ bus: 'pci', vendor: 0x1234, device: 0x11e8 }],
      probe(dev) {
        publish = (reason) => dev.publish({ kind: 'error', reason, error: 'ERR_ACCEL_IO' })
        return {
          telemetry: {
            name: 'Rich \x1b[2J, "one"',
            firmware: '7.1',
            engines: () => [{ name: 'matrix.0', instances: 2, utilisationPermille: 425, busyNs: 5e9 }],
            memoryRegions: () => [{ name: 'hbm', sizeBytes: 2 ** 34, usedBytes: 3 * 2 ** 30 }],
            clocks: () => [{ name: 'core', hz: 1.25e9, maxHz: 2e9 }],
            power: () => ({ drawnMicrowatts: 12_500_000, capMicrowatts: 75_000_000, state: 'D0' }),
            sensors: () => [
              { name: 'hot', kind: 'temperature', unit: 'C', exponent: -3, value: 61_500, critical: 95_000 },
              { name: 'cold', kind: 'temperature', unit: 'C', value: 40 },
            ],
            limits: () => {
              throw accelError('ERR_ACCEL_IO', 'limits are \x1b]0;broken\x07')
            },
          },
          attributes: { level, 'deep/secret': { show: () => 'x', scope: 'debug' } },
          commands: { ping: () => undefined },
        }
      },
    }),
  )
  const node = await accel.add(loopback(eduModel))
  const server = await serveNode(node, { folder: at })
  t.teardown(() => server.close())
  return { node, publish: (reason) => publish(reason) }
}

t.before(async () => {
  await serve(t, folder, 'edu', 'npu')
  const edu = await openAccel(eduUapi, 'accel0', { folder })
  await edu.call('factorial', { n: 5 })
  t.teardown(() => edu.close())
})

t.test('info', async (t) => {
  const all = await run('info')
  t.match(all, { code: 0, stderr: '' })
  readable(t, all.stdout)
  t.match(all.stdout, /^accel0 {2}QEMU edu\n {2}Device\n {4}node +accel0 +name +QEMU edu\n/)
  t.match(all.stdout, /^accel1 {2}NPU-1/m)
  t.notMatch(all.stdout, /undefined|null|NaN|Sensors|Power|tainted/, 'what is not known is left out')
  t.match(all.stdout, new RegExp(`^ {4} +1 +${process.pid} +`, 'm'), 'who has it')

  const json = await run('info', 'accel0', '--json')
  t.match(json, { code: 0, stderr: '' })
  t.match(JSON.parse(json.stdout), {
    schema: 'uaccel.info/1',
    nodes: [
      {
        identity: {
          node: 'accel0',
          driver: 'edu',
          uapiVersion: 1,
          vendorId: '0x1234',
          classCode: '0x00ff00',
        },
        status: { state: 'operational', opens: 2 },
        engines: [{ name: 'command', busyNs: Number, utilisationPercent: Number, instances: 1 }],
        memory: [{ name: 'bar0', sizeBytes: 1_048_576, kind: 'bar', mappable: false }, { name: 'buffer' }],
        limits: [{ name: 'attributeBytes', value: 4096, unit: 'bytes' }],
        clients: [
          { pid: process.pid, opened: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/, submissions: 1, self: false },
          { self: true },
        ],
        counters: { completions: 1, failures: 0 },
        interrupts: [{ vector: 0, type: 'msi', fired: 1 }],
        opens: Array,
      },
    ],
  })
  t.notOk('sensors' in JSON.parse(json.stdout).nodes[0])
})

t.test('a device that tells all, and one thing badly', async (t) => {
  const at = nodeFolder(t)
  await rich(t, at)
  const on = (...args: string[]) => uaccel([...args, '--folder', at])
  const shown = await on('info')
  t.equal(shown.code, 0)
  readable(t, shown.stdout)
  for (const line of [
    /^accel0 {2}Rich {2}\[2J, "one"$/m,
    / +matrix\.0 +42\.5 % +5 s +2$/m,
    / +hbm +16 GiB +3 GiB +device/m,
    / +hot +61\.5 C +95 C +temperature$/m,
    / +core +1\.25 GHz +2 GHz$/m,
    / +drawn +12\.5 W +cap +75 W$/m,
    /Not known\n {4}limits: limits are {2}\]0;broken {2}\(ERR_ACCEL_IO\)/,
  ])
    t.match(shown.stdout, line)
  const [node] = JSON.parse((await on('info', '--json')).stdout).nodes
  t.match(node, {
    sensors: [{ name: 'hot', value: 61.5, critical: 95, unit: 'C' }, { value: 40 }],
    power: { drawnWatts: 12.5, capWatts: 75, state: 'D0' },
    clocks: [{ rateHz: 1.25e9, maxHz: 2e9 }],
    failures: [{ what: 'limits', code: 'ERR_ACCEL_IO' }],
  })
  t.notOk('limits' in node)
  const fields =
    'name,temperature,power.drawn,memory.used,engine.matrix.0.utilisation,sensor.hot,limit.x,attr.level'
  t.strictSame(await on('query', '--fields', fields.replace('limit.x,', '')), {
    code: 0,
    stdout:
      'name,temperature [C],power.drawn [W],memory.used [bytes],engine.matrix.0.utilisation [%],sensor.hot [C],attr.level [dB]\n' +
      '"Rich  [2J, ""one""",61.5 C,12.5 W,3221225472 bytes,42.5 %,61.5 C,3 dB\n',
    stderr: '',
  })
  const bare = await on('query', '--fields', fields, '--no-header', '--no-units')
  t.equal(bare.stdout, '"Rich  [2J, ""one""",61.5,12.5,3221225472,42.5,61.5,N/A,3\n')
  t.match(
    bare,
    { code: 0, stderr: /limits are {2}\]0;broken/ },
    'what a device cannot tell is said, and no reason to end',
  )

  t.match((await on('attr', 'accel0')).stdout, /^level +644 +3 dB$/m)
  t.notMatch((await on('attr', 'accel0')).stdout, /secret/)
  t.match((await on('attr', 'accel0', '--debug')).stdout, /^deep\/secret +444 +x +debug$/m)
  t.strictSame(await on('attr', 'accel0', 'level=7', 'level'), { code: 0, stdout: '7\n', stderr: '' })
  failed(t, await on('attr', 'accel0', 'level=loud'), {
    code: 1,
    stderr: /wants a value of type integer.*INVALID_ARGUMENT/,
  })
})

t.test('query', async (t) => {
  const csv = await run('query', '--fields', 'node,driver,counter.completions,temperature')
  t.match(csv, { code: 0, stderr: '' })
  t.equal(csv.stdout, 'node,driver,counter.completions,temperature [C]\naccel0,edu,1,N/A\naccel1,npu,0,N/A\n')
  const json = await run('query', '--fields', 'node,memory.total,temperature', '--format', 'json', 'accel1')
  t.match(JSON.parse(json.stdout), {
    schema: 'uaccel.query/1',
    units: { 'memory.total': 'bytes', temperature: 'C' },
    nodes: [{ node: 'accel1', fields: { 'memory.total': Number, temperature: null } }],
  })
  const table = await run('query', '--fields', 'node,memory.total', '--format', 'table')
  t.equal(table.stdout, 'node    memory.total\naccel0         4 KiB\naccel1        16 MiB\n')
  const help = await run('query', '--help-fields')
  t.match(help, { code: 0, stderr: '', stdout: /^ {2}engine\.NAME\.utilisation +% +how busy/m })
  readable(t, help.stdout)
  t.same(await run('query', '--fields', 'help'), help)
  const lines = await run(
    'query',
    '--fields',
    'node',
    '--loop',
    '0.05',
    '--count',
    '3',
    '--format',
    'json',
    'accel0',
  )
  t.same(
    lines.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).nodes[0].node),
    ['accel0', 'accel0', 'accel0'],
  )
  const wrong = [
    [['--fields', 'temprature'], /There is no field "temprature"\. Did you mean temperature.*--help-fields/],
    [['--fields', 'node,'], /There is no field ""/],
    [['--fields', 'engine.'], /There is no field "engine\."/],
    [[], /no --fields: .*--help-fields/],
    [['--fields', 'node', '--format', 'xml'], /Allowed choices are csv, json, table/],
    [['--fields', 'node', '--loop', '0'], /Seconds are wanted/],
    [['--fields', 'node', '--count', '-1'], /positive whole number/],
  ] as const
  const ended = await Promise.all(wrong.map(([args]) => run('query', ...args)))
  for (const [i, [, stderr]] of wrong.entries()) failed(t, ended[i]!, { code: 2, stderr })
})

t.test('query --loop ends: by SIGINT, by its reader, by the server', async (t) => {
  const at = nodeFolder(t)
  const server = await serve(t, at, 'edu')
  const looping = () => {
    const child = start(['query', '--fields', 'node', '--loop', '0.05', '--folder', at])
    t.teardown(() => child.kill('SIGKILL'))
    const lines = createInterface({ input: child.stdout! })
    return { child, lines, exit: once(child, 'exit'), stderr: text(child.stderr!) }
  }
  const stopped = looping()
  await once(stopped.lines, 'line')
  stopped.child.kill('SIGINT')
  t.same([await stopped.exit, await stopped.stderr], [[0, null], ''])

  const left = looping()
  await once(left.lines, 'line')
  left.child.stdout!.destroy()
  t.same([await left.exit, await left.stderr], [[0, null], ''])

  const lost = looping()
  const events = start(['events', '--folder', at])
  const followed = Promise.all([once(events, 'exit'), text(events.stdout!)])
  const [waiting] = await once(events.stderr!, 'data')
  t.match(String(waiting), /^Waiting for events of accel0; \^C ends\.\n/)
  const told = text(events.stderr!)
  await once(lost.lines, 'line')
  server.kill('SIGKILL')
  t.same(await lost.exit, [4, null])
  t.match(await lost.stderr, /^uaccel: .*accel0 is gone.*ERR_ACCEL_NO_DEVICE\)\n$/)
  t.same((await followed)[0], [4, null])
  t.match(await told, /accel0 is gone.*ERR_ACCEL_NO_DEVICE/)
})

t.test('list --nodes', async (t) => {
  const listed = await uaccel(['-L', '--folder', folder])
  t.match(listed, { code: 0, stderr: '' })
  t.equal(listed.stdout.split('\n')[1], 'accel0  QEMU edu     edu     loopback edu  operational')
  readable(t, listed.stdout)
  t.same(await run('list', '--nodes'), listed)
  const at = nodeFolder(t)
  t.match(await uaccel(['-L', '--folder', at]), {
    code: 0,
    stdout: '',
    stderr: /There is no node in .*uaccel serve/,
  })
  // Something that is no server of nodes, and a file.
  const other = createServer((socket) => socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  other.listen(join(at, 'accel3'))
  t.teardown(() => other.close())
  await once(other, 'listening')
  writeFileSync(join(at, 'accel4'), '')
  const strange = await uaccel(['-L', '--json', '--folder', at])
  t.match(JSON.parse(strange.stdout), {
    schema: 'uaccel.nodes/1',
    nodes: [{ node: 'accel3', path: join(at, 'accel3'), error: { code: 'ERR_ACCEL_PROTOCOL' } }],
  })
  t.equal(JSON.parse(strange.stdout).nodes.length, 1)
  failed(t, await uaccel(['info', '--folder', join(at, 'accel4')]), { code: 1, stderr: /is no folder/ })

  const left = nodeFolder(t)
  sys.close(sys.listenUnix(join(left, 'accel0'), 1)) // as of a server that was killed
  const dead = await uaccel(['-L', '--folder', left])
  t.match(dead, { code: 0, stderr: '', stdout: /^accel0 +- +- +- +not served: its server has ended$/m })
  failed(t, await uaccel(['info', '--folder', left]), {
    code: 3,
    stderr: /Nobody serves .*accel0.*ERR_ACCEL_NOT_FOUND/,
  })
})

t.test('reset and events', async (t) => {
  const at = nodeFolder(t)
  const { publish } = await rich(t, at)
  const follow = start(['events', 'accel0', '--json', '--count', '3', '--folder', at])
  const lines = createInterface({ input: follow.stdout! })
  const seen: Record<string, unknown>[] = []
  lines.on('line', (line) => seen.push(JSON.parse(line)))
  const exit = once(follow, 'exit')
  // It is there once it answers: an event before its open would be no news to it.
  const opened = await openAccel(commonUapi, 'accel0', { folder: at })
  t.teardown(() => opened.close())
  while (((await opened.query('status'))?.opens ?? 0) < 2)
    await new Promise((resolve) => setTimeout(resolve, 20))
  publish('it \x1b[31msmells')
  t.strictSame(await uaccel(['reset', 'accel0', '--reason', 'a test', '--folder', at]), {
    code: 0,
    stdout: '',
    stderr: 'accel0 answers after a reset.\n',
  })
  failed(t, await uaccel(['reset', 'accel0', '--kind', 'hot', '--folder', at]), {
    code: 1,
    stderr: /ERR_ACCEL_UNSUPPORTED/,
  })
  publish('again')
  t.same(await exit, [0, null])
  t.match(seen, [
    {
      schema: 'uaccel.events/1',
      node: 'accel0',
      kind: 'error',
      reason: /smells/,
      code: 'ERR_ACCEL_IO',
      at: /Z$/,
    },
    { kind: 'reset', reason: /a test/ },
    {},
  ])
  failed(t, await run('reset', 'accel0', '--kind', 'cold'), {
    code: 2,
    stderr: /Allowed choices are default, function, hot/,
  })
  failed(t, await run('reset', 'accel7'), { code: 3, stderr: /No node .*there: accel0, accel1/ })
})

t.test('attr', async (t) => {
  const list = await run('attr', 'accel1', 'queues')
  t.strictSame(list, {
    code: 0,
    stdout: 'PATH          MODE  VALUE\nqueues/inUse  444   0\nqueues/total  444   16\n',
    stderr: '',
  })
  readable(t, (await run('attr', 'accel0')).stdout)
  t.strictSame(await run('attr', 'accel0', 'version'), { code: 0, stdout: '1.0\n', stderr: '' })
  t.match(JSON.parse((await run('attr', 'accel1', 'card/usedBytes', '--json')).stdout), {
    schema: 'uaccel.attributes/1',
    node: 'accel1',
    attributes: [
      { path: 'card/usedBytes', mode: '0444', scope: 'stable', type: 'integer', unit: 'bytes', value: '0' },
    ],
  })
  const wrong = [
    [['accel0', 'versoin'], 3, /has no attribute "versoin"\. Did you mean version\? All: uaccel attr accel0/],
    [['accel0', 'version=2'], 1, /may not write attribute version.*ERR_ACCEL_PERMISSION/],
    [['accel1', 'performance/clear'], 1, /can only be set.*uaccel attr accel1 performance\/clear=VALUE/],
    [['accel9'], 3, /No node/],
    [['accel0', '--watch'], 1, /cannot be watched at a time, at most 16/],
    [[], 2, /missing required argument 'node'/],
  ] as const
  const ended = await Promise.all(wrong.map(([args]) => run('attr', ...args)))
  for (const [i, [, code, stderr]] of wrong.entries()) failed(t, ended[i]!, { code, stderr })

  const watch = start(['attr', 'accel0', 'liveness', '--watch', '--folder', folder])
  t.teardown(() => watch.kill('SIGKILL'))
  const lines = createInterface({ input: watch.stdout! })[Symbol.asyncIterator]()
  const first = await lines.next()
  const edu = await openAccel(eduUapi, 'accel0', { folder })
  await edu.call('liveness', { value: 0x1234 })
  const next = await lines.next()
  t.not(next.value, first.value)
  await edu.close()
  const exit = once(watch, 'exit')
  watch.kill('SIGINT')
  t.same(await exit, [0, null])
})

t.test('a node that nobody serves keeps no other from being told', async (t) => {
  const at = nodeFolder(t)
  const { publish } = await rich(t, at)
  sys.close(sys.listenUnix(join(at, 'accel1'), 1)) // as of a server that was killed
  const dead = /Nobody serves .*accel1.*ERR_ACCEL_NOT_FOUND/
  const queried = await uaccel(['query', '--fields', 'node,firmware', '--no-header', '--folder', at])
  t.match(queried, { code: 3, stdout: /^accel0,7\.1\n$/, stderr: dead })
  const follow = start(['events', '--count', '1', '--folder', at])
  const ended = Promise.all([once(follow, 'exit'), text(follow.stdout!)])
  let said = ''
  follow.stderr!.setEncoding('utf8').on('data', (part) => {
    said += part
  })
  while (!said.includes('Waiting for events of accel0;'))
    await new Promise((resolve) => setTimeout(resolve, 20))
  publish('still here')
  const [[code], told] = await ended
  t.equal(code, 3)
  t.match(told, /still here/)
  t.match(said, dead)
})

t.test('attributes that a shell would run are not completed', async (t) => {
  const at = nodeFolder(t)
  const { node } = await rich(t, at)
  const [placed] = await node.attributes.list(node.open(), 'level')
  const paths = ['lev`reboot`', 'lev$(reboot)', 'lev;reboot', 'lev reboot', 'lev\nreboot', 'lev"', 'level']
  Object.assign(node.attributes, { list: async () => paths.map((path) => ({ ...placed, path })) })
  const line = `uaccel attr --folder ${at} accel0 le`
  t.strictSame(await uaccel(['completion', 'bash', '--line', line]), {
    code: 0,
    stdout: 'level\tdB\n',
    stderr: '',
  })
})

t.test('a terminal that has no size, or almost none', async (t) => {
  const words = ['info', '-L', 'attr', 'query --fields node,driver', 'top --batch --count 1'] as const
  for (const size of ['cols 0 rows 0', 'cols 9 rows 3']) {
    for (const word of words) {
      const node = word === '-L' ? '' : ' accel0'
      const command = `stty ${size}; exec ${process.execPath} ${uaccelBin} ${word}${node} --folder ${folder}`
      const terminal = spawn('script', ['-qec', command, '/dev/null'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const [[code], told] = await Promise.all([once(terminal, 'close'), text(terminal.stdout)])
      t.equal(code, 0, `${word}, ${size}: ${told}`)
      t.match(told, /a/)
    }
  }
})

t.test('an exclusive node names its holder', async (t) => {
  const at = nodeFolder(t)
  const accel = new Accel()
  t.teardown(() => accel.close())
  accel.register((await import('@uaccel/driver-edu')).default)
  const server = await serveNode(await accel.add(loopback(eduModel)), { folder: at, exclusive: true })
  t.teardown(() => server.close())
  const holder = await openAccel(eduUapi, 'accel0', { folder: at })
  t.match(await uaccel(['-L', '--folder', at]), {
    code: 0,
    stdout: new RegExp(`held by process ${process.pid}$`, 'm'),
  })
  failed(t, await uaccel(['info', 'accel0', '--folder', at]), { code: 1, stderr: /ERR_ACCEL_BUSY/ })
  await holder.close()
})

t.test(
  'a user without rights',
  { skip: process.getuid?.() === 0 ? false : 'wants root, which makes such a user' },
  async (t) => {
    chmodSync(folder, 0o755)
    const as = async (...args: string[]): Promise<Ended> => {
      const [file, ...command] = asNobody([process.execPath, uaccelBin, ...args, '--folder', folder])
      const child = spawn(file!, command, { cwd: '/' })
      const [stdout, stderr, [code]] = await Promise.all([
        text(child.stdout),
        text(child.stderr),
        once(child, 'close'),
      ])
      return { code, stdout, stderr }
    }
    failed(t, await as('reset', 'accel0'), {
      code: 1,
      stderr: /may not reset accel0: .*sudo uaccel reset accel0.*PERMISSION/,
    })
    failed(t, await as('attr', 'accel1', 'performance/clear=1'), { code: 1, stderr: /ERR_ACCEL_PERMISSION/ })
    t.match(await as('query', '--fields', 'node', '--no-header'), { code: 0, stdout: 'accel0\naccel1\n' })
    chmodSync(join(folder, 'accel1'), 0o600)
    t.teardown(() => chmodSync(join(folder, 'accel1'), 0o666))
    const listed = await as('list', '--nodes')
    t.match(listed, {
      code: 0,
      stdout: /^accel0 .*operational\naccel1 +- +npu +loopback npu +this user may not open it\n$/m,
    })
    failed(t, await as('info', 'accel1'), {
      code: 1,
      stderr: /Cannot open .*accel1: this user may not.*PERMISSION/,
    })
    const both = await as('info')
    t.match(both, { code: 1, stdout: /^accel0/, stderr: /accel1: this user may not/ })
  },
)
