import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { abi, duplicates, Mapping, sys } from '@uaccel/sys'
import { commonUapi, type Handle, isAccelError } from '@uaccel/uapi'
import t from 'tap'
import {
  describe,
  eventually,
  held,
  nodeFolder,
  RawClient,
  rawMessage,
  settled,
  startServer,
} from './nodes.js'

t.setTimeout(300_000)

/*
 * Every refusal of buffers, fences and jobs by its exact code, as a client meets it that speaks the protocol by hand, while another
 * client works on. What is refused of any request is in nodes-refusals.test.ts, rights and exclusive nodes are in nodes.test.ts.
 */

const PAGE = 4096
/** include/uapi/asm-generic/socket.h */
const SO_LINGER = 13
const LINGER_MS = 10_000
const quotas = { openObjects: 8, openBytes: 4 << 20, nodeObjects: 12, nodeBytes: 6 << 20, openJobs: 4 }
const folder = nodeFolder(t)
const { process: server } = await startServer(t, 'npu', { folder, quotas })
const pid = server.pid!
const path = join(folder, 'accel0')
const open = () => new RawClient(path).hello(npuUapi)

const codeOf = (call: () => unknown): string => {
  try {
    call()
    return 'accepted'
  } catch (error) {
    if (isAccelError(error)) return error.code
    throw error
  }
}

const none = { fence: 0 as Handle<'fence'>, value: 0n }
const createBo = (client: RawClient, sizeBytes = PAGE) =>
  client.common('boCreate', { sizeBytes: BigInt(sizeBytes), flags: {} }).handle
const createFence = (client: RawClient) =>
  client.common('fenceCreate', { initialValue: 0n, flags: {} }).handle
const fill = (sizeBytes: number) =>
  encodeJob([{ op: 'fill', y: { buffer: 0 }, length: sizeBytes, pattern: 0x07070707 }])

interface Use {
  readonly offset?: bigint
  readonly sizeBytes?: bigint
  readonly fence?: Handle<'fence'>
  readonly value?: bigint
}

const submit = (client: RawClient, handle: Handle<'bo'>, use: Use = {}) =>
  client.common('submit', {
    buffers: [
      { handle, access: 'readwrite', offset: use.offset ?? 0n, sizeBytes: use.sizeBytes ?? BigInt(PAGE) },
    ],
    waits: [],
    signal: use.fence === undefined ? none : { fence: use.fence, value: use.value ?? 1n },
    flags: {},
    payload: fill(16),
  })

/** Each command that takes a buffer. */
const usesOfBo = (client: RawClient, handle: Handle<'bo'>) => [
  () => client.common('boInfo', { handle }),
  () => client.common('boMmap', { handle, flags: {} }),
  () => client.common('boSync', { handle, direction: 'toDevice', offset: 0n, sizeBytes: 1n }),
  () => client.common('boWait', { handle, deadlineNs: 0n }),
  () => client.common('boExport', { handle, kind: 'memory', flags: {} }),
  () => client.common('boExport', { handle, kind: 'dmaBuf', flags: {} }),
  () => submit(client, handle),
  () => client.common('boDestroy', { handle }),
]

/** Each command that takes a fence. */
const usesOfFence = (client: RawClient, fence: Handle<'fence'>) => [
  () => client.common('wait', { points: [{ fence, value: 0n }], deadlineNs: 0n, flags: {} }),
  () => client.common('fenceEvent', { handle: fence, value: 1n, flags: {} }),
  () =>
    client.common('submit', {
      buffers: [],
      waits: [{ fence, value: 0n }],
      signal: none,
      flags: {},
      payload: fill(1),
    }),
  () =>
    client.common('submit', {
      buffers: [],
      waits: [],
      signal: { fence, value: 5n },
      flags: {},
      payload: fill(1),
    }),
  () => client.common('fenceDestroy', { handle: fence }),
]

