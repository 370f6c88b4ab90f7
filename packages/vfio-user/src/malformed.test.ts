import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { createSealedMemory, sys } from '@uaccel/sys'
import fc from 'fast-check'
import t from 'tap'
import { Channel, closeAll, type Message } from './channel.js'
import { Command, encodeVersion, Flag, MAX_MESSAGE_BYTES } from './protocol.js'

const { EEXIST, EINVAL, EOPNOTSUPP } = constants.errno
const folder = mkdtempSync(join(tmpdir(), 'uaccel-malformed-'))
const path = join(folder, 'server.sock')
const server = fork(fileURLToPath(new URL('serve.test.process.js', import.meta.url)), [path], {
  stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
})
const reports: { event: string; reason?: string }[] = []
server.on('message', (message) => reports.push(message as { event: string }))
t.before(() => once(server, 'message'))
t.teardown(async () => {
  server.kill()
  rmSync(folder, { recursive: true, force: true })
})

const capabilities = { maxMessageFds: 8, maxTransferBytes: 1 << 20 }
const timeoutMs = 5000

/** A client that says anything. */
class Rude {
  readonly channel = new Channel(sys.connectUnix(path))
  #id = 0

  ask(command: number, payload: Uint8Array, fds: readonly number[] = []): Message {
    this.channel.send({ id: this.#id++, command, flags: 0, fds }, payload, timeoutMs)
    const reply = this.channel.receive(timeoutMs)
    if (!reply) throw new Error('no reply')
    return reply
  }

  /** errno of the answer, 0 for success, -1 where the server hung up. */
  errno(command: number, payload: Uint8Array, fds: readonly number[] = []): number {
    try {
      const { flags, errno, payload: data } = this.ask(command, payload, fds)
      if (flags & Flag.ERROR && data.length > 0) throw new Error('an error reply is a header alone')
      return flags & Flag.ERROR ? errno : 0
    } catch (error) {
      if ((error as { code?: string }).code === 'ERR_ACCEL_CLOSED') return -1
      throw error
    }
  }

  agree(): this {
    if (this.errno(Command.VERSION, encodeVersion(1, capabilities)) !== 0) throw new Error('no agreement')
    return this
  }

  /** Raw bytes, and whether the server hangs up over them. */
  hangsUp(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    sys.sendmsg(this.channel.fd, [bytes], fds)
    try {
      while (this.channel.receive(300)) {}
      return false
    } catch (error) {
      return ['ERR_ACCEL_CLOSED', 'ERR_ACCEL_SYSTEM'].includes((error as { code: string }).code)
    }
  }

  close() {
    this.channel.close()
  }
}

function rude(use: (client: Rude) => void) {
  const client = new Rude()
  try {
    use(client)
  } finally {
    client.close()
  }
}

const words = (...values: (number | bigint)[]) => {
  const bytes = Buffer.alloc(values.reduce<number>((sum, v) => sum + (typeof v === 'bigint' ? 8 : 4), 0))
  let at = 0
  for (const value of values) {
    at = typeof value === 'bigint' ? bytes.writeBigUInt64LE(value, at) : bytes.writeUInt32LE(value, at)
  }
  return bytes
}
const header = (command: number, size: number, flags = 0) => words(command << 16, size, flags, 0)
const alive = () => rude((client) => void client.agree())
const serverFds = () => readdirSync(`/proc/${server.pid}/fd`).length
const serverMaps = () =>
  readFileSync(`/proc/${server.pid}/maps`, 'utf8')
    .split('\n')
    .filter((l) => l.includes('memfd')).length

t.test('what is no message, or comes out of turn, ends the connection', async (t) => {
  alive()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const fds = serverFds()
  for (const [what, bytes] of [
    ['a size below the header', header(Command.VERSION, 15)],
    ['a size of 4 GiB', header(Command.VERSION, 0xffffffff)],
    ['one byte too large', header(Command.VERSION, MAX_MESSAGE_BYTES + 1)],
    ['text', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a command before VERSION', header(Command.DEVICE_RESET, 16)],
    ['a reply that nobody asked for', header(Command.DMA_READ, 16, Flag.REPLY)],
    ['VERSION without data', header(Command.VERSION, 16)],
    ['JSON without NUL', Buffer.concat([header(Command.VERSION, 22), words(0), Buffer.from('{}')])],
    ['no JSON', Buffer.concat([header(Command.VERSION, 23), words(0), Buffer.from('{{\0')])],
    ['another major version', Buffer.concat([header(Command.VERSION, 20), words(1)])],
  ] as const) {
    rude((client) => t.ok(client.hangsUp(bytes), what))
  }
  for (const json of [
    '[]',
    '{"capabilities":7}',
    '{"capabilities":{"max_msg_fds":-1}}',
    '{"capabilities":{"max_data_xfer_size":"1"}}',
  ]) {
    const data = Buffer.concat([words(0), Buffer.from(`${json}\0`)])
    rude((client) =>
      t.ok(client.hangsUp(Buffer.concat([header(Command.VERSION, 16 + data.length), data])), json),
    )
  }
  rude((client) => {
    t.equal(client.errno(Command.VERSION, words(0)), 0, 'no JSON at all is fine')
  })
  rude((client) => {
    client.channel.send({ id: 1, command: Command.VERSION, flags: 0 }, words(0), timeoutMs)
    client.close()
  })
  rude((client) => {
    t.notOk(client.hangsUp(header(Command.VERSION, 20).subarray(0, 9)), 'half a header is waited for')
    t.notOk(
      client.hangsUp(Buffer.concat([header(Command.VERSION, 20).subarray(9), words(0)])),
      'and put together',
    )
    t.equal(client.errno(Command.DEVICE_RESET, words()), 0)
  })
  alive()
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(serverFds(), fds, 'no descriptor is left in the server')
})

t.test('commands that are wrong are answered with their errno, and the session goes on', async (t) => {
  alive()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const before = { fds: serverFds(), maps: serverMaps() }
  const file = openSync('/dev/null', 'r')
  const memory = createSealedMemory('test', 1 << 16)
  const eventfd = sys.eventfd()
  t.teardown(() => closeAll([file, memory.fd, eventfd]))
  const client = new Rude().agree()
  const map = (flags: number, offset: bigint, iova: bigint, size: bigint, fds: number[] = []) =>
    client.errno(Command.DMA_MAP, words(32, flags, offset, iova, size), fds)
  const irqs = (
    flags: number,
    index: number,
    start: number,
    count: number,
    fds: number[] = [],
    data = words(),
  ) =>
    client.errno(Command.DEVICE_SET_IRQS, Buffer.concat([words(20, flags, index, start, count), data]), fds)

  t.equal(client.errno(Command.VERSION, encodeVersion(1, capabilities)), EINVAL, 'a second VERSION')
  t.equal(client.errno(99, words()), EOPNOTSUPP, 'an unknown command')
  t.equal(client.errno(Command.DEVICE_FEATURE, words(8, 0)), EOPNOTSUPP)
  t.equal(client.errno(Command.DEVICE_GET_INFO, words(16)), EINVAL, 'short')
  t.equal(client.errno(Command.DEVICE_GET_INFO, words(16, 0, 0, 0, 0)), EINVAL, 'long')
  t.equal(client.errno(Command.DEVICE_GET_REGION_INFO, words(32, 0, 9, 0, 0n, 0n)), EINVAL, 'region 9')
  t.equal(client.errno(Command.DEVICE_GET_REGION_INFO, words(31, 0, 0, 0, 0n, 0n)), EINVAL, 'argsz 31')
  t.equal(client.errno(Command.DEVICE_GET_IRQ_INFO, words(16, 0, 5, 0)), EINVAL, 'interrupt kind 5')
  t.equal(client.errno(Command.DEVICE_GET_REGION_IO_FDS, words(16, 0, 9, 0)), EINVAL)
  t.equal(client.errno(Command.REGION_READ, words(0n, 0, 0x7fffffff)), EINVAL, 'a count beyond the limit')
  t.equal(client.errno(Command.REGION_READ, words(4096n, 0, 4)), EINVAL, 'past the end')
  t.not(client.errno(Command.REGION_READ, words(0xffff_ffff_ffff_fffcn, 0, 4)), 0, 'an offset that wraps')
  t.equal(client.errno(Command.REGION_READ, words(0n, 77, 4)), EINVAL, 'region 77')
  t.equal(client.errno(Command.REGION_WRITE, words(0n, 0, 8, 1)), EINVAL, 'fewer bytes than the count')
  t.equal(client.errno(Command.REGION_WRITE_MULTI, words(1n << 60n)), EINVAL, 'a count of 2^60')
  t.equal(client.errno(Command.REGION_WRITE_MULTI, words(1n, 4n, 0, 9, 0n)), EINVAL, 'an entry of 9 bytes')

  t.equal(map(4, 0n, 0n, 4096n), EINVAL, 'neither readable nor writable')
  t.equal(map(0x80, 0n, 0n, 4096n), EINVAL, 'unknown flags')
  t.equal(map(3, 0n, 0n, 1n << 17n, [memory.fd]), EINVAL, 'beyond the end of the file')
  t.not(map(3, 0n, 100n, 4096n, [memory.fd]), 0, 'an address that is no page')
  t.not(map(3, 0n, 0x1_0000n, 0n, [memory.fd]), 0, 'nothing')
  t.not(map(3, 0n, 0xffff_ffff_ffff_f000n, 8192n, [memory.fd]), 0, 'past the last address')
  t.equal(map(3, 0n, 0x1_0000n, 4096n, [memory.fd, memory.fd]), EINVAL, 'two descriptors')
  t.equal(map(3, 0n, 0x1_0000n, 8192n, [memory.fd]), 0)
  t.equal(map(3, 0n, 0x1_1000n, 8192n, [memory.fd]), EEXIST, 'an overlap')
  t.equal(map(3, 0n, 0x10_0000n, 4096n, [file]), 0, 'what cannot be sealed is left to messages')
  const huge = createSealedMemory('huge', 16 * 1024 ** 3)
  t.equal(map(3, 0n, 1n << 40n, 1n << 34n, [huge.fd]), 0, 'what no view can hold is mapped in parts')
  sys.close(huge.fd)
  const unmap = (flags: number, iova: bigint, size: bigint) =>
    client.errno(Command.DMA_UNMAP, words(24, flags, iova, size))
  t.equal(unmap(0, 0x1_0000n, 4096n), EINVAL, 'the first half of a mapping')
  t.equal(unmap(0, 0x1_1000n, 0x10_0000n), EINVAL, 'the second half, and more')
  t.equal(unmap(0, 0x2_0000n, 4096n), 0, 'never mapped: as the kernel answers')
  t.equal(unmap(1, 0x1_0000n, 8192n), EOPNOTSUPP, 'dirty pages')
  t.equal(unmap(0, 0x1_0000n, 8192n), 0)
  t.equal(unmap(2, 0n, 0n), 0, 'all')
  t.equal(map(3, 0n, 0x1_0000n, 8192n, [memory.fd]), 0)
  t.equal(map(3, 0n, 0x2_0000n, 4096n, [memory.fd]), 0)
  t.equal(unmap(0, 0n, 0xffff_ffff_ffff_f000n), 0, 'a range that has both')
  t.equal(map(3, 0n, 0x1_0000n, 0x2_0000n), 0, 'is free again')
  t.equal(unmap(2, 0n, 0n), 0)

  t.equal(irqs(36, 2, 0, 5, [eventfd]), EINVAL, 'five vectors of four')
  t.equal(irqs(36, 2, 0xffffffff, 1, [eventfd]), EINVAL)
  t.equal(irqs(36, 2, 0, 2, [eventfd]), EINVAL, 'one descriptor for two')
  t.equal(irqs(36, 7, 0, 1, [eventfd]), EINVAL, 'kind 7')
  t.equal(irqs(33, 2, 0, 1, [eventfd]), EINVAL, 'descriptors where none belong')
  t.equal(irqs(32 | 3, 2, 0, 1), EINVAL, 'two kinds of data')
  t.equal(irqs(4 | 24, 2, 0, 1), EOPNOTSUPP, 'eventfds for masks')
  t.equal(irqs(1 | 24, 2, 0, 1), EINVAL, 'mask and unmask')
  t.equal(irqs(34, 2, 0, 4, [], words(0, 0)), EINVAL, 'eight booleans for four')
  t.equal(irqs(0x1000, 2, 0, 1), EINVAL, 'unknown flags')
  t.equal(irqs(36, 2, 0, 0), EINVAL, 'no eventfds')
  t.equal(irqs(36, 2, 0, 2, [eventfd, file]), EINVAL, 'what is no eventfd')
  t.equal(irqs(36, 2, 0, 1, [eventfd]), 0)
  t.equal(irqs(33, 2, 0, 1), 0, 'a trigger by hand')
  t.equal(Number(readCounter(eventfd)), 1, 'fires the eventfd')
  t.equal(irqs(36, 2, 0, 1, []), 0, 'no descriptor takes it back')
  t.equal(irqs(33, 2, 0, 1), 0)
  t.equal(readCounter(eventfd), undefined)
  t.equal(irqs(36, 2, 0, 1, [eventfd]), 0)
  sys.write(eventfd, new Uint8Array(new BigUint64Array([0xffff_ffff_ffff_fffen]).buffer))
  sys.setNonblocking(eventfd, false)
  t.equal(irqs(33, 2, 0, 1), 0, 'a trigger does not block on a counter that is full and blocking')
  client.channel.send({ id: 9, command: 99, flags: Flag.NO_REPLY }, words(), timeoutMs)
  t.equal(client.errno(Command.DEVICE_RESET, words()), 0, 'no_reply is kept, for errors too')
  client.close()
  alive()
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.same({ fds: serverFds(), maps: serverMaps() }, before, 'nothing is left in the server')
})

function readCounter(fd: number): bigint | undefined {
  const bytes = Buffer.alloc(8)
  return sys.read(fd, bytes) === undefined ? undefined : bytes.readBigUInt64LE()
}

t.test('descriptors are not collected piece by piece', async (t) => {
  alive()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const before = serverFds()
  const eventfd = sys.eventfd()
  const client = new Rude().agree()
  sys.sendmsg(client.channel.fd, [header(Command.DEVICE_RESET, 4096)])
  let pieces = 0
  let end = ''
  try {
    for (; pieces < 200; pieces++) {
      sys.sendmsg(client.channel.fd, [Buffer.alloc(1)], new Array(8).fill(eventfd))
      client.channel.receive(10)
    }
  } catch (error) {
    end = (error as { code: string }).code
  }
  t.match(end, /ERR_ACCEL_(CLOSED|SYSTEM)/, 'the server hangs up')
  t.ok(pieces < 30, `after ${pieces} pieces of one message`)
  client.close()
  sys.close(eventfd)
  alive()
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(serverFds(), before)
})

t.test('a client that says nothing does not keep others out', async (t) => {
  const silent = new Rude()
  const started = performance.now()
  t.throws(() => silent.channel.receive(timeoutMs), { code: 'ERR_ACCEL_CLOSED' })
  t.ok(performance.now() - started > 500, 'it had its time')
  silent.close()
  alive()
})

t.test('a client that never pauses leaves the event loop to others', async (t) => {
  const flood = new Worker(new URL('flood.test.worker.js', import.meta.url), { workerData: path })
  await once(flood, 'message')
  const started = performance.now()
  rude((second) => t.ok(second.hangsUp(Buffer.alloc(0)), 'a second one is turned away meanwhile'))
  t.ok(performance.now() - started < 300)
  const left = reports.filter(({ event }) => event === 'left').length
  flood.postMessage('stop')
  await once(flood, 'exit')
  // what it sent is still served, a part at a time, before its end is seen
  for (let waits = 0; waits < 100 && reports.filter(({ event }) => event === 'left').length === left; waits++)
    await new Promise((resolve) => setTimeout(resolve, 20))
  alive()
})

t.test('a client that left with commands unanswered is no reason to turn the next one away', async (t) => {
  for (let round = 0; round < 20; round++) {
    const client = new Rude().agree()
    for (let i = 0; i < 500; i++) {
      client.channel.send({ id: i, command: 99, flags: Flag.NO_REPLY }, words(), timeoutMs)
    }
    client.close()
    t.doesNotThrow(alive)
  }
})

t.test('random messages neither end nor hang the server', async (t) => {
  const runs = Number(process.env.UACCEL_FUZZ_RUNS ?? 300)
  const message = fc.record({
    command: fc.oneof(fc.integer({ min: 0, max: 19 }), fc.nat(0xffff)),
    flags: fc.constantFrom(0, 0, 0, Flag.NO_REPLY, 2, 0xffff_ff00),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc
        .array(fc.constantFrom(0, 1, 2, 3, 4, 16, 20, 24, 32, 36, 4096, 0xffffffff), { maxLength: 12 })
        .map((w) => words(...w)),
    ),
    fd: fc.boolean(),
  })
  const eventfd = sys.eventfd()
  let client = new Rude().agree()
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 20 }), (messages) => {
      try {
        for (const { command, flags, payload, fd } of messages) {
          client.channel.send({ id: 0, command, flags, fds: fd ? [eventfd] : [] }, payload, timeoutMs)
          while (client.channel.receive(0)) {}
        }
        // what it still owes comes before the answer to this
        client.channel.send(
          { id: 4711, command: Command.DEVICE_GET_INFO, flags: 0 },
          words(16, 0, 0, 0),
          timeoutMs,
        )
        for (;;) {
          const reply = client.channel.receive(timeoutMs)
          if (!reply) throw new Error('the server hangs')
          if (reply.id === 4711) return
        }
      } catch (error) {
        if (!['ERR_ACCEL_CLOSED', 'ERR_ACCEL_SYSTEM'].includes((error as { code: string }).code)) throw error
        client.close()
        client = new Rude().agree()
      }
    }),
    { numRuns: runs },
  )
  client.close()
  sys.close(eventfd)
  t.same(
    reports.filter(({ event }) => event === 'crashed'),
    [],
  )
  t.equal(server.exitCode, null)
  alive()
})
