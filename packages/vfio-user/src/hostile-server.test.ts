import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { DmaBuffer, DmaDomain, type Iova } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import t from 'tap'
import { connectVfioUser } from './client.js'
import { Command, encodeVersion } from './protocol.js'
import type { ScriptedReply } from './scripted.test.process.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-hostile-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

type Told = { command: number; flags: number; errno: number; payload: string; fds: number }
let servers = 0
async function scripted(script: ScriptedReply[]) {
  const path = join(folder, `${servers++}.sock`)
  const process = fork(
    fileURLToPath(new URL('scripted.test.process.js', import.meta.url)),
    [path, JSON.stringify(script)],
    {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    },
  )
  await once(process, 'message')
  const told: Told[] = []
  process.on('message', (message) => told.push(message as Told))
  t.teardown(() => end(process))
  return { path, process, told }
}

async function end(process: ChildProcess) {
  if (process.exitCode !== null || process.signalCode !== null) return
  process.kill('SIGKILL')
  await once(process, 'exit')
}

const hex = (...values: (number | bigint)[]) =>
  values
    .map((value) => {
      const bytes = Buffer.alloc(typeof value === 'bigint' ? 8 : 4)
      if (typeof value === 'bigint') bytes.writeBigUInt64LE(value)
      else bytes.writeUInt32LE(value)
      return bytes.toString('hex')
    })
    .join('')

const version: ScriptedReply = {
  command: Command.VERSION,
  key: '',
  reply: encodeVersion(1, { maxMessageFds: 8, maxTransferBytes: 1 << 20 }).toString('hex'),
}
const info: ScriptedReply = { command: Command.DEVICE_GET_INFO, key: '', reply: hex(16, 3, 9, 5) }
const region = (
  index: number,
  flags: number,
  size: bigint,
  more: Partial<ScriptedReply> = {},
  caps = '',
): ScriptedReply => ({
  command: Command.DEVICE_GET_REGION_INFO,
  key: hex(32, 0, index),
  reply: hex(32 + caps.length / 2, flags, index, caps ? 32 : 0, size, 0n) + caps,
  ...more,
})
const regions = [0, 1, 2, 3, 4, 5, 6, 8].map((index) => region(index, 0, 0n))
const config = region(7, 3, 256n)
const irqs: ScriptedReply[] = [0, 1, 2, 3, 4].map((index) => ({
  command: Command.DEVICE_GET_IRQ_INFO,
  key: hex(16, 0, index),
  reply: hex(16, 1, index, 1),
}))
const reads: ScriptedReply = {
  command: Command.REGION_READ,
  key: hex(4n, 7, 2),
  reply: `${hex(4n, 7, 2)}0000`,
}
const writes: ScriptedReply = { command: Command.REGION_WRITE, key: hex(4n, 7, 2), reply: hex(4n, 7, 2) }
const maps: ScriptedReply = { command: Command.DMA_MAP, key: '', reply: '' }
const unmaps: ScriptedReply = { command: Command.DMA_UNMAP, key: '', reply: '' }
/** BAR0 as an I/O BAR, which nobody places. */
const bar0: ScriptedReply = { command: Command.REGION_READ, key: hex(16n, 7, 4), reply: hex(16n, 7, 4, 1) }
const good = [version, info, ...regions, config, ...irqs, reads, writes, maps, unmaps, bar0]
/** The good script with some answers in front of its own. */
const but = (...wrong: ScriptedReply[]) => [...wrong, ...good]

const openFds = () => readdirSync('/proc/self/fd').length
const memfds = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('scripted')).length

t.test('a server whose device is gone says so before it hangs up', async (t) => {
  const { path } = await scripted(
    but({ command: Command.REGION_READ, key: hex(0x10n, 7, 4).slice(0, 16 + 8 + 8), reply: '', errno: 19 }),
  )
  const device = await connectVfioUser(path)
  const lost = new Promise<AccelError>((resolve) => device.onLost(resolve))
  t.throws(() => device.read(7, 0x10, 4), { code: 'ERR_ACCEL_NO_DEVICE', cause: { errno: 'ENODEV' } })
  t.match(await lost, { code: 'ERR_ACCEL_NO_DEVICE', message: /has lost its device/ })
  await device.close()
})