const witness = open()
const mine = createBo(witness, 2 * PAGE)
const reached = createFence(witness)
let jobs = 0n
/** The other client's work goes on, and its memory is as it left it. */
const works = () => {
  submit(witness, mine, { fence: reached, value: ++jobs })
  const deadlineNs = process.hrtime.bigint() + 20_000_000_000n
  witness.common('wait', { points: [{ fence: reached, value: jobs }], deadlineNs, flags: {} })
  const { fd, sizeBytes } = witness.common('boMmap', { handle: mine, flags: {} })
  const mapping = Mapping.map({ fd: fd!, offset: 0, sizeBytes: Number(sizeBytes) })
  sys.close(fd!)
  const { u8 } = mapping.window
  const right = u8.every((byte, i) => byte === (i < 16 ? 7 : 0))
  u8.fill(0)
  mapping.revoke()
  return right
}
t.ok(works())
// As many jobs at once as there may be: the driver keeps what it needs for them.
const warming = open()
const { number: submitNumber, in: submitCodec } = commonUapi.commands.submit
const requests = Array.from({ length: quotas.openJobs }, (_, id) => {
  const handle = createBo(warming, 1 << 20)
  const range = { handle, access: 'write', offset: 0n, sizeBytes: 1n << 20n } as const
  const job = { buffers: [range], waits: [], signal: none, flags: {}, payload: fill(1 << 20) }
  return rawMessage({ id: id + 1000, code: submitNumber }, submitCodec.encode(job))
})
warming.send(Buffer.concat(requests))
for (const _ of requests) t.equal(warming.receive()?.code, 0)
warming.leave()
t.ok(works())
// Within a test, as tap ends what waits outside of one.
let before: Awaited<ReturnType<typeof settled>>
await t.test('what the server holds at rest', async (t) => {
  before = await settled(pid)
  t.ok(before.fds > 0)
})

const left = async () => {
  await eventually(() => held(pid).fds === before.fds)
  return held(pid)
}

t.test('handles: of another open, of another kind, given back, never given', async (t) => {
  const client = open()
  const fence = createFence(client)
  const own = createBo(client)
  const not = 'ERR_ACCEL_NOT_FOUND'
  for (const handle of [mine, 0, 0xffff_ffff, fence] as Handle<'bo'>[]) {
    // The witness's first handle is this client's fence, and so on: a number means nothing in another open.
    if (handle === own) continue
    for (const [i, use] of usesOfBo(client, handle).entries())
      t.equal(codeOf(use), not, `use ${i} of buffer ${handle}`)
  }
  for (const handle of [99, own] as number[]) {
    for (const [i, use] of usesOfFence(client, handle as Handle<'fence'>).entries())
      t.equal(codeOf(use), not, `use ${i} of fence ${handle}`)
  }
  client.common('boDestroy', { handle: own })
  client.common('fenceDestroy', { handle: fence })
  for (const use of usesOfBo(client, own)) t.equal(codeOf(use), 'ERR_ACCEL_CLOSED')
  for (const use of usesOfFence(client, fence)) t.equal(codeOf(use), 'ERR_ACCEL_CLOSED')
  t.ok(works())
  client.leave()
  t.same(await left(), before)
})

t.test('ranges that end behind the buffer, or wrap', async (t) => {
  const client = open()
  const own = createBo(client)
  const last = (1n << 64n) - 1n
  for (const [offset, sizeBytes] of [
    [0n, 4097n],
    [4096n, 1n],
    [4097n, 0n],
    [1n, 4096n],
    [last, 1n],
    [1n, last],
    [last, last],
  ] as const) {
    t.equal(
      codeOf(() => submit(client, own, { offset, sizeBytes })),
      'ERR_ACCEL_OUT_OF_RANGE',
    )
    const sync = () => client.common('boSync', { handle: own, direction: 'fromDevice', offset, sizeBytes })
    t.equal(codeOf(sync), 'ERR_ACCEL_OUT_OF_RANGE')
  }
  t.equal(
    codeOf(() => submit(client, own, { sizeBytes: 0n })),
    'ERR_ACCEL_OUT_OF_RANGE',
  )
  for (const sizeBytes of [0n, last])
    t.equal(
      codeOf(() => client.common('boCreate', { sizeBytes, flags: {} })),
      'ERR_ACCEL_OUT_OF_RANGE',
    )
  t.ok(works())
  client.leave()
})

t.test('quotas: bytes and objects of an open and of the node, and jobs', async (t) => {
  const [client, other] = [open(), open()]
  const full = 'ERR_ACCEL_NO_MEMORY'
  t.equal(
    codeOf(() => createBo(client, (4 << 20) + 1)),
    full,
    'bytes of an open',
  )
  const large = createBo(client, 4 << 20)
  t.equal(
    codeOf(() => createBo(client)),
    full,
  )
  t.equal(
    codeOf(() => createBo(other, 4 << 20)),
    full,
    'bytes of the node',
  )
  client.common('boDestroy', { handle: large })
  const fences = Array.from({ length: quotas.openObjects }, () => createFence(client))
  t.equal(
    codeOf(() => createFence(client)),
    full,
    'objects of an open',
  )
  t.equal(
    codeOf(() => client.common('fenceEvent', { handle: fences[0]!, value: 1n, flags: {} })),
    full,
  )
  createBo(other)
  createBo(other)
  t.equal(
    codeOf(() => createBo(other)),
    full,
    'objects of the node',
  )
  t.ok(works(), 'what others have stays theirs')
  client.leave()
  t.equal(
    codeOf(() => createBo(other)),
    'accepted',
    'and what is given back can be had',
  )
  other.leave()
  t.ok(works())
  t.same(await left(), before)
})

