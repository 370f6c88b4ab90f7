import { setTimeout as sleep } from 'node:timers/promises'
import { type AccelError, HEADER_BYTES, MAX_MESSAGE_BYTES } from '@uaccel/uapi'
import fc from 'fast-check'
import t from 'tap'
import * as abi from './abi.js'
import { closeAll } from './descriptors.js'
import { MessageSocket, type MessageSocketOptions } from './message-socket.js'
import { openFds } from './proc.test.helper.js'
import { sys } from './system-calls.js'

t.setTimeout(200_000)

interface Seen {
  id: number
  kind: number
  code: number
  timeoutMs: number
  payload: Buffer
  fds: readonly number[]
}

/** A socket with what it received. */
function listen(fd: number, options: Partial<MessageSocketOptions> = {}) {
  const seen: Seen[] = []
  const ends: AccelError[] = []
  const socket = new MessageSocket(
    fd,
    {
      message: ({ payload, ...message }) => seen.push({ ...message, payload: Buffer.from(payload) }),
      ended: (reason) => ends.push(reason),
    },
    { stallMs: 5000, receiveWhileBlocked: true, ...options },
  )
  return { socket, seen, ends }
}

async function until(check: () => boolean): Promise<void> {
  for (const start = performance.now(); !check(); await sleep(1)) {
    if (performance.now() - start > 10_000) throw new Error('it does not come')
  }
}

t.test('messages arrive whole and in order, with their descriptors, however they are cut', async (t) => {
  const message = fc.record({
    sizeBytes: fc.oneof(fc.nat(200), fc.nat(70_000)),
    fds: fc.oneof(fc.constant(0), fc.nat(5)),
  })
  const file = sys.memfdCreate('uaccel-message')
  const before = openFds()
  await fc.assert(
    fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 30 }), async (messages) => {
      const [a, b] = sys.socketpair()
      const [from, to] = [listen(a), listen(b)]
      messages.forEach(({ sizeBytes, fds }, i) => {
        from.socket.send(2, i, i * 3, i * 5, new Uint8Array(sizeBytes).fill(i), Array(fds).fill(file))
      })
      await until(() => to.seen.length === messages.length || to.ends.length > 0)
      to.seen.forEach(({ id, kind, code, timeoutMs, payload, fds }, i) => {
        const { sizeBytes, fds: count } = messages[i]!
        const same = payload.equals(Buffer.alloc(sizeBytes, i)) && fds.length === count
        if (!same || id !== i || kind !== 2 || code !== i * 3 || timeoutMs !== i * 5)
          throw new Error(`message ${i} of ${payload.length} bytes with ${fds.length} descriptors`)
        closeAll(fds)
      })
      from.socket.close()
      await until(() => to.ends.length === 1)
      to.socket.close()
    }),
    { numRuns: 60 },
  )
  await until(() => openFds() === before) // the helper thread of a watch ends by itself
  t.pass('nothing is left')
  sys.close(file)
})

t.test('what waits for a peer that does not read is sent when it does', async (t) => {
  const file = sys.memfdCreate('uaccel-message')
  const before = openFds()
  const [a, b] = sys.socketpair()
  const from = listen(a)
  const payload = new Uint8Array(100_000)
  for (let id = 0; id < 50; id++) from.socket.send(1, id, 0, 0, payload, [file])
  t.ok(openFds() > before + 2, 'its descriptors wait with it, so that the sender may close its own')
  const flushed = from.socket.flush()
  const to = listen(b)
  await flushed
  from.socket.close()
  await until(() => to.ends.length === 1)
  t.equal(to.ends[0]!.code, 'ERR_ACCEL_CLOSED')
  t.same(
    to.seen.map(({ id }) => id),
    Array.from({ length: 50 }, (_, id) => id),
  )
  for (const { fds } of to.seen) closeAll(fds)
  to.socket.close()
  await until(() => openFds() === before)
  sys.close(file)
})