t.test('the script itself is a server', async (t) => {
  const { path } = await scripted(good)
  const device = await connectVfioUser(path)
  t.equal(device.regions[7]?.sizeBytes, 256)
  t.equal(device.irqs.msix.count, 1)
  await device.close()
})

const sparse = (count: number, areas: bigint[], { next = 0, id = 1 } = {}) =>
  hex(id | (1 << 16), next, count, 0, ...areas)
const handshakes: [string, ScriptedReply[], string][] = [
  ['another major version', but({ ...version, reply: '01000000' }), 'ERR_ACCEL_VERSION'],
  ['a minor version above ours', but({ ...version, reply: '00000900' }), 'ERR_ACCEL_VERSION'],
  ['VERSION of 2 bytes', but({ ...version, reply: '0000' }), 'ERR_ACCEL_PROTOCOL'],
  ['VERSION refused', but({ ...version, reply: '', errno: 22 }), 'ERR_ACCEL_IO'],
  [
    'capabilities that are a string',
    but({ ...version, reply: `00000000${Buffer.from('{"capabilities":""}\0').toString('hex')}` }),
    'ERR_ACCEL_PROTOCOL',
  ],
  ['an end in mid-handshake', but({ ...info, reply: 'close' }), 'ERR_ACCEL_NO_DEVICE'],
  ['silence in mid-handshake', but({ ...info, reply: null }), 'ERR_ACCEL_NO_DEVICE'],
  ['another id', but({ ...info, header: { id: 999 } }), 'ERR_ACCEL_NO_DEVICE'],
  ['another command', but({ ...info, header: { command: 5 } }), 'ERR_ACCEL_NO_DEVICE'],
  ['GET_INFO of 8 bytes', but({ ...info, reply: hex(16, 3) }), 'ERR_ACCEL_PROTOCOL'],
  ['no PCI device', but({ ...info, reply: hex(16, 1, 9, 5) }), 'ERR_ACCEL_UNSUPPORTED'],
  [
    'REGION_INFO of another region',
    but({ ...region(0, 3, 4096n), reply: hex(32, 3, 5, 0, 4096n, 0n) }),
    'ERR_ACCEL_PROTOCOL',
  ],
  ['a region of 2^60 bytes', but(region(0, 3, 1n << 60n)), 'ERR_ACCEL_PROTOCOL'],
  ['a file shorter than its region', but(region(0, 7, 8192n, { memfds: [-4096] })), 'ERR_ACCEL_PROTOCOL'],
  [
    'areas beyond the region',
    but(region(0, 15, 8192n, { memfds: [-8192], key: hex(32, 0, 0) }, sparse(1, [4096n, 8192n]))),
    'ERR_ACCEL_PROTOCOL',
  ],
  [
    'more areas than bytes',
    but(region(0, 15, 8192n, { memfds: [-8192] }, sparse(1000, [0n, 4096n]))),
    'ERR_ACCEL_PROTOCOL',
  ],
  [
    'a chain that turns in itself',
    but(region(0, 15, 8192n, { memfds: [-8192] }, sparse(0, [], { id: 9, next: 32 }))),
    'ERR_ACCEL_PROTOCOL',
  ],
  [
    'a chain that leaves the reply',
    but(region(0, 15, 8192n, { memfds: [-8192] }, sparse(0, [], { id: 9, next: 4000 }))),
    'ERR_ACCEL_PROTOCOL',
  ],
  ['IRQ_INFO of 4 bytes', but({ ...irqs[2]!, reply: hex(16) }), 'ERR_ACCEL_PROTOCOL'],
  [
    'bytes of another size than asked for',
    but({ ...reads, reply: `${hex(4n, 7, 2)}000000` }),
    'ERR_ACCEL_PROTOCOL',
  ],
  [
    "a command that is not a server's",
    but({ ...info, before: [hex((7 << 16) | 3, 16, 0, 0)] }),
    'ERR_ACCEL_NO_DEVICE',
  ],
  ['an oversized message', but({ ...info, before: [hex(4 << 16, 0x7fffffff, 1, 0)] }), 'ERR_ACCEL_NO_DEVICE'],
]
for (const [what, script, code] of handshakes) {
  t.test(`a server that answers wrongly: ${what}`, async (t) => {
    const { path, process } = await scripted(script)
    const before = { fds: openFds(), maps: memfds() }
    // Those who wait in vain say so soon; the others must not be overtaken by the limit on a busy machine.
    const timeoutMs = code === 'ERR_ACCEL_NO_DEVICE' ? 200 : 20_000
    await t.rejects(connectVfioUser(path, { timeoutMs }), { code })
    await delay(20)
    t.same({ fds: openFds(), maps: memfds() }, before, 'nothing is left')
    await end(process)
  })
}