t.test('jobs of an open that have not ended', async (t) => {
  const client = open()
  const sizeBytes = 4 << 20
  const handle = createBo(client, sizeBytes)
  const range = { handle, access: 'write', offset: 0n, sizeBytes: BigInt(sizeBytes) } as const
  const job = submitCodec.encode({
    buffers: [range],
    waits: [],
    signal: none,
    flags: {},
    payload: fill(sizeBytes),
  })
  // More than the device does in the time that it takes to ask for them.
  const ids = Array.from({ length: 40 }, (_, i) => i + 1000)
  client.send(Buffer.concat(ids.map((id) => rawMessage({ id, code: submitNumber }, job))))
  const answers = ids.map(() => describe(client.receive()!))
  const refused = answers.filter(({ code }) => code !== 'none')
  t.ok(refused.length > 0 && refused.length <= ids.length - quotas.openJobs)
  t.ok(answers.slice(0, quotas.openJobs).every(({ code }) => code === 'none'))
  for (const { code, details } of refused) {
    t.equal(code, 'ERR_ACCEL_AGAIN')
    t.same(details, { used: quotas.openJobs, limit: quotas.openJobs })
  }
  client.leave()
  t.ok(works())
  t.same(await left(), before)
})

t.test('descriptors that are no memory that stays', async (t) => {
  const client = open()
  const file = join(folder, 'file')
  writeFileSync(file, new Uint8Array(PAGE))
  execFileSync('mkfifo', [join(folder, 'pipe')])
  const memory = (seals: number, sizeBytes = PAGE, flags = 0) => {
    const fd = sys.memfdCreate('uaccel-hostile', abi.MFD_ALLOW_SEALING | flags)
    sys.ftruncate(fd, sizeBytes)
    sys.addSeals(fd, seals)
    return fd
  }
  const again = (fd: number, flags: number) => sys.open(`/proc/self/fd/${fd}`, flags)
  const { F_SEAL_SHRINK: SHRINK } = abi
  const good = memory(SHRINK)
  const invalid = 'ERR_ACCEL_INVALID_ARGUMENT'
  const found: [what: string, fd: number, code: string][] = [
    ['memory that is not sealed', memory(0), invalid],
    ['memory that cannot be sealed', sys.memfdCreate('uaccel-hostile', 0), invalid],
    ['memory that can only not grow', memory(abi.F_SEAL_GROW), invalid],
    ['memory sealed against writing', memory(SHRINK | abi.F_SEAL_WRITE), 'ERR_ACCEL_PERMISSION'],
    ['memory sealed against writing later', memory(SHRINK | abi.F_SEAL_FUTURE_WRITE), 'ERR_ACCEL_PERMISSION'],
    ['memory opened for reading', again(good, abi.O_RDONLY), 'ERR_ACCEL_PERMISSION'],
    ['memory named by a path alone', again(good, abi.O_PATH), invalid],
    ['memory of half a page', memory(SHRINK, PAGE / 2), invalid],
    ['no memory', memory(SHRINK, 0), 'ERR_ACCEL_OUT_OF_RANGE'],
    ['more than its quota', memory(SHRINK, 8 << 20), 'ERR_ACCEL_NO_MEMORY'],
    ['more than there is', memory(SHRINK, 2 ** 53 - PAGE), 'ERR_ACCEL_NO_MEMORY'],
    ['a file', openSync(file, 'r+'), invalid],
    ['the path of a file', sys.open(file, abi.O_PATH), invalid],
    ['a directory', sys.open(folder, abi.O_RDONLY), invalid],
    ['a pipe', sys.open(join(folder, 'pipe'), abi.O_RDWR | abi.O_NONBLOCK), invalid],
    ['an eventfd', sys.eventfd(), invalid],
    ['memory of the kernel', sys.open('/dev/zero', abi.O_RDWR), invalid],
    ['a device', sys.open('/dev/null', abi.O_RDWR), invalid],
    ...sys.socketpair().map((fd): [string, number, string] => ['a socket', fd, invalid]),
    ['the connection itself', sys.dup(client.fd), invalid],
  ]
  if (existsSync('/proc/sys/vm/nr_hugepages')) {
    const fd = memory(SHRINK, 1 << 21, abi.MFD_HUGETLB | abi.MFD_HUGE_2MB)
    found.push(['memory of huge pages', fd, 'ERR_ACCEL_UNSUPPORTED'])
  }
  if (existsSync('/dev/shm')) {
    const name = `/dev/shm/uaccel-${process.pid}`
    found.push(['a file in memory', openSync(name, 'w+'), invalid])
    unlinkSync(name)
  }
  for (const [what, fd, code] of found) {
    t.equal(
      codeOf(() => client.common('boImport', { fd, flags: {} })),
      code,
      `${what}: ${code}`,
    )
    closeSync(fd)
  }
  t.equal(
    codeOf(() => client.common('boImport', { fd: null, flags: {} })),
    invalid,
  )
  t.ok(works())
  const { handle } = client.common('boImport', { fd: good, flags: {} })
  t.equal(
    codeOf(() => sys.ftruncate(good, 0)),
    'ERR_ACCEL_PERMISSION',
    'what was taken stays',
  )
  sys.ftruncate(good, 4 * PAGE)
  t.equal(client.common('boInfo', { handle }).sizeBytes, BigInt(PAGE), 'and is as large as it was')
  const { fd } = client.common('boMmap', { handle, flags: {} })
  sys.close(fd!)
  submit(client, handle)
  closeSync(good)
  client.leave()
  t.ok(works())
  t.same(await left(), before)
})