t.test('a peer that never reads is given up', async (t) => {
  const before = openFds()
  const [a, b] = sys.socketpair()
  const from = listen(a, { stallMs: 50 })
  for (let id = 0; id < 20; id++) from.socket.send(1, id, 0, 0, new Uint8Array(100_000), [b])
  await until(() => from.ends.length === 1)
  t.equal(from.ends[0]!.code, 'ERR_ACCEL_TIMEOUT')
  from.socket.send(1, 99, 0, 0, new Uint8Array(0))
  await from.socket.flush()
  from.socket.close()
  from.socket.close()
  sys.close(b)
  await until(() => openFds() === before)
})

t.test('what was said before the end is read before it', async (t) => {
  const [a, b] = sys.socketpair()
  const [left, right] = [listen(a, { receiveWhileBlocked: false }), listen(b)]
  right.socket.send(5, 0, 7, 0, Uint8Array.of(1, 2, 3))
  right.socket.close()
  left.socket.send(2, 1, 0, 0, new Uint8Array(10)) // nobody is there any more
  await until(() => left.ends.length === 1)
  t.match(left.seen, [{ kind: 5, code: 7, payload: Buffer.of(1, 2, 3) }])
  t.equal(left.ends[0]!.code, 'ERR_ACCEL_CLOSED')
  left.socket.close()
})

t.test('half a connection', async (t) => {
  const [a, b] = sys.socketpair()
  const [left, right] = [listen(a), listen(b)]
  left.socket.shutdown()
  await until(() => right.ends.length === 1)
  right.socket.send(5, 0, 0, 0, new Uint8Array(0))
  await until(() => left.seen.length === 1)
  right.socket.close()
  await until(() => left.ends.length === 1)
  left.socket.shutdown()
  left.socket.close()
  t.pass('it is ended from the other side')
})

t.test('what is no message', async (t) => {
  const header = (length: number, fds = 0) => {
    const bytes = Buffer.alloc(HEADER_BYTES)
    bytes.writeUInt32LE(length, 0)
    bytes.writeUInt16LE(fds, 10)
    return bytes
  }
  const before = openFds()
  for (const [what, code, bytes, fds] of [
    ['short', 'ERR_ACCEL_PROTOCOL', header(HEADER_BYTES - 1), 0],
    ['long', 'ERR_ACCEL_PROTOCOL', header(MAX_MESSAGE_BYTES + 1), 0],
    ['longer than agreed', 'ERR_ACCEL_BAD_SIZE', header(1001), 0],
    ['a descriptor too few', 'ERR_ACCEL_PROTOCOL', header(HEADER_BYTES, 2), 1],
    ['a descriptor too many', 'ERR_ACCEL_PROTOCOL', header(HEADER_BYTES), 1],
    ['an end in the middle', 'ERR_ACCEL_CLOSED', header(1000).subarray(0, 10), 3],
  ] as const) {
    const [a, b] = sys.socketpair()
    const to = listen(a, { maxMessageBytes: 1000 })
    sys.sendmsg(b, [bytes], Array(fds).fill(b))
    sys.shutdown(b, abi.SHUT_WR)
    await until(() => to.ends.length === 1)
    t.equal(to.ends[0]!.code, code, what)
    t.same(to.seen, [])
    to.socket.close()
    sys.close(b)
  }
  const [a, b] = sys.socketpair()
  const to = listen(a)
  for (let i = 0; i < 3; i++) sys.sendmsg(b, [header(1000).subarray(i, i + 1)], Array(100).fill(b))
  await until(() => to.ends.length === 1)
  t.equal(to.ends[0]!.code, 'ERR_ACCEL_PROTOCOL', 'descriptors that pile up before their message')
  t.throws(() => to.socket.send(1, 0, 0, 0, new Uint8Array(MAX_MESSAGE_BYTES)), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  t.throws(() => to.socket.send(1, 0, 0, 0, new Uint8Array(0), Array(254).fill(b)), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  to.socket.close()
  sys.close(b)
  await until(() => openFds() === before)
  t.pass('and nothing is left')
})
