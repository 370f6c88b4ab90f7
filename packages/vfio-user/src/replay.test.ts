import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Area, PciRegion } from '@uaccel/core'
import { sys } from '@uaccel/sys'
import t from 'tap'
import { Channel, closeAll } from './channel.js'
import { connectVfioUser } from './client.js'
import { Command, commandName, Flag, HEADER_BYTES } from './protocol.js'
import type { ScriptedReply } from './scripted.test.process.js'

/** See fixtures/README.md. */
interface Recording {
  peer: string
  role: 'client' | 'server' | 'both'
  messages: {
    from: 'client' | 'server'
    hex: string
    fds: { kind: 'memfd' | 'file' | 'eventfd'; size?: number }[]
  }[]
}

const fixtures = fileURLToPath(new URL('../fixtures', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'uaccel-replay-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const names = readdirSync(fixtures)
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -5))
const recording = (name: string) =>
  JSON.parse(readFileSync(join(fixtures, `${name}.json`), 'utf8')) as Recording

function parse(hex: string) {
  const bytes = Buffer.from(hex, 'hex')
  const flags = bytes.readUInt32LE(8)
  return {
    id: bytes.readUInt16LE(0),
    command: bytes.readUInt16LE(2),
    flags,
    errno: flags & Flag.ERROR ? bytes.readUInt32LE(12) : 0,
    isReply: (flags & Flag.TYPE_MASK) === Flag.REPLY,
    size: bytes.length,
    payload: bytes.subarray(HEADER_BYTES),
  }
}

/** What the devices are, read off the recordings by hand: region sizes, what may be mapped, vectors. */
const two: Area[] = [
  { offset: 0x1000, sizeBytes: 0x1000 },
  { offset: 0x3000, sizeBytes: 0x1000 },
]
const dmaDevice = {
  regions: { 0: 0x1000, 2: 0x4000, 7: 0x1000 },
  mappable: { 2: two },
  vectors: [1, 0, 4, 1, 1],
}
const servers: Record<
  string,
  { regions: Record<number, number>; mappable: Record<number, Area[]>; vectors: number[] }
> = {
  'libvfio-user-gpio': {
    regions: { 2: 0x100, 7: 0x100 },
    mappable: {},
    vectors: [1, 0, 0, 1, 1],
  },
  'libvfio-user-dma': { ...dmaDevice },
  'libvfio-user-dma-messages': { ...dmaDevice },
  'qemu-server-edu': {
    regions: { 0: 0x10_0000, 7: 0x100 },
    mappable: {},
    vectors: [1, 1, 0, 1, 1],
  },
  'libvfio-user-server-client': {
    regions: { 0: 8, 1: 0x3000, 7: 0x100 },
    mappable: {
      1: [
        { offset: 0, sizeBytes: 0x1000 },
        { offset: 0x2000, sizeBytes: 0x1000 },
      ],
    },
    vectors: [1, 0, 0, 1, 1],
  },
}

/** The recorded reply to message `index`. */
function replyTo(messages: Recording['messages'], index: number) {
  const { id, command } = parse(messages[index]!.hex)
  return messages
    .slice(index + 1)
    .map((message) => ({ ...message, ...parse(message.hex) }))
    .find(
      (message) =>
        message.from === 'server' && message.isReply && message.id === id && message.command === command,
    )
}

/** Each command of the recorded client with the reply that the recorded server gave. */
function script(messages: Recording['messages']): ScriptedReply[] {
  const entries: ScriptedReply[] = []
  messages.forEach(({ from, hex }, index) => {
    const request = parse(hex)
    if (from !== 'client' || request.isReply) return
    const answer = replyTo(messages, index)
    if (answer?.errno !== 0) return
    // a client of protocol 0.2 got 0.2; ours proposes 0.1
    if (request.command === Command.VERSION)
      answer.payload.writeUInt16LE(Math.min(answer.payload.readUInt16LE(2), 1), 2)
    const { command, payload } = request
    const key = command === Command.VERSION ? '' : payload.subarray(0, 32).toString('hex')
    entries.push({
      command,
      key,
      reply: answer.payload.toString('hex'),
      memfds: answer.fds.map(({ size }) => size ?? 0),
    })
  })
  return [
    ...entries.filter(({ command }) => command !== Command.REGION_WRITE),
    { command: Command.REGION_WRITE, key: '', reply: 'echo' },
    { command: Command.REGION_READ, key: '', reply: 'zeros' },
  ]
}