t.test('descriptors that nobody asked for are closed', async (t) => {
  const { path } = await scripted(
    but({ ...info, memfds: [4096, 4096] }, { ...reads, memfds: [4096] }, { ...irqs[0]!, memfds: [4096] }),
  )
  const before = openFds()
  const device = await connectVfioUser(path)
  const open = openFds()
  for (let i = 0; i < 10; i++) device.read(7, 4, 2)
  t.equal(openFds(), open)
  await device.close()
  await delay(20)
  t.equal(openFds(), before)
})

t.test('a server that asks for memory without end and never answers is given up at the limit', async (t) => {
  const asks = hex(1 | (11 << 16), 32, 0, 0, 0n, 4n)
  const { path } = await scripted(but({ ...reads, key: hex(6n, 7, 2), before: [asks], endless: true }))
  const device = await connectVfioUser(path, { timeoutMs: 300 })
  t.throws(() => device.readBytes(7, 6, new Uint8Array(2)), {
    code: 'ERR_ACCEL_NO_DEVICE',
    cause: { code: 'ERR_ACCEL_TIMEOUT' },
  })
  await device.close()
})

t.test('a region file that its server can shrink is not mapped unless asked for', async (t) => {
  const { path } = await scripted(but(region(0, 7, 4096n, { memfds: [4096] })))
  const safe = await connectVfioUser(path)
  t.same(safe.regions[0]?.mappable, [])
  await safe.close()
  const brave = await connectVfioUser(path, { mapUnsealed: true })
  t.same(brave.regions[0]?.mappable, [{ offset: 0, sizeBytes: 4096 }])
  await brave.close()
})

t.test('a region file is handed on where it is sealed, and is that region and no more', async (t) => {
  const file = async (memfds: number[], { caps = '', offset = 0n, mapUnsealed = false } = {}) => {
    const reply = `${hex(32 + caps.length / 2, 7, 0, caps ? 32 : 0, 4096n, offset)}${caps}`
    const { path } = await scripted(but(region(0, 7, 4096n, { memfds, reply })))
    const transport = await connectVfioUser(path, { mapUnsealed })
    try {
      const { sizeBytes } = sys.fstat(transport.regionFile!(0, { offset: 0, sizeBytes: 4096 }).fd)
      return sizeBytes
    } catch (error) {
      return (error as AccelError).code
    } finally {
      await transport.close()
    }
  }
  t.equal(await file([-4096]), 4096)
  t.equal(await file([4096], { mapUnsealed: true }), 'ERR_ACCEL_UNSUPPORTED', 'the server can shrink it')
  t.equal(await file([-8192]), 'ERR_ACCEL_UNSUPPORTED', 'it holds more')
  t.equal(await file([-8192], { offset: 4096n }), 'ERR_ACCEL_UNSUPPORTED')
  t.equal(await file([]), 'ERR_ACCEL_UNSUPPORTED', 'there is none')
})

