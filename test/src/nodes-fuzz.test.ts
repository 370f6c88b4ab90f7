import { join } from 'node:path'
import { abi, sys } from '@uaccel/sys'
import { contractUapi } from '@uaccel/testkit'
import { HEADER_BYTES, MessageKind } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import { eventually, held, helloPayload, nodeFolder, RawClient, rawMessage, startServer } from './nodes.js'

/** Random sessions; each sends up to 12 messages. */
const runs = Number(process.env.UACCEL_FUZZ_RUNS ?? 300)
/** Sessions after which the server is asked whether it is well. */
const CHECK_EVERY = 25

t.setTimeout(300_000 + runs * 100)

const folder = nodeFolder(t)
const path = join(folder, 'accel0')
const limits = { maxRequests: 32, stallMs: 2000 }
const { process: server } = await startServer(t, 'contract', { folder, limits })
const pid = server.pid!
const { add } = contractUapi.commands

const isWell = () => {
  const client = new RawClient(path)
  const answer = client.hello().ask({ id: 1, code: add.number }, add.in.encode({ a: 1, b: 2 }))
  client.leave()
  return answer?.code === 0 && add.out.decode(answer.payload).sum === 3
}

const u32 = fc.oneof(
  fc.nat(8),
  fc.integer({ min: 0, max: 0xffff_ffff }),
  fc.constantFrom(HEADER_BYTES, 1 << 24),
)
const numbers = Object.values(contractUapi.commands).map((command) => command.number)

/** A request that is nearly right: the layouts of the commands with some bytes changed. */
const nearly = fc
  .record({
    command: fc.constantFrom(...Object.values(contractUapi.commands)),
    changes: fc.array(fc.tuple(fc.nat(63), fc.nat(255)), { maxLength: 4 }),
    extra: fc.integer({ min: -4, max: 6 }),
    id: fc.nat(20),
    timeoutMs: fc.constantFrom(1, 3, 20),
    fds: fc.nat(3),
  })
  .map(({ command, changes, extra, id, timeoutMs, fds }) => {
    const payload = new Uint8Array(Math.max(0, command.in.layout.sizeBytes + extra))
    for (const [at, value] of changes) if (at < payload.length) payload[at] = value
    return { bytes: rawMessage({ id, code: command.number, timeoutMs, fdCount: fds }, payload), fds }
  })

/** A header of anything. */
const anything = fc
  .record({
    kind: fc.oneof(fc.constantFrom(...Object.values(MessageKind)), fc.nat(0xffff)),
    id: u32,
    code: fc.oneof(fc.constantFrom(...numbers), u32),
    timeoutMs: u32,
    reserved: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, u32),
    length: fc.option(u32, { nil: undefined, freq: 4 }),
    fdCount: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(300)),
    payload: fc.uint8Array({ maxLength: 300 }),
    fds: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(20)),
  })
  .map(({ payload, fds, length, ...header }) => ({
    bytes: rawMessage({ ...header, ...(length === undefined ? {} : { length }) }, payload),
    fds,
  }))

const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => ({ bytes: Buffer.from(bytes), fds: 0 }))
const greeting = fc.constant({ bytes: rawMessage({ kind: MessageKind.HELLO }, helloPayload()), fds: 0 })
const message = fc.oneof(
  { weight: 6, arbitrary: nearly },
  { weight: 3, arbitrary: anything },
  { weight: 1, arbitrary: noise },
  { weight: 1, arbitrary: greeting },
)
const session = fc.record({
  greets: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.constant(false)),
  messages: fc.array(message, { maxLength: 12 }),
  /** Bytes of one write; a message may arrive in pieces. */
  piece: fc.constantFrom(1, 7, 24, 100, 1 << 20),
  reads: fc.boolean(),
})

const socketsOf = () => held(pid).kinds['socket:[N]']
const sockets = socketsOf()
t.ok(isWell())
// That client is gone at the server, too.
await eventually(() => socketsOf() === sockets)
const before = held(pid)

t.test(`${runs} sessions of anything`, { timeout: 200_000 + runs * 100 }, async (t) => {
  const file = sys.memfdCreate('uaccel-fuzz')
  let sent = 0
  let done = 0
  const property = fc.property(session, ({ greets, messages, piece, reads }) => {
    const client = new RawClient(path)
    try {
      if (greets) client.hello()
      for (const { bytes, fds } of messages) {
        for (let at = 0; at < bytes.length; at += piece) {
          client.send(bytes.subarray(at, at + piece), at === 0 ? Array(fds).fill(file) : [])
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
    if (++done % CHECK_EVERY === 0 && !isWell()) throw new Error('the server is not well')
  })
  fc.assert(property, { numRuns: runs })
  sys.close(file)
  t.ok(isWell(), `the server is well after ${sent} messages`)
  t.equal(server.exitCode, null)
  await eventually(() => held(pid).fds === before.fds)
  t.same(held(pid), before, 'and nothing is left')
})
