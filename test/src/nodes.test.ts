import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Accel, accelDriver } from '@uaccel/accel'
import { openAccel } from '@uaccel/client'
import { eduModel } from '@uaccel/driver-edu/model'
import npu from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { loopback } from '@uaccel/model'
import { type ServeNodeOptions, serveNode } from '@uaccel/server'
import { abi, sys } from '@uaccel/sys'
import { contractDriver, contractUapi, leavesNothing } from '@uaccel/testkit'
import { added, cmd, commonUapi, string, u32, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { eventually, nodeFolder, RawClient } from './nodes.js'

t.setTimeout(300_000)

async function withNode(
  t: Test,
  options: ServeNodeOptions,
  work: (context: {
    accel: Accel
    folder: string
    device: ReturnType<typeof loopback>
    server: Awaited<ReturnType<typeof serveNode>>
    open: () => ReturnType<typeof openAccel<typeof contractUapi>>
  }) => Promise<void>,
): Promise<void> {
  const folder = options.folder ?? nodeFolder(t)
  await using accel = new Accel()
  accel.register(contractDriver)
  const device = loopback(eduModel)
  const node = await accel.add(device)
  await using server = await serveNode(node, { ...options, folder })
  await work({ accel, folder, device, server, open: () => openAccel(contractUapi, 'accel0', { folder }) })
}

const caught = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error) => error,
  )

t.test('an exclusive node names who has it, and is free again once it is clean', async (t) => {
  await withNode(t, { exclusive: true }, async ({ open, server }) => {
    const since = Date.now()
    const dev = await open()
    const error = await caught(open())
    t.match(error, {
      code: 'ERR_ACCEL_BUSY',
      details: { pid: process.pid, uid: process.getuid!(), user: userInfo().username },
    })
    t.match(error.message, new RegExp(`process ${process.pid} of ${userInfo().username} has it since 2`))
    t.ok(Math.abs(Date.parse(error.details.since) - since) < 60_000)
    t.same(
      server.connections.map(({ peer }) => peer.pid),
      [process.pid],
    )
    await dev.call('keep', { count: 60 }) // takes a millisecond each to be freed
    const closing = dev.close()
    let again = await caught(open())
    while (again.code === 'ERR_ACCEL_BUSY') again = await caught(open()) // it did not read of the end yet
    t.equal(again.code, 'ERR_ACCEL_AGAIN', 'it is being cleaned')
    await closing
    const next = await open()
    t.equal((await next.call('state', {})).kept, 0)
    await next.close()
  })
})

t.test('opens: as many as there may be, each knows its peer', async (t) => {
  const told: string[] = []
  const onClient: NonNullable<ServeNodeOptions['onClient']> = (event, { peer, pendingRequests }) =>
    told.push(`${event} ${peer.pid === process.pid} ${pendingRequests}`)
  await withNode(t, { maxOpens: 2, onClient }, async ({ open }) => {
    const [a, b] = [await open(), await open()]
    t.match(await a.call('state', {}), { pid: process.pid, uid: process.getuid!() })
    t.match(await caught(open()), { code: 'ERR_ACCEL_AGAIN', details: { maxOpens: 2 } })
    await a.close()
    const c = await open()
    await Promise.all([b.close(), c.close()])
  })
  t.same(told.filter((each) => each === 'opened true 0').length, 3)
  t.same(told.filter((each) => each === 'left true 0').length, 3)
})

