import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { abi, closeAll, createSealedMemory, sys } from '@uaccel/sys'
import { contractUapi } from '@uaccel/testkit'
import { commonUapi, HEADER_BYTES, isAccelError, MessageKind } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import {
  describe,
  eventually,
  held,
  helloPayload,
  nodeFolder,
  RawClient,
  rawMessage,
  startServer,
} from './nodes.js'

/** Random sessions; each sends up to 24 requests, and perhaps something that ends it. */
const runs = Number(process.env.UACCEL_FUZZ_RUNS ?? 300)
/** Sessions after which the server is asked whether it is well. */
const CHECK_EVERY = 25
/** What the memory of the server, and the ranges of its address space, may grow by: a heap, and views that are not collected yet, however long it lasts. */
const SPARE_RSS_KIB = 96 << 10
const SPARE_RANGES = 2000

t.setTimeout(300_000 + runs * 100)

const folder = nodeFolder(t)
const limits = { maxRequests: 32, stallMs: 2000 }
const { process: server } = await startServer(t, 'contract,npu', { folder, limits })
const pid = server.pid!
const { add } = contractUapi.commands
const { identify } = npuUapi.commands

/** A node of commands alone, and one that takes buffers and jobs. */
const nodes = [
  { path: join(folder, 'accel0'), uapi: contractUapi },
  { path: join(folder, 'accel1'), uapi: npuUapi },
]

/** An open of a node: of one in the reset that a session asked for, once it is up again. */
function opened(node: number): RawClient {
  const { path, uapi } = nodes[node]!
  for (const start = performance.now(); ; ) {
    const client = new RawClient(path)
    try {
      return client.hello(uapi)
    } catch (error) {
      client.close()
      if (!isAccelError(error, 'ERR_ACCEL_AGAIN') || performance.now() - start > 20_000) throw error
    }
  }
}

const isWell = () => {
  const ask = (node: number, code: number, payload?: Uint8Array) => {
    const client = opened(node)
    const answer = client.ask({ id: 1, code }, payload)!
    client.leave()
    return answer
  }
  const sum = ask(0, add.number, add.in.encode({ a: 1, b: 2 }))
  // It may be in the reset that some session asked for.
  const npu = describe(ask(1, identify.number)).code
  return (
    sum.code === 0 &&
    add.out.decode(sum.payload).sum === 3 &&
    (npu === 'none' || npu === 'ERR_ACCEL_AGAIN' || npu === 'ERR_ACCEL_IO')
  )
}

const u32 = fc.oneof(
  fc.nat(8),
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(HEADER_BYTES, 1 << 24),
)
const commands = nodes.map(({ uapi }) =>
  [...Object.values(uapi.commands), ...Object.values(commonUapi.commands)].map(
    ({ number, in: { layout } }) => ({
      number,
      sizeBytes: layout.sizeBytes,
    }),
  ),
)

/** A request that is nearly right: the layouts of the commands with some bytes changed, most often to what a handle or a count may be. */
const nearly = fc
  .record({
    command: fc.nat(1000),
    changes: fc.array(fc.tuple(fc.nat(63), fc.oneof(fc.nat(4), fc.nat(255))), { maxLength: 6 }),
    extra: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.integer({ min: -4, max: 6 })),
    id: fc.nat(0xffff),
    timeoutMs: fc.constantFrom(1, 3, 20),
    fds: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.nat(3)),
  })
  .map(({ command, changes, extra, id, timeoutMs, fds }) => (node: number) => {
    const { number, sizeBytes } = commands[node]![command % commands[node]!.length]!
    const payload = new Uint8Array(Math.max(0, sizeBytes + extra))
    for (const [at, value] of changes) if (at < payload.length) payload[at] = value
    return { bytes: rawMessage({ id, code: number, timeoutMs, fdCount: fds }, payload), fds }
  })

/** A request for something that is not there, or with a header that means nothing. */
const unknown = fc
  .record({
    kind: fc.constantFrom(MessageKind.REQUEST, MessageKind.CANCEL),
    id: fc.nat(0xffff),
    code: u32,
    timeoutMs: fc.oneof(fc.constantFrom(1, 20), u32),
    reserved: fc.oneof(fc.constant(0), u32),
    payload: fc.uint8Array({ maxLength: 100 }),
  })
  .map(({ payload, ...header }) => () => ({ bytes: rawMessage(header, payload), fds: 0 }))