t.test('a socket whose last close waits for its peer', async (t) => {
  const listener = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const accepted = once(listener, 'connection')
  const socket = connect((listener.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  await once(socket, 'connect')
  const [peer] = (await accepted) as [Socket]
  socket.write(new Uint8Array(32 << 20)) // which nobody reads
  await sleep(100)
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
  const linger = Buffer.alloc(8) // struct linger: whether, and for how many seconds
  linger.writeInt32LE(1, 0)
  linger.writeInt32LE(LINGER_MS / 1000, 4)
  t.equal(sys.provider.raw.setsockopt(fd, abi.SOL_SOCKET, SO_LINGER, linger, linger.length), 0)
  const client = open()
  const [last] = duplicates([fd])
  const command = commonUapi.commands.boImport
  const payload = command.in.encode({ fd: last!, flags: {} }, [])
  // So that the server has the only descriptor left when it closes it.
  server.kill('SIGSTOP')
  client.send(rawMessage({ id: 1, code: command.number, fdCount: 1 }, payload), [last!])
  sys.close(last!)
  socket.destroy()
  await sleep(100)
  server.kill('SIGCONT')
  t.equal(describe(client.receive()!).code, 'ERR_ACCEL_INVALID_ARGUMENT')
  const start = performance.now()
  t.ok(works())
  const tookMs = performance.now() - start
  t.ok(tookMs < LINGER_MS / 2, `others are served after ${tookMs.toFixed(0)} ms`)
  client.leave()
  peer.destroy()
  listener.close()
  t.same(await left(), before)
})

t.test('memory that the server gives cannot be taken from it', async (t) => {
  const client = open()
  const own = createBo(client)
  for (const give of [
    () => client.common('boMmap', { handle: own, flags: {} }).fd!,
    () => client.common('boExport', { handle: own, kind: 'memory', flags: {} }).fd!,
  ]) {
    const fd = give()
    t.equal(
      codeOf(() => sys.ftruncate(fd, 0)),
      'ERR_ACCEL_PERMISSION',
    )
    t.equal(
      codeOf(() => sys.ftruncate(fd, 2 * PAGE)),
      'ERR_ACCEL_PERMISSION',
    )
    t.equal(
      codeOf(() => sys.addSeals(fd, abi.F_SEAL_WRITE)),
      'ERR_ACCEL_PERMISSION',
    )
    sys.close(fd)
  }
  const event = createFence(client)
  const { fd } = client.common('fenceEvent', { handle: event, value: 1n, flags: {} })
  sys.write(fd!, Uint8Array.of(0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
  submit(client, own, { fence: event })
  t.ok(works(), 'an eventfd that the client filled holds nobody up')
  sys.close(fd!)
  client.leave()
  t.same(await left(), before)
})

t.test('and the server is as it was', async (t) => {
  t.equal(server.exitCode, null)
  t.ok(works())
  witness.leave()
})