t.test('opens that only owners may take, and as many as one user may have', async (t) => {
  if (process.geteuid?.() !== 0) return t.comment('only root can be another user: this is not tried')
  const as = (uid: number, path: string) => {
    process.seteuid!(uid)
    try {
      return openAccel(contractUapi, path) // the kernel tells who connected, which is done before the first wait
    } finally {
      process.seteuid!(0)
    }
  }
  const options = { mode: 0o666, maxOpens: 16, maxUserOpens: 10, limits: { stallMs: 60_000 } }
  await withNode(t, options, async ({ open, server }) => {
    chmodSync(dirname(server.path), 0o755)
    const users = [
      ...(await Promise.all(Array.from({ length: 10 }, () => as(65_534, server.path)))),
      ...(await Promise.all(Array.from({ length: 2 }, () => as(65_533, server.path)))),
    ]
    t.match(await caught(as(65_534, server.path)), { code: 'ERR_ACCEL_AGAIN', details: { maxUserOpens: 10 } })
    t.match(await caught(as(65_533, server.path)), { code: 'ERR_ACCEL_AGAIN', details: { maxOpens: 16 } })
    const owners = await Promise.all(Array.from({ length: 4 }, open))
    t.match(await caught(open()), { code: 'ERR_ACCEL_AGAIN', details: { maxOpens: 16 } })
    await Promise.all([...users, ...owners].map((each) => each.close()))

    process.seteuid!(65_534)
    const silent = Array.from({ length: 100 }, () => new RawClient(server.path))
    process.seteuid!(0)
    const dev = await open()
    t.same(await dev.call('add', { a: 1, b: 2 }), { sum: 3 }, 'who says no hello keeps nobody out')
    t.equal(silent.filter(({ fd }) => sys.poll([{ fd, events: abi.POLLIN }], 0)).length, 100 - (10 + 64))
    await dev.close()
    for (const client of silent) client.close()
  })
})

t.test('a listener that throws harms no client', async (t) => {
  const bugs: unknown[] = []
  let told = () => {}
  const both = new Promise<void>((resolve) => {
    told = resolve
  })
  const uncaught = (bug: unknown) => {
    if (bugs.push((bug as Error).message) === 2) told()
  }
  process.on('uncaughtException', uncaught)
  t.teardown(() => process.off('uncaughtException', uncaught))
  const onClient = (event: string) => {
    throw new Error(event)
  }
  await withNode(t, { onClient }, async ({ open, server }) => {
    const dev = await open()
    t.same(await dev.call('add', { a: 1, b: 2 }), { sum: 3 })
    await dev.close()
    await both
    t.same(bugs, ['opened', 'left'])
    t.same(server.connections, [])
  })
})

t.test('errors of a call name its command', async (t) => {
  await withNode(t, {}, async ({ open }) => {
    await using dev = await open()
    const abort = new AbortController()
    const hangs = caught(dev.call('hang', {}, { signal: abort.signal }))
    abort.abort()
    t.match(await hangs, { code: 'ERR_ACCEL_ABORTED', message: 'hang of accel0 was aborted by its caller' })
    t.match((await caught(dev.call('hang', {}, { timeoutMs: 20 }))).message, /^hang of /)
    t.match((await caught(dev.common('boInfo', { handle: 7 as never }))).message, /handle 7/)
  })
})

t.test('a device in reset is to be asked again', async (t) => {
  const folder = nodeFolder(t)
  let goOn = () => {}
  const gate = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const slow = accelDriver({
    name: 'slow',
    uapi: uapi({ name: 'slow', version: 1, commands: { nothing: cmd(0x40) } }),
    ids: [{ bus: 'pci', vendor: 0x1234, device: 0x11e8 }],
    probe: () => ({ commands: { nothing: () => ({}) }, beforeReset: () => gate, afterReset: () => {} }),
  })
  await using accel = new Accel()
  accel.register(slow)
  const node = await accel.add(loopback(eduModel))
  await using _server = await serveNode(node, { folder })
  const dev = await openAccel(slow.uapi, 'accel0', { folder })
  const reset = node.reset({ reason: 'the test wants it' })
  t.match(await caught(openAccel(slow.uapi, 'accel0', { folder })), {
    code: 'ERR_ACCEL_AGAIN',
    message: /in reset/,
  })
  const waits = dev.call('nothing', {})
  goOn()
  await reset
  t.same(await waits, {}, 'who has it open waits')
  const other = await openAccel(slow.uapi, 'accel0', { folder })
  t.same(await other.call('nothing', {}), {})
  await Promise.all([dev.close(), other.close()])
})

t.test('a device that vanishes takes its node away', async (t) => {
  await withNode(t, {}, async ({ device, folder, server, open }) => {
    const dev = await open()
    const hanging = t.rejects(dev.call('hang', {}), { code: 'ERR_ACCEL_NO_DEVICE' })
    await dev.call('add', { a: 1, b: 2 })
    device.vanish('it was unplugged')
    await hanging
    t.match((await dev.lost).message, /unplugged/)
    await server.closed
    t.same(readdirSync(folder), [])
    t.match(await caught(open()), { code: 'ERR_ACCEL_NOT_FOUND', message: /there: none/ })
    t.match(await caught(serveNode(server.node, { folder })), { code: 'ERR_ACCEL_NO_DEVICE' })
  })
})