/** A header of anything. */
const anything = fc
  .record({
    kind: fc.oneof(fc.constantFrom(...Object.values(MessageKind)), fc.nat(0xffff)),
    id: u32,
    code: u32,
    timeoutMs: u32,
    reserved: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, u32),
    length: fc.option(u32, { nil: undefined, freq: 4 }),
    fdCount: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(300)),
    payload: fc.uint8Array({ maxLength: 300 }),
    fds: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(20)),
  })
  .map(({ payload, fds, length, ...header }) => () => ({
    bytes: rawMessage({ ...header, ...(length === undefined ? {} : { length }) }, payload),
    fds,
  }))

const noise = fc
  .uint8Array({ minLength: 1, maxLength: 200 })
  .map((bytes) => () => ({ bytes: Buffer.from(bytes), fds: 0 }))
const greeting = fc.constant(() => ({
  bytes: rawMessage({ kind: MessageKind.HELLO }, helloPayload()),
  fds: 0,
}))
const session = fc.record({
  node: fc.nat(nodes.length - 1),
  greets: fc.oneof({ weight: 19, arbitrary: fc.constant(true) }, fc.constant(false)),
  requests: fc.array(fc.oneof({ weight: 5, arbitrary: nearly }, { weight: 1, arbitrary: unknown }), {
    maxLength: 24,
    size: 'max',
  }),
  /** What the server does not go on after, for the most part. */
  last: fc.option(fc.oneof(anything, noise, greeting), { nil: undefined }),
  /** Bytes of one write; a message may arrive in pieces. */
  piece: fc.oneof(
    { weight: 4, arbitrary: fc.constant(1 << 20) },
    { weight: 1, arbitrary: fc.constantFrom(7, 24, 100, 1000) },
  ),
  reads: fc.boolean(),
})

/** What clients may send along: memory of every kind, and what is none. */
const { fd: sealed } = createSealedMemory('uaccel-fuzz', 8192)
const unsealed = sys.memfdCreate('uaccel-fuzz')
sys.ftruncate(unsealed, 8192)
const files = [
  sealed,
  unsealed,
  sys.memfdCreate('uaccel-fuzz'),
  sys.eventfd(),
  sys.open(folder, abi.O_RDONLY),
  sys.open('/dev/null', abi.O_RDWR),
  ...sys.socketpair(),
]

const status = () => {
  const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]
  return { rssKib: Number(kib), ranges: readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').length }
}

const socketsOf = () => held(pid).kinds['socket:[N]']
const sockets = socketsOf()
t.ok(isWell())
// Those clients are gone at the server, too.
await eventually(() => socketsOf() === sockets)
const before = { ...held(pid), ...status() }

t.test(`${runs} sessions of anything`, { timeout: 200_000 + runs * 100 }, async (t) => {
  let sent = 0
  let done = 0
  const start = performance.now()
  const most = { rssKib: 0, ranges: 0 }
  const property = fc.property(session, ({ node, greets, requests, last, piece, reads }) => {
    const client = greets ? opened(node) : new RawClient(nodes[node]!.path)
    try {
      for (const make of last ? [...requests, last] : requests) {
        const { bytes, fds } = make(node)
        const along = Array.from({ length: fds }, (_, i) => files[(done + i) % files.length]!)
        for (let at = 0; at < bytes.length; at += piece) {
          client.send(bytes.subarray(at, at + piece), at === 0 ? along : [])
        }
        sent++
      }
      if (reads) while (sys.poll([{ fd: client.fd, events: abi.POLLIN }], 2) && client.receive(2)) {}
    } catch (error) {
      // It hung up, or has not said the rest yet.
      const { code, message } = error as { code?: string; message: string }
      if (code !== 'ERR_ACCEL_CLOSED' && message !== 'no answer') throw error
    } finally {
      client.close()
    }
    if (++done % CHECK_EVERY !== 0) return
    if (!isWell()) throw new Error('the server is not well')
    const now = status()
    most.rssKib = Math.max(most.rssKib, now.rssKib)
    most.ranges = Math.max(most.ranges, now.ranges)
  })
  fc.assert(property, { numRuns: runs })
  const seconds = (performance.now() - start) / 1000
  t.ok(isWell(), `the server is well after ${sent} messages in ${seconds.toFixed(0)} s`)
  t.equal(server.exitCode, null)
  await eventually(() => held(pid).fds === before.fds)
  const { rssKib, ranges, ...left } = before
  t.same(held(pid), left, 'and nothing is left')
  t.ok(most.rssKib - rssKib < SPARE_RSS_KIB, `its memory grew from ${rssKib} to ${most.rssKib} KiB at most`)
  t.ok(most.ranges - ranges < SPARE_RANGES, `its address space from ${ranges} to ${most.ranges} ranges`)
})

closeAll(files)