t.same(
  names.filter((name) => recording(name).role !== 'client' && !name.startsWith('qemu-client')).sort(),
  Object.keys(servers).sort(),
  'every recorded server is replayed',
)
for (const [name, wanted] of Object.entries(servers)) {
  t.test(`our client and what a server said: ${name}`, async (t) => {
    const path = join(folder, `${name}.sock`)
    const file = join(folder, `${name}.json`)
    const { messages } = recording(name)
    writeFileSync(file, JSON.stringify(script(messages)))
    const peer = fork(
      fileURLToPath(new URL('scripted.test.process.js', import.meta.url)),
      [path, `@${file}`],
      {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      },
    )
    await once(peer, 'message')
    t.teardown(() => peer.kill('SIGKILL'))
    const device = await connectVfioUser(path, { mapUnsealed: true })
    const sizes = device.regions
      .filter(({ sizeBytes }) => sizeBytes > 0)
      .map(({ index, sizeBytes }) => [index, sizeBytes])
    t.same(Object.fromEntries(sizes), wanted.regions)
    const mappable = device.regions
      .filter((region) => region.mappable.length > 0)
      .map((region) => [region.index, region.mappable])
    t.same(Object.fromEntries(mappable), wanted.mappable)
    t.same(
      Object.values(device.irqs).map(({ count }) => count),
      wanted.vectors,
    )
    for (const [index, areas] of Object.entries(wanted.mappable)) {
      for (const area of areas) device.map(Number(index), area).revoke()
    }
    const largest = largestConfigRead(messages)
    if (largest) {
      const config = new Uint8Array(largest.length)
      device.readBytes(PciRegion.CONFIG, 0, config)
      t.same(Buffer.from(config), largest)
    }
    await device.close()
  })
}

/** The bytes of the longest read from the start of config space. */
function largestConfigRead(messages: Recording['messages']): Buffer | undefined {
  return messages
    .map(({ from, hex }) => ({ from, ...parse(hex) }))
    .filter(
      ({ from, command, errno, isReply }) =>
        from === 'server' && isReply && command === Command.REGION_READ && errno === 0,
    )
    .filter(
      ({ payload }) => payload.readBigUInt64LE(0) === 0n && payload.readUInt32LE(8) === PciRegion.CONFIG,
    )
    .map(({ payload }) => payload.subarray(16))
    .sort((a, b) => b.length - a.length)[0]
}

/** Where the answers differ because our device is not the recorded one: message, and why. */
const otherDevice: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  'libvfio-user-server-client': {
    10: 'its BAR1 is mappable, of 0x3000 bytes',
    174: 'that BAR1 is written',
  },
  'qemu-client-gpio-firmware': { 42: 'it has an error interrupt' },
  'qemu-client-linux': { 54: 'it has an error interrupt' },
  'qemu-client-dma-messages': { 54: 'it has an error interrupt' },
  'qemu-client-dma-share-off': { 54: 'it has an error interrupt' },
  'qemu-client-dma-share-on': { 54: 'it has an error interrupt' },
}
const clients = names.filter((name) => recording(name).role !== 'server')
for (const name of clients) {
  t.test(`our server and what a client said: ${name}`, async (t) => {
    const path = join(folder, `${name}-client.sock`)
    const peer = fork(
      fileURLToPath(new URL('serve.test.process.js', import.meta.url)),
      [path, '--map-unsealed', '--replay'],
      {
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      },
    )
    await once(peer, 'message')
    t.teardown(() => peer.kill('SIGKILL'))
    const { messages } = recording(name)
    const channel = new Channel(sys.connectUnix(path))
    let compared = 0
    const differing: string[] = []
    for (const [index, { from, hex, fds }] of messages.entries()) {
      const request = parse(hex)
      if (from !== 'client' || request.isReply) continue
      if (request.command > Command.DEVICE_RESET) continue // migration, which we do not offer
      const sent = fds.map(({ kind, size }) => (kind === 'eventfd' ? sys.eventfd() : memfd(size ?? 0)))
      sys.sendmsg(channel.fd, [Buffer.from(hex, 'hex')], sent)
      closeAll(sent)
      if (request.flags & Flag.NO_REPLY) continue
      const reply = channel.receive(5000)
      if (!reply) throw new Error(`no reply to message ${index}, ${commandName(request.command)}`)
      closeAll(reply.fds)
      const recorded = replyTo(messages, index)
      const ours = {
        id: reply.id,
        command: reply.command,
        errno: reply.flags & Flag.ERROR ? reply.errno : 0,
        size: HEADER_BYTES + reply.payload.length,
        fds: reply.fds.length,
      }
      const theirs = {
        id: request.id,
        command: request.command,
        errno: recorded!.errno,
        size: recorded!.size,
        fds: recorded!.fds.length,
      }
      compared++
      if (request.command === Command.VERSION) {
        t.ok(
          reply.payload.readUInt16LE(2) <= request.payload.readUInt16LE(2),
          'a minor version that the client proposed',
        )
        if (name.startsWith('qemu')) {
          t.ok(ours.size <= request.size, 'not longer than the request, which is all that QEMU reads')
        }
      } else if (JSON.stringify(ours) !== JSON.stringify(theirs) && !otherDevice[name]?.[index]) {
        differing.push(
          `${index} ${commandName(request.command)} ${request.payload.subarray(0, 32).toString('hex')}: ${JSON.stringify({ ours, theirs })}`,
        )
      }
    }
    channel.close()
    t.ok(compared > 40, `${compared} replies compared`)
    t.same(differing, [], 'same status, size and descriptors as the recorded server gave')
  })
}

function memfd(size: number): number {
  const fd = sys.memfdCreate('replay')
  sys.ftruncate(fd, size)
  return fd
}