t.test('a clean stop: no new opens, work that ends is waited for, the rest is not', async (t) => {
  await withNode(t, {}, async ({ server, open, folder }) => {
    const [dev, idle] = [await open(), await open()]
    await dev.call('keep', { count: 1 })
    const ends = caught(dev.call('late', { file: null }, { timeoutMs: 100 }))
    const hangs = caught(dev.call('hang', {}))
    await dev.call('add', { a: 1, b: 2 })
    const start = performance.now()
    const closing = server.close({ drainMs: 400 })
    t.equal((await idle.lost).code, 'ERR_ACCEL_CLOSED', 'who has nothing under way is told at once')
    t.match(await caught(open()), { code: 'ERR_ACCEL_NOT_FOUND' })
    t.match(await caught(dev.call('add', { a: 1, b: 2 })), { code: 'ERR_ACCEL_CLOSED' }, 'nothing new')
    t.equal((await ends).code, 'ERR_ACCEL_TIMEOUT', 'its own limit, not that of the stop')
    t.equal((await hangs).code, 'ERR_ACCEL_NO_DEVICE')
    await closing
    t.ok(performance.now() - start >= 390)
    t.equal(server.close(), closing, 'stopped once')
    t.same(readdirSync(folder), [])
    t.equal((await dev.lost).code, 'ERR_ACCEL_CLOSED')
    await server.closed
  })
})

t.test('who may do what: all for the user of the server, commands for others', async (t) => {
  await withNode(t, { mode: 0o666 }, async ({ open, folder, server }) => {
    const own = await open()
    t.match(await own.query('status'), { state: 'operational', opens: 1 })
    t.equal((await own.common('attrShow', { path: 'opens/current' })).value, '1')
    const rights = async (self: boolean) =>
      (await own.query('contexts'))?.entries
        .filter((entry) => entry.self === self)
        .map((entry) => entry.rights)
    t.match(await rights(true), [{ reset: true, owner: true }])
    if (process.getuid!() !== 0) return
    chmodSync(folder, 0o755)
    process.seteuid!(65_534) // nobody; the connection is made before the call answers
    const opening = open()
    process.seteuid!(0)
    await using other = await opening
    t.match(await rights(false), [{ reset: false, owner: false, group: false }])
    t.match((await own.query('contexts'))?.entries[1], { uid: 65_534, pid: process.pid })
    t.same(await other.call('add', { a: 1, b: 2 }), { sum: 3 })
    t.equal((await other.common('attrShow', { path: 'opens/current' })).value, '2')
    await t.rejects(other.common('reset', { kind: 'default', reason: '' }), { code: 'ERR_ACCEL_PERMISSION' })
    t.equal(server.node.state, 'live')
  })
})

t.test('events come through a socket, the removal of the device last', async (t) => {
  await withNode(t, {}, async ({ accel, open }) => {
    const [dev, other] = [await open(), await open()]
    const kinds: string[] = []
    const reading = (async () => {
      for await (const { kind } of dev.events()) kinds.push(kind)
    })()
    await other.common('reset', { kind: 'function', reason: 'a test wants it' })
    await eventually(() => kinds.length === 1)
    await accel.remove('accel0')
    await reading
    t.same(kinds, ['reset', 'removal'])
    t.match(await dev.lost, { code: 'ERR_ACCEL_NO_DEVICE' })
  })
})

t.test('who may open it', async (t) => {
  await withNode(t, { mode: 0o640 }, async ({ server, open, folder }) => {
    const { mode, uid } = statSync(server.path)
    t.equal(mode & 0o777, 0o640)
    t.equal(uid, process.getuid!())
    let denied: Promise<unknown>
    if (process.getuid!() === 0) {
      chmodSync(folder, 0o755)
      process.seteuid!(65_534) // nobody; the connection is made before the call answers
      denied = caught(open())
      process.seteuid!(0)
    } else {
      chmodSync(server.path, 0)
      denied = caught(open())
    }
    t.match(await denied, { code: 'ERR_ACCEL_PERMISSION', errno: 'EACCES', message: /this user may not/ })
  })
  await withNode(t, { owner: process.getuid!(), group: process.getgid!() }, async ({ server }) => {
    t.equal(statSync(server.path).mode & 0o777, 0o600, 'nobody else, unless told')
  })
  const refused = async (options: ServeNodeOptions, code: string) =>
    t.match(await caught(withNode(t, options, async () => {})), { code })
  await refused({ owner: 'nobody-of-that-name' }, 'ERR_ACCEL_NOT_FOUND')
  await refused({ group: 'nobody-of-that-name' }, 'ERR_ACCEL_NOT_FOUND')
  await refused({ owner: -5 }, 'ERR_ACCEL_OUT_OF_RANGE')
  await refused({ mode: 0o1777 }, 'ERR_ACCEL_OUT_OF_RANGE')
})

