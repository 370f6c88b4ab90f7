import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type NodeClient, openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { sys } from '@uaccel/sys'
import { CONTROL_NODE, commonUapi, controlUapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { eventually, held, nodeFolder, settled } from './nodes.js'
import { serveModel } from './serve-model.js'
import { misfitUapi } from './supervised.driver.js'
import { uaccel, uaccelBin } from './uaccel.js'

t.setTimeout(400_000)

const misfit = fileURLToPath(new URL('./supervised.driver.js', import.meta.url))
const drivers = ['@uaccel/driver-edu', '@uaccel/driver-npu', misfit]
const quick = { baseMs: 150, capMs: 600 }
/** Long enough to be seen. */
const slow = { baseMs: 1500, capMs: 1500 }

interface Served {
  readonly process: ChildProcess
  readonly folder: string
  readonly file: string
  readonly control: NodeClient<typeof controlUapi>
  readonly exited: Promise<[code: number | null, signal: string | null]>
  said(): string
  configure(config: Readonly<Record<string, unknown>>): void
}

/** `uaccel serve` with a configuration, until the test ends. */
async function serve(
  t: Test,
  config: Readonly<Record<string, unknown>>,
  { folder = nodeFolder(t), args = [] as string[], env = {} as Record<string, string> } = {},
): Promise<Served> {
  const file = join(folder, 'uaccel.json')
  const configure = (value: Readonly<Record<string, unknown>>) => {
    writeFileSync(`${file}.new`, JSON.stringify({ folder, drivers, ...value }))
    renameSync(`${file}.new`, file)
  }
  configure(config)
  const server = fork(uaccelBin, ['serve', '--config', file, ...args], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, ...env },
  })
  let said = ''
  server.stderr!.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  const exited = once(server, 'exit') as Promise<[number | null, string | null]>
  t.teardown(async () => {
    server.kill('SIGKILL')
    await exited
  })
  const ready = await Promise.race([once(server, 'message'), exited])
  if (ready[0] !== 'ready') throw new Error(`it did not start: ${said}`)
  const control = await openAccel(controlUapi, CONTROL_NODE, { folder })
  t.teardown(() => control.close())
  return { process: server, folder, file, control, exited, said: () => said, configure }
}

async function nodes(control: NodeClient<typeof controlUapi>) {
  const { total, entries } = await control.call('nodes', { from: 0 })
  if (total !== entries.length) throw new Error(`${entries.length} of ${total}`)
  return entries
}

const stateOf = async (control: NodeClient<typeof controlUapi>, name: string) =>
  (await nodes(control)).find((node) => node.name === name)

const alive = (pid: number) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** Processes whose parent this one is. */
const childrenOf = (pid: number) =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => {
      try {
        return new RegExp(`^PPid:\\s+${pid}$`, 'm').test(readFileSync(`/proc/${child}/status`, 'utf8'))
      } catch {
        return false
      }
    })

t.test('a process that is killed, a driver that blocks, one that breaks', async (t) => {
  const {
    control,
    folder,
    process: server,
  } = await serve(t, {
    defaults: { backOff: slow },
    devices: [{ model: misfit }, { model: 'edu' }],
  })
  const [first, second] = await nodes(control)
  t.match(
    [first, second],
    [
      {
        name: 'accel0',
        driver: 'misfit',
        transport: 'loopback',
        address: 'misfit',
        state: 'running',
        restarts: 0,
      },
      { name: 'accel1', driver: 'edu', address: 'edu', state: 'running', known: { pid: true }, reason: '' },
    ],
  )
  t.not(first!.pid, second!.pid)
  t.not(first!.pid, server.pid)
  const edu = await openAccel(eduUapi, 'accel1', { folder })
  let witnessing = true
  let longestMs = 0
  let calls = 0
  const witness = (async () => {
    for (; witnessing; calls++) {
      const start = performance.now()
      const { value } = await edu.call('factorial', { n: 6 })
      longestMs = Math.max(longestMs, performance.now() - start)
      if (value !== 720) throw new Error(`6! is not ${value}`)
    }
  })()

  const blocked = await openAccel(misfitUapi, 'accel0', { folder })
  t.equal((await blocked.call('pid', {})).pid, first!.pid)
  const before = calls
  const blocking = blocked.call('block', { ms: 2000 })
  await sleep(1000)
  t.ok(calls > before + 10, 'the other device goes on')
  t.equal((await stateOf(control, 'accel0'))?.state, 'running', 'and control answers')
  await blocking

  const lost = blocked.call('work', { ms: 20_000 })
  const start = performance.now()
  process.kill(first!.pid, 'SIGKILL')
  await t.rejects(lost, { code: 'ERR_ACCEL_NO_DEVICE' })
  t.equal((await blocked.lost).code, 'ERR_ACCEL_NO_DEVICE')
  t.ok(performance.now() - start < 1000, 'clients are told within a second')
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.state === 'backOff'))
  t.match(await stateOf(control, 'accel0'), {
    known: { pid: false, retry: true },
    reason: `Process ${first!.pid} was ended by SIGKILL`,
  })
  await t.rejects(openAccel(misfitUapi, 'accel0', { folder }), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.state === 'running'))
  t.ok(performance.now() - start >= slow.baseMs, 'after the back-off')
  t.match(await stateOf(control, 'accel0'), { restarts: 1, reason: '' })

  await using anew = await openAccel(misfitUapi, 'accel0', { folder })
  await anew.call('crash', {}).catch(() => {})
  t.equal((await anew.lost).code, 'ERR_ACCEL_NO_DEVICE')
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.reason === 'a bug in a driver'))
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.restarts === 2))
  witnessing = false
  await witness
  t.comment(`${calls} calls of the other device, the longest of ${longestMs.toFixed(0)} ms`)
  await blocked.close()
  await edu.close()
})

