import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sys } from '@uaccel/sys'
import t, { type Test } from 'tap'
import { Channel, type Message } from './channel.js'
import { Command, encodeVersion, Flag } from './protocol.js'

// What a client may send in place of the answer to a DMA message: QEMU's does, for every access of a guest's processor.
const timeoutMs = 5000
const IOVA = 0x10_0000n
const data = Buffer.from('sixteen bytes...')

/** Start of a REGION_READ or REGION_WRITE. */
function access(region: number, offset: number, count: number, value?: bigint): Buffer {
  const payload = Buffer.alloc(16 + (value === undefined ? 0 : count))
  payload.writeBigUInt64LE(BigInt(offset), 0)
  payload.writeUInt32LE(region, 8)
  payload.writeUInt32LE(count, 12)
  if (value !== undefined)
    for (let i = 0; i < count; i++) payload[16 + i] = Number((value >> BigInt(8 * i)) & 0xffn)
  return payload
}

/** A client whose memory has no descriptor, with the scratch device of a server process, about to copy 16 bytes of it. */
async function copying(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-meanwhile-'))
  const path = join(folder, 'server.sock')
  const server = fork(fileURLToPath(new URL('serve.test.process.js', import.meta.url)), [path], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  await once(server, 'message')
  const channel = new Channel(sys.connectUnix(path))
  t.teardown(() => {
    channel.close()
    server.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  let id = 100
  const receive = (): Message => {
    const message = channel.receive(timeoutMs)
    if (!message) throw new Error(`nothing within ${timeoutMs} ms`)
    return message
  }
  const tell = (command: number, payload: Uint8Array) =>
    channel.send({ id: ++id, command, flags: 0 }, payload, timeoutMs)
  const ask = (command: number, payload: Uint8Array): Buffer => {
    tell(command, payload)
    const reply = receive()
    t.match(reply, { id, command, flags: Flag.REPLY }, `the reply to command ${command}`)
    return reply.payload
  }
  const answer = (message: Message, bytes: Uint8Array = Buffer.alloc(0)) =>
    channel.send(
      { id: message.id, command: message.command, flags: Flag.REPLY },
      Buffer.concat([message.payload.subarray(0, 16), bytes]),
      timeoutMs,
    )
  const write = (offset: number, count: number, value: bigint) =>
    ask(Command.REGION_WRITE, access(0, offset, count, value))
  const read = (offset: number) => ask(Command.REGION_READ, access(0, offset, 4)).readUInt32LE(16)
  /** Memory decode and bus mastering, in the command register. */
  const enable = () => ask(Command.REGION_WRITE, access(7, 4, 2, 6n))
  const prepare = () => {
    enable()
    write(0x08, 4, BigInt(data.length))
    write(0x10, 8, IOVA)
    write(0x18, 8, IOVA + 0x1000n)
  }
  ask(Command.VERSION, encodeVersion(1, { maxMessageFds: 8, maxTransferBytes: 1 << 20 }))
  const map = Buffer.alloc(32)
  map.writeUInt32LE(32, 0)
  map.writeUInt32LE(3, 4)
  map.writeBigUInt64LE(IOVA, 16)
  map.writeBigUInt64LE(0x4000n, 24)
  ask(Command.DMA_MAP, map)
  prepare()
  /** Starts the copy; the DMA_READ that comes of it. */
  const start = () => {
    write(0x0c, 4, 0n)
    const message = receive()
    t.match(message, { command: Command.DMA_READ, flags: 0 })
    return message
  }
  return { path, channel, server, ask, tell, receive, answer, write, read, enable, prepare, start }
}

t.test('commands are answered while a DMA message is not', async (t) => {
  const client = await copying(t)
  const reading = client.start()
  client.write(0x04, 4, 0x1234n)
  t.equal(client.read(0x04), 0x1234)
  client.tell(Command.REGION_READ, access(0, 0x04, 4))
  client.answer(reading, data)
  t.match(client.receive(), { command: Command.REGION_READ, flags: Flag.REPLY }, 'sent before the answer')
  const writing = client.receive()
  t.match(writing, { command: Command.DMA_WRITE, flags: 0 })
  t.same(writing.payload.subarray(16), data)
  t.equal(client.read(0x04), 0x1234)
  client.answer(writing)
  t.equal(client.read(0x30), 0, 'no fault')
})

t.test('a reset ends the transfer, whose late answer is ignored', async (t) => {
  const client = await copying(t)
  const reading = client.start()
  client.ask(Command.DEVICE_RESET, Buffer.alloc(0))
  client.answer(reading, data)
  client.enable()
  t.equal(client.read(0x08), 0, 'the registers are as after power-on')
  client.prepare()
  const again = client.start()
  client.answer(again, data)
  client.answer(client.receive())
  t.equal(client.read(0x30), 0, 'the next transfer is as good as any')
})

t.test('memory that is taken back ends the transfer with a fault', async (t) => {
  const client = await copying(t)
  const reading = client.start()
  const unmap = Buffer.alloc(24)
  unmap.writeUInt32LE(24, 0)
  unmap.writeBigUInt64LE(IOVA, 8)
  unmap.writeBigUInt64LE(0x4000n, 16)
  client.ask(Command.DMA_UNMAP, unmap)
  client.answer(reading, data)
  client.read(0x04) // may be answered before the device goes on
  t.equal(client.read(0x30), 1, 'the DMA_WRITE was never sent')
})

t.test(
  'a client that sends commands without end in place of an answer is dropped at the limit',
  async (t) => {
    const client = await copying(t)
    client.start()
    const started = performance.now()
    let end = ''
    try {
      while (performance.now() - started < 4000) {
        client.tell(Command.REGION_READ, access(0, 0x04, 4))
        client.receive()
      }
    } catch (error) {
      end = (error as { code: string }).code
    }
    t.match(end, /ERR_ACCEL_(CLOSED|SYSTEM)/, 'the server hangs up')
  },
)

t.test('a client that leaves in the middle of a transfer leaves a server that goes on', async (t) => {
  const client = await copying(t)
  client.start()
  const left = new Promise<{ event: string }>((resolve) =>
    client.server.on('message', (message) => {
      if ((message as { event: string }).event !== 'connected') resolve(message as { event: string })
    }),
  )
  client.channel.close()
  t.match(await left, { event: 'left' })
  const next = new Channel(sys.connectUnix(client.path))
  next.send({ id: 1, command: Command.VERSION, flags: 0 }, Buffer.alloc(4), timeoutMs)
  t.match(next.receive(timeoutMs), { command: Command.VERSION, flags: Flag.REPLY })
  next.close()
})

t.test('all transfers of one turn together have one limit', async (t) => {
  const client = await copying(t)
  client.start() // the server waits from now on: what follows is served meanwhile, and is due in one later turn
  for (let i = 0; i < 8; i++) client.write(0x0c, 4, 0n)
  const started = performance.now()
  t.throws(
    () => {
      for (;;) client.receive()
    },
    { code: 'ERR_ACCEL_CLOSED' },
  )
  t.ok(performance.now() - started < 2500, 'not a limit for each')
})