t.test('where it is', async (t) => {
  const parent = nodeFolder(t)
  const folder = join(parent, 'made', 'on', 'the', 'way')
  await withNode(t, { folder }, async ({ server, open }) => {
    t.equal(server.path, join(folder, 'accel0'))
    const dev = await openAccel(contractUapi, server.path)
    t.equal(dev.name, 'accel0', 'by its path')
    await dev.close()
    t.match(await caught(openAccel(contractUapi, 'accel7', { folder })), {
      code: 'ERR_ACCEL_NOT_FOUND',
      message: /there: accel0/,
    })
    t.match(await caught(withNode(t, { folder }, async () => {})), {
      code: 'ERR_ACCEL_BUSY',
      message: new RegExp(`served by process ${process.pid}`),
    })
    await (await open()).close()
  })
  t.notOk(existsSync(join(folder, 'accel0')))
  writeFileSync(join(folder, 'accel0'), 'precious')
  t.match(await caught(withNode(t, { folder }, async () => {})), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  const blocked = join(parent, 'file')
  writeFileSync(blocked, '')
  t.match(await caught(withNode(t, { folder: blocked }, async () => {})), { code: 'ERR_ACCEL_SYSTEM' })
  const [own, uid] = [process.env.XDG_RUNTIME_DIR, process.getuid!]
  process.env.XDG_RUNTIME_DIR = parent
  process.getuid = () => 1000
  await withNode(t, { folder: undefined as never }, async () => {})
  process.getuid = uid
  if (own === undefined) delete process.env.XDG_RUNTIME_DIR
  else process.env.XDG_RUNTIME_DIR = own
})

t.test('what answers on the socket may be anything', async (t) => {
  const folder = nodeFolder(t)
  mkdirSync(folder, { recursive: true })
  const path = join(folder, 'accel0')
  const listener = sys.listenUnix(path)
  t.match(await caught(openAccel(contractUapi, path, { timeoutMs: 100 })), {
    code: 'ERR_ACCEL_TIMEOUT',
    message: /did not answer within 100 ms/,
  })
  const controller = new AbortController()
  const aborted = caught(openAccel(contractUapi, path, { signal: controller.signal }))
  controller.abort(new Error('enough'))
  t.match(await aborted, { code: 'ERR_ACCEL_ABORTED', cause: { message: 'enough' } })
  t.match(await caught(openAccel(contractUapi, path, { signal: AbortSignal.abort() })), {
    code: 'ERR_ACCEL_ABORTED',
  })
  for (let i = 0; i < 3; i++) sys.close(sys.accept(listener)!)
  for (const [what, answer] of [
    ['nothing', undefined],
    ['text', Buffer.from('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')],
    ['a reply', Buffer.from('180000000000000003000000000000000000000000000000', 'hex')],
    ['a short hello', Buffer.from('180000000000000001000000000000000000000000000000', 'hex')],
  ] as const) {
    const opening = caught(openAccel(contractUapi, path))
    const fd = sys.accept(listener)!
    if (answer) sys.send(fd, answer)
    sys.shutdown(fd, abi.SHUT_WR)
    const { code } = (await opening) as { code: string }
    t.equal(code, what === 'a short hello' ? 'ERR_ACCEL_BAD_SIZE' : 'ERR_ACCEL_PROTOCOL', what)
    sys.close(fd)
  }
  const files = () => readdirSync('/proc/self/fd').length
  const event = sys.eventfd()
  const before = files()
  const opening = caught(openAccel(contractUapi, path))
  const fd = sys.accept(listener)!
  sys.sendmsg(fd, [Buffer.from('180000000000000001000200000000000000000000000000', 'hex')], [event, event])
  t.equal((await opening).code, 'ERR_ACCEL_BAD_SIZE', 'a hello with descriptors')
  sys.close(fd)
  t.equal(files(), before, 'which are closed')
  sys.close(event)
  sys.close(listener)
  await leavesNothing(t, async () => {
    t.match(await caught(openAccel(contractUapi, path)), { code: 'ERR_ACCEL_NOT_FOUND' })
  })
})

t.test('older and newer uAPIs', async (t) => {
  const first = uapi({
    name: 'grows',
    version: 1,
    commands: { double: cmd(0x40, { in: { n: u32 }, out: { value: u32 } }) },
  })
  const second = uapi({
    name: 'grows',
    version: 2,
    commands: {
      double: cmd(0x40, {
        in: { n: u32, plus: added(2, u32) },
        out: { value: u32, text: added(2, string(16)) },
      }),
      triple: cmd(0x41, { in: { n: u32 }, out: { value: u32 } }),
    },
  })
  const other = uapi({
    name: 'grows',
    version: 1,
    commands: { double: cmd(0x40, { in: { n: string(4) }, out: { value: u32 } }) },
  })
  const ids = [{ bus: 'pci', vendor: 0x1234, device: 0x11e8 }] as const
  const old = accelDriver({
    name: 'old',
    uapi: first,
    ids,
    probe: () => ({ commands: { double: ({ n }) => ({ value: 2 * n }) } }),
  })
  const young = accelDriver({
    name: 'young',
    uapi: second,
    ids,
    probe: () => ({
      commands: {
        double: ({ n, plus }) => ({ value: 2 * n + plus, text: 'seven' }),
        triple: ({ n }) => ({ value: 3 * n }),
      },
    }),
  })
  const serve = async (driver: Parameters<Accel['register']>[0], work: (folder: string) => Promise<void>) => {
    const folder = nodeFolder(t)
    await using accel = new Accel()
    accel.register(driver)
    await serveNode(await accel.add(loopback(eduModel)), { folder })
    await work(folder)
  }
  await serve(young, async (folder) => {
    const dev = await openAccel(first, 'accel0', { folder })
    t.same(await dev.call('double', { n: 4 }), { value: 8 }, 'what an older client does not know is left out')
    t.match(await dev.version(), { uapi: 'grows', version: 2 })
    await dev.close()
    const same = await openAccel(second, 'accel0', { folder })
    t.same(await same.call('double', { n: 4, plus: 1 }), { value: 9, text: 'seven' })
    await same.close()
  })
  await serve(old, async (folder) => {
    const dev = await openAccel(second, 'accel0', { folder })
    t.same(
      await dev.call('double', { n: 4 }),
      { value: 8, text: '' },
      'what an older server does not say is zero',
    )
    await t.rejects(dev.call('double', { n: 4, plus: 1 }), { code: 'ERR_ACCEL_RESERVED' })
    await t.rejects(dev.call('triple', { n: 4 }), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
    await dev.close()
    t.match(await caught(openAccel(other, 'accel0', { folder })), { code: 'ERR_ACCEL_VERSION' })
    t.match(await caught(openAccel(contractUapi, 'accel0', { folder })), { code: 'ERR_ACCEL_VERSION' })
    const anybody = await openAccel(commonUapi, 'accel0', { folder })
    t.match(await anybody.call('info', {}), { driver: 'old' }, 'the common commands need no uAPI of a driver')
    await anybody.close()
  })
})

t.test('the NPU, in this process and through a node', async (t) => {
  await using accel = new Accel()
  accel.register(npu)
  const device = loopback(npuModel)
  const node = await accel.add(device)
  const folder = nodeFolder(t)
  await serveNode(node, { folder })
  await using here = accel.open(npuUapi, 'accel0')
  await using there = await openAccel(npuUapi, 'accel0', { folder })
  t.same(await there.call('identify', {}), await here.call('identify', {}))
  t.same(await there.call('reset', {}), {})
  t.match(await there.call('counters', { clear: true }), { descriptors: 0n })
  t.same(await there.info(), await here.info())
  t.same(await there.version(), await here.version())
  device.assertClean()
})

t.test('a process with nothing but an idle open may end', async (t) => {
  await withNode(t, {}, async ({ open }) => {
    const dev = await open()
    const held = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
    await dev.call('add', { a: 1, b: 2 })
    t.ok(
      await eventually(
        () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length <= held,
      ),
      'no timer is left of a call',
    )
    await sleep(1)
    await dev.close()
  })
})