t.test('DMA messages reach what was mapped, as it was mapped, and nothing else', async (t) => {
  const dmaRead = (id: number, iova: bigint, count: bigint) => hex(id | (11 << 16), 32, 0, 0, iova, count)
  const dmaWrite = (id: number, iova: bigint, word: number) => hex(id | (12 << 16), 36, 0, 0, iova, 4n, word)
  const iova = 0x20_0000n
  const asked = [
    dmaRead(1, iova + 8n, 4n),
    dmaWrite(2, iova + 4092n, 0xabcd),
    dmaRead(3, iova + 4094n, 4n),
    dmaRead(4, iova - 1n, 1n),
    dmaRead(5, (1n << 64n) - 4n, 8n),
    dmaWrite(6, 0n, 1),
  ]
  const { path, told } = await scripted(
    but({ ...reads, key: hex(6n, 7, 2), reply: `${hex(6n, 7, 2)}0000`, before: asked }),
  )
  const device = await connectVfioUser(path)
  const buffer = DmaBuffer.create(4096)
  const domain = new DmaDomain({ ...device.dma, ranges: () => [{ first: iova, last: iova + 4095n }] })
  const mapping = domain.map(buffer)
  t.equal(mapping.iova, iova)
  buffer.u32[2] = 0x12345678
  device.readBytes(7, 6, new Uint8Array(2))
  t.equal(buffer.u32[1023], 0xabcd)
  await delay(50)
  const replies = told.filter(({ flags }) => flags & 1)
  t.same(
    replies.map(({ command, errno, payload }) => [command, errno, payload]),
    [
      [11, 0, `${hex(iova + 8n, 4n)}78563412`],
      [12, 0, hex(iova + 4092n, 4n)],
      [11, 14, ''],
      [11, 14, ''],
      [11, 14, ''],
      [12, 14, ''],
    ],
  )
  buffer.destroy()
  await device.close()
})

t.test('a DMA message that is itself broken ends the session', async (t) => {
  for (const bytes of [
    hex(11 << 16, 24, 0, 0, 0n),
    hex(11 << 16, 32, 0, 0, 0n, 1n << 40n),
    hex(12 << 16, 36, 0, 0, 0n, 8n, 1),
  ]) {
    const { path, process } = await scripted(but({ ...reads, key: hex(6n, 7, 2), before: [bytes] }))
    const device = await connectVfioUser(path)
    t.throws(() => device.readBytes(7, 6, new Uint8Array(2)), {
      code: 'ERR_ACCEL_NO_DEVICE',
      cause: { code: 'ERR_ACCEL_PROTOCOL' },
    })
    await device.close()
    await end(process)
  }
})

t.test('a server that takes few DMA mappings, and does not say how many', async (t) => {
  const at = (n: number) => 0x10_0000n + BigInt(n) * 0x1000n
  /** argsz, flags, offset, address: the server refuses what the script does not have, with EINVAL. */
  const takes = (count: number) =>
    Array.from({ length: count }, (_, n) => ({ ...maps, key: hex(32, 3, 0n, at(n)) }))
  const buffer = DmaBuffer.create(4096)
  t.teardown(() => buffer.destroy())
  const { address, fd } = buffer
  const mapAll = async (taken: number) => {
    const { path } = await scripted([...takes(taken), ...good.filter((entry) => entry !== maps)])
    const device = await connectVfioUser(path)
    const map = (n: number) =>
      device.dma.map({
        iova: at(n) as Iova,
        sizeBytes: 4096,
        access: 'readwrite',
        address,
        fd,
        fdOffset: 0,
      })
    for (let n = 0; n < taken; n++) map(n)
    return { device, next: () => map(taken) }
  }
  const many = await mapAll(16)
  t.throws(many.next, {
    code: 'ERR_ACCEL_MAPPING_LIMIT',
    message: /holds 16 DMA mappings and refused one more: EINVAL/,
    details: { mappings: 16 },
    cause: { code: 'ERR_ACCEL_IO' },
  })
  many.device.dma.unmap(at(3) as Iova, 4096)
  t.throws(many.next, { code: 'ERR_ACCEL_IO' }, 'with room, it is refused for another reason')
  await many.device.close()
  const few = await mapAll(2)
  t.throws(few.next, { code: 'ERR_ACCEL_IO', message: /DMA_MAP: EINVAL/ })
  await few.device.close()
})