t.test(
  'what a process of a device says is checked, and a reader of notes that goes takes nothing with it',
  async (t) => {
    const served = await serve(t, {
      defaults: { backOff: quick },
      devices: [{ model: misfit }, { model: 'edu' }],
    })
    const { control, folder } = served
    const dev = await openAccel(misfitUapi, 'accel0', { folder })
    await dev.call('babble', {})
    t.ok(await eventually(() => (served.said().match(/said what makes no sense/g) ?? []).length === 8))
    const before = await nodes(control)
    t.match(before, [
      { name: 'accel0', driver: 'misfit', state: 'running', restarts: 0, reason: '' },
      { name: 'accel1', state: 'running' },
    ])
    served.process.stderr!.destroy()
    await dev.call('crash', {}).catch(() => {})
    t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.restarts === 1))
    t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.state === 'running'))
    t.equal((await nodes(control))[1]?.pid, before[1]?.pid, 'the other device goes on')
    await dev.close()
  },
)

t.test('a process that hangs is killed and started anew', async (t) => {
  const { control, folder } = await serve(t, {
    defaults: { heartbeatMs: 4000, backOff: quick },
    devices: [{ model: misfit }],
  })
  await using dev = await openAccel(misfitUapi, 'accel0', { folder })
  const { pid } = await dev.call('pid', {})
  await t.rejects(dev.call('block', { ms: 60_000 }), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.restarts === 1))
  t.notOk(alive(pid))
})

t.test('a probe that fails: the back-off grows, control tells why, and it comes to run', async (t) => {
  const folder = nodeFolder(t)
  const why = join(folder, 'why')
  writeFileSync(why, 'the firmware is missing')
  const { control, said } = await serve(
    t,
    { devices: [{ model: misfit, backOff: { baseMs: 200, capMs: 800 } }, { model: 'edu' }] },
    { folder, env: { UACCEL_MISFIT: why } },
  )
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.state === 'backOff'))
  t.match(await nodes(control), [
    {
      name: 'accel0',
      state: /backOff|starting/,
      driver: '',
      reason: /^Driver misfit could not bring up .*the firmware is missing$/,
    },
    { name: 'accel1', state: 'running' },
  ])
  t.ok(await eventually(() => (said().match(/Next attempt/g) ?? []).length >= 4))
  t.same(
    [...said().matchAll(/Next attempt in (\d+) ms/g)].slice(0, 4).map(([, ms]) => Number(ms)),
    [200, 400, 800, 800],
  )
  await t.rejects(control.call('start', { node: 'accel0' }), {
    code: 'ERR_ACCEL_PROBE_FAILED',
    message: /the firmware is missing/,
  })
  writeFileSync(why, '')
  await control.call('start', { node: 'accel0' })
  t.match(await stateOf(control, 'accel0'), { state: 'running', reason: '' })
})

t.test('-L lists what has no socket, and what another one has', async (t) => {
  const folder = nodeFolder(t)
  const why = join(folder, 'why')
  writeFileSync(why, 'no firmware')
  const { control } = await serve(
    t,
    {
      devices: [
        { model: 'edu', exclusive: true },
        { model: misfit, backOff: { baseMs: 600_000, capMs: 600_000 } },
        { model: 'npu' },
      ],
    },
    { folder, env: { UACCEL_MISFIT: why } },
  )
  await control.call('stop', { node: 'accel2' })
  await using _holder = await openAccel(eduUapi, 'accel0', { folder })
  const { stdout, stderr } = await uaccel(['-L', '--folder', folder])
  t.match(stdout, /^accel0 +- +edu +loopback edu +held by process \d+$/m)
  t.match(stdout, /^accel1 +- +- +misfit +back-off, \d+ s: Driver misfit could not/m)
  t.match(stdout, /^accel2 +- +npu +loopback npu +stopped$/m)
  t.ok(stdout.split('\n').every((line) => line.length <= 80))
  t.equal(stderr, '')
  const { nodes } = JSON.parse((await uaccel(['-L', '--json', '--folder', folder])).stdout)
  t.match(nodes, [
    { node: 'accel0', error: { code: 'ERR_ACCEL_BUSY' }, process: { state: 'running', restarts: 0 } },
    {
      node: 'accel1',
      path: join(folder, 'accel1'),
      error: { code: 'ERR_ACCEL_NOT_FOUND' },
      process: { state: 'backOff', reason: /no firmware$/ },
    },
    { node: 'accel2', process: { state: 'stopped', restarts: 0 } },
  ])
  t.ok(nodes[1].process.retryMs > 0)
  t.notOk('pid' in nodes[1].process)
})

t.test('attempts that come to an end', async (t) => {
  const folder = nodeFolder(t)
  const why = join(folder, 'why')
  writeFileSync(why, 'no')
  const { control } = await serve(
    t,
    { devices: [{ model: misfit, backOff: { baseMs: 20, attempts: 2 } }] },
    { folder, env: { UACCEL_MISFIT: why } },
  )
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.state === 'failed'))
  t.match(await stateOf(control, 'accel0'), { restarts: 2, known: { retry: false } })
})

t.test('control: start and stop, what it refuses, and rights', async (t) => {
  const { control, folder } = await serve(t, { devices: [{ model: 'edu', exclusive: true }] })
  const edu = await openAccel(eduUapi, 'accel0', { folder })
  await t.rejects(openAccel(eduUapi, 'accel0', { folder }), { code: 'ERR_ACCEL_BUSY' })
  t.ok(await eventually(async () => (await stateOf(control, 'accel0'))?.opens === 1))
  t.match(await stateOf(control, 'accel0'), {
    exclusive: true,
    status: 'operational',
    known: { status: true },
  })
  await control.call('stop', { node: 'accel0' })
  t.equal((await edu.lost).code, 'ERR_ACCEL_CLOSED')
  t.match(await stateOf(control, 'accel0'), { state: 'stopped', known: { pid: false } })
  t.notOk(existsSync(join(folder, 'accel0')))
  await control.call('stop', { node: 'accel0' })
  const start = () => control.call('start', { node: 'accel0' })
  await Promise.all([start(), start(), start()])
  await start()
  await using again = await openAccel(eduUapi, 'accel0', { folder })
  t.same(await again.call('factorial', { n: 4 }), { value: 24 })
  await edu.close()

  for (const name of ['start', 'stop'] as const)
    await t.rejects(control.call(name, { node: 'accel9' }), {
      code: 'ERR_ACCEL_NOT_FOUND',
      message: 'There is no node accel9; there: accel0',
    })
  t.match(await control.version(), { uapi: 'control', version: 1 })
  await t.rejects(control.info(), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.same(await control.call('nodes', { from: 1 }), { total: 1, entries: [] })
  await t.rejects(control.dispatch(0x99, new Uint8Array()), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
  await t.rejects(control.dispatch(0x41, new Uint8Array([1])), { code: 'ERR_ACCEL_RESERVED' })
  const event = sys.eventfd()
  await t.rejects(control.dispatch(0x41, new Uint8Array(), { fds: [event] }), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  sys.close(event)
  await t.rejects(openAccel(eduUapi, CONTROL_NODE, { folder }), { code: 'ERR_ACCEL_VERSION' })
  await (await openAccel(commonUapi, CONTROL_NODE, { folder })).close()

  const stranger = process.getuid?.() === 0 ? await asUser(65_534, folder) : undefined
  if (!stranger) return t.comment('only root can be another user: rights are not tried')
  t.equal((await stranger.call('nodes', { from: 0 })).total, 1)
  for (const [name, input] of [
    ['reload', {}],
    ['start', { node: 'accel0' }],
    ['stop', { node: 'accel0' }],
  ] as const)
    await t.rejects(stranger.call(name, input as never), { code: 'ERR_ACCEL_PERMISSION' })
  await stranger.close()
})

/** Control, opened by somebody else: the kernel tells who it was that connected, which is done before the first wait. */
function asUser(uid: number, folder: string) {
  chmodSync(folder, 0o755)
  process.seteuid!(uid)
  try {
    return openAccel(controlUapi, join(folder, CONTROL_NODE))
  } finally {
    process.seteuid!(0)
  }
}

t.test('reload: by control and by SIGHUP', async (t) => {
  const served = await serve(t, { devices: [{ model: 'edu' }, { model: misfit }] })
  const { control, folder, file } = served
  const kept = await openAccel(eduUapi, 'accel0', { folder })
  const changing = await openAccel(misfitUapi, 'accel1', { folder })
  const pids = (await nodes(control)).map(({ pid }) => pid)

  served.configure({ devices: [{ model: 'edu', mode: 660 }] })
  await t.rejects(control.call('reload', {}), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: `${file}:1: devices[0].mode wants three octal digits in quotes, such as "660", found 660`,
  })
  served.process.kill('SIGHUP')
  t.ok(await eventually(() => /found 660\nNothing was changed/.test(served.said())))
  served.configure({ folder: '/elsewhere', devices: [{ model: 'edu' }] })
  await t.rejects(control.call('reload', {}), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /folder has changed/,
  })
  t.same(
    (await nodes(control)).map(({ pid, state }) => [pid, state]),
    pids.map((pid) => [pid, 'running']),
    'nothing was changed',
  )

  served.configure({
    devices: [{ model: 'edu', drainMs: 10 }, { model: misfit, exclusive: true }, { model: 'npu' }],
  })
  t.same(await control.call('reload', {}), { added: 1, removed: 0, changed: 1, kept: 1 })
  t.equal((await changing.lost).code, 'ERR_ACCEL_CLOSED')
  t.ok(await eventually(async () => (await nodes(control)).every(({ state }) => state === 'running')))
  const now = await nodes(control)
  t.same(
    now.map(({ name }) => name),
    ['accel0', 'accel1', 'accel2'],
  )
  t.equal(now[0]?.pid, pids[0])
  t.not(now[1]?.pid, pids[1])
  t.same(await kept.call('factorial', { n: 5 }), { value: 120 })

  served.configure({ devices: [{ model: 'npu' }, { model: 'edu' }] })
  served.process.kill('SIGHUP')
  t.ok(await eventually(async () => (await nodes(control)).length === 2))
  t.ok(await eventually(() => /reloaded: 0 added, 1 removed, 0 changed, 2 kept/.test(served.said())))
  t.match(
    (await nodes(control)).map(({ name, address }) => [name, address]),
    [
      ['accel0', 'edu'],
      ['accel2', 'npu'],
    ],
    'each keeps its number',
  )
  t.same(
    readdirSync(folder)
      .filter((name) => /^accel/.test(name))
      .sort(),
    ['accel0', 'accel2'],
  )
  t.same(await kept.call('factorial', { n: 5 }), { value: 120 })
  await kept.close()
  await changing.close()
})

t.test('a start during a reload starts what the reload wants', async (t) => {
  const { control, configure, folder } = await serve(t, { devices: [{ model: misfit }] })
  await using dev = await openAccel(misfitUapi, 'accel0', { folder })
  const working = dev.call('work', { ms: 1000 })
  await sleep(100)
  configure({ devices: [{ model: misfit, exclusive: true }] })
  t.match(await control.call('reload', {}), { changed: 1 })
  t.equal((await stateOf(control, 'accel0'))?.state, 'stopping')
  await control.call('start', { node: 'accel0' })
  t.match(await stateOf(control, 'accel0'), { state: 'running', exclusive: true })
  t.same(await working, { ms: 1000 })
  t.same(await control.call('reload', {}), { added: 0, removed: 0, changed: 0, kept: 1 })
})

t.test('SIGTERM drains; a second one hurries', async (t) => {
  const first = await serve(t, {
    defaults: { drainMs: 20_000 },
    devices: [{ model: misfit }, { model: 'edu' }],
  })
  const dev = await openAccel(misfitUapi, 'accel0', { folder: first.folder })
  const pids = childrenOf(first.process.pid!)
  t.ok(pids.length >= 2)
  const working = dev.call('work', { ms: 1500 })
  await dev.call('pid', {})
  first.process.kill('SIGTERM')
  t.ok(
    await eventually(async () => (await stateOf(first.control, 'accel0'))?.state === 'stopping'),
    'control tells',
  )
  // Who connected just before the node went is cut off, the next one finds none.
  const opened = () =>
    openAccel(misfitUapi, 'accel0', { folder: first.folder }).then(
      () => 'opened',
      (error) => String(error.code),
    )
  const codes: string[] = []
  t.ok(await eventually(async () => codes[codes.push(await opened()) - 1] === 'ERR_ACCEL_NOT_FOUND'))
  t.notOk(codes.includes('opened'), 'nobody gets in')
  t.same(await working, { ms: 1500 }, 'what is under way ends')
  t.same(await first.exited, [0, null])
  t.same(readdirSync(first.folder).sort(), ['.numbers.json', 'uaccel.json'])
  t.same(pids.filter(alive), [])
  await dev.close()

  for (const command of ['work', 'block'] as const) {
    const second = await serve(t, { defaults: { drainMs: 60_000 }, devices: [{ model: misfit }] })
    const other = await openAccel(misfitUapi, 'accel0', { folder: second.folder })
    const { pid } = await other.call('pid', {})
    const hanging = other.call(command, { ms: 50_000 })
    const refused = t.rejects(hanging)
    if (command === 'work') await other.call('pid', {})
    else await sleep(500) // a driver that blocks says nothing
    second.process.kill('SIGTERM')
    t.ok(await eventually(async () => (await stateOf(second.control, 'accel0'))?.state === 'stopping'))
    const start = performance.now()
    second.process.kill('SIGTERM')
    await refused
    t.same(await second.exited, [0, null])
    t.ok(performance.now() - start < 20_000, `with a driver that is at ${command}`)
    t.notOk(alive(pid))
    t.same(readdirSync(second.folder).sort(), ['.numbers.json', 'uaccel.json'])
    await other.close()
  }
})

t.test('a supervisor that is killed: its processes end, and a new one takes the nodes', async (t) => {
  const config = { defaults: { backOff: quick }, devices: [{ model: 'edu' }, { model: misfit }] }
  const first = await serve(t, config)
  const { folder } = first
  const pids = childrenOf(first.process.pid!)
  const edu = await openAccel(eduUapi, 'accel0', { folder })
  first.process.kill('SIGKILL')
  await first.exited
  t.equal((await edu.lost).code, 'ERR_ACCEL_CLOSED')
  await edu.close()
  const second = await serve(t, config, { folder })
  t.ok(await eventually(async () => (await nodes(second.control)).every(({ state }) => state === 'running')))
  t.ok(await eventually(() => pids.every((pid) => !alive(pid))))
  await using anew = await openAccel(eduUapi, 'accel0', { folder })
  t.same(await anew.call('factorial', { n: 3 }), { value: 6 })

  const third = spawn(process.execPath, [uaccelBin, 'serve', '--config', second.file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const [said, [code]] = await Promise.all([text(third.stderr), once(third, 'close')])
  t.equal(code, 1)
  t.match(said, new RegExp(`control is served by process ${second.process.pid}: stop that one first`))
})

t.test('a device of another process, over vfio-user', async (t) => {
  const model = await serveModel(t, 'edu')
  const { control, folder } = await serve(t, {
    defaults: { backOff: { baseMs: 60_000 } },
    devices: [{ vfioUser: model.path }, { vfioUser: '/nowhere/edu.sock' }],
  })
  t.match(await nodes(control), [
    { name: 'accel0', driver: 'edu', transport: 'vfio-user', address: model.path, state: 'running' },
    { name: 'accel1', driver: '', address: '/nowhere/edu.sock', state: 'backOff', reason: /nowhere/ },
  ])
  await using edu = await openAccel(eduUapi, 'accel0', { folder })
  t.same(await edu.call('factorial', { n: 6 }), { value: 720 })
})

t.test('metrics of all nodes over HTTP', async (t) => {
  const folder = nodeFolder(t)
  const socket = join(folder, 'metrics')
  const { folder: nodesIn } = await serve(
    t,
    { devices: [{ model: 'edu', exclusive: true }, { model: misfit }] },
    { folder, args: ['--metrics', socket] },
  )
  const scrape = (path: string) =>
    new Promise<{ code: number; type: string; body: string }>((resolve, reject) => {
      get({ socketPath: socket, path }, (response) => {
        text(response).then(
          (body) =>
            resolve({ code: response.statusCode!, type: response.headers['content-type'] ?? '', body }),
          reject,
        )
      }).on('error', reject)
    })
  await using edu = await openAccel(eduUapi, 'accel0', { folder: nodesIn })
  await edu.call('factorial', { n: 6 })
  const all = await scrape('/metrics')
  t.equal(all.code, 200)
  t.match(all.type, /^text\/plain; version=0\.0\.4/)
  t.match(
    all.body,
    /^uaccel_completions_total\{node="accel0"\} 1$/m,
    'of an exclusive node that is in use, too',
  )
  t.match(all.body, /^uaccel_up\{node="accel1"\} 1$/m)
  t.match(all.body, /^uaccel_node_state\{node="accel1",state="running"\} 1$/m)
  t.match(all.body, /^uaccel_nodes_unanswered 0$/m)
  t.equal(all.body.match(/^# TYPE uaccel_up gauge$/gm)?.length, 1, 'each metric is explained once')
  const names = [...all.body.matchAll(/^(uaccel_\w+)/gm)].map(([, name]) => name)
  t.equal(names.filter((name, i) => name !== names[i - 1]).length, new Set(names).size, 'and stands together')
  t.equal((await scrape('/')).code, 404)

  const dev = await openAccel(misfitUapi, 'accel1', { folder: nodesIn })
  const blocking = dev.call('block', { ms: 3000 })
  await sleep(300)
  const some = await scrape('/metrics')
  t.notMatch(some.body, /^uaccel_up\{node="accel1"\}/m)
  t.match(some.body, /^uaccel_up\{node="accel0"\} 1$/m)
  t.match(some.body, /^uaccel_nodes_unanswered 1$/m)
  await blocking
  await dev.close()
})

t.test('nothing is left over of many restarts', async (t) => {
  const {
    control,
    process: server,
    said,
  } = await serve(t, {
    defaults: { backOff: { baseMs: 20, resetMs: 1 } },
    devices: [{ model: 'edu' }, { model: misfit }],
  })
  await control.call('nodes', { from: 0 })
  const before = await settled(server.pid!)
  for (let i = 1; i <= 3; i++) {
    const { pid = 0 } = (await stateOf(control, 'accel1')) ?? {}
    process.kill(pid, 'SIGKILL')
    t.ok(
      await eventually(async () => {
        const node = await stateOf(control, 'accel1')
        return node?.state === 'running' && node.pid !== pid
      }),
    )
    await control.call('stop', { node: 'accel0' })
    await control.call('start', { node: 'accel0' })
  }
  t.ok(await eventually(() => held(server.pid!).fds === before.fds))
  t.same(held(server.pid!).kinds, before.kinds)
  t.equal(childrenOf(server.pid!).length, 2)
  t.equal(said().match(/Next attempt in 20 ms/g)?.length, 3, 'one that ran for a while begins anew')
})

t.test('a configuration is checked, and told', async (t) => {
  const folder = nodeFolder(t)
  const file = join(folder, 'c.json')
  const check = async (config: unknown) => {
    writeFileSync(file, JSON.stringify(config))
    const child = spawn(process.execPath, [uaccelBin, 'serve', '--config', file, '--check'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const [out, err, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close'),
    ])
    return { out, err, code }
  }
  t.same(
    await check({ folder, devices: [{ model: 'npu', number: 2, mode: '660' }, { address: '0000:7f:1f.7' }] }),
    {
      out: `${folder}/accel2: npu, npu, mode 660, shared\nwaiting: 0000:7f:1f.7 is not bound to vfio-pci: see \`uaccel doctor 0000:7f:1f.7\`\n`,
      err: '',
      code: 0,
    },
  )
  t.same(await check({ folder, devices: [{ modle: 'npu' }] }), {
    out: '',
    err: `uaccel: ${file}:1: devices[0].modle is not known; is it "model"? (ERR_ACCEL_INVALID_ARGUMENT)\n`,
    code: 1,
  })
  t.same(readdirSync(folder), ['c.json'], 'and nothing is changed')
})
