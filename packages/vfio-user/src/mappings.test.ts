import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DmaDomain, type DmaRegion } from '@uaccel/memory'
import { abi, sys } from '@uaccel/sys'
import t from 'tap'
import { Channel } from './channel.js'
import { connectVfioUser } from './client.js'
import { Command, DEFAULT_DMA_MAPS, decodeVersion, encodeVersion, Flag } from './protocol.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-mappings-'))
const path = join(folder, 'server.sock')
// Unsealed, as a virtual machine's memory is.
const script = fileURLToPath(new URL('serve.test.process.js', import.meta.url))
const server = fork(script, [path, '--map-unsealed'], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
t.before(() => once(server, 'message'))
t.teardown(() => {
  server.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

const PAGE = 4096
const { ENOSPC, EACCES } = constants.errno

/** What a process holds, as the kernel counts it. */
const held = (pid: number | undefined, name: string) => ({
  fds: readdirSync(`/proc/${pid}/fd`).length,
  mappings: readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes(`/memfd:${name}`)).length,
})

/** A client behind a virtual IOMMU: a DMA_MAP for each page, with a descriptor of the guest's memory, sent without waiting. */
class Guest {
  readonly channel = new Channel(sys.connectUnix(path))
  readonly memory: number
  readonly maxDmaMaps: number
  #due = 0

  constructor(name: string, pages: number) {
    this.memory = sys.memfdCreate(name)
    sys.ftruncate(this.memory, pages * PAGE)
    this.channel.send({ id: 0, command: Command.VERSION, flags: 0 }, encodeVersion(0, {}), 5000)
    this.maxDmaMaps = decodeVersion(this.channel.receive(5000)!.payload).capabilities.maxDmaMaps
  }

  map(iova: bigint, page: number, fd = this.memory, flags = 3): number[] {
    return this.#send(Command.DMA_MAP, 8, [BigInt(page * PAGE), iova, BigInt(PAGE)], flags, [fd])
  }

  unmap(iova: bigint, sizeBytes = BigInt(PAGE), flags = 0): number[] {
    return this.#send(Command.DMA_UNMAP, 8, [iova, sizeBytes], flags, [])
  }

  /** Answers the errnos of all replies that were due. */
  flush(): number[] {
    const errnos: number[] = []
    for (; this.#due > 0; this.#due--) {
      const reply = this.channel.receive(5000)
      if (!reply) throw new Error('no reply')
      errnos.push(reply.flags & Flag.ERROR ? reply.errno : 0)
    }
    return errnos
  }

  close() {
    this.channel.close()
    sys.close(this.memory)
  }

  #send(command: number, at: number, words: bigint[], flags: number, fds: number[]): number[] {
    const payload = Buffer.alloc(at + 8 * words.length)
    payload.writeUInt32LE(payload.length, 0)
    payload.writeUInt32LE(flags, 4)
    words.forEach((word, i) => {
      payload.writeBigUInt64LE(word, at + 8 * i)
    })
    this.channel.send({ id: this.#due++, command, flags: 0, fds }, payload, 5000)
    return this.#due === 64 ? this.flush() : []
  }
}

const zeros = (errnos: number[]) => errnos.every((errno) => errno === 0)

t.test('10,000 pages of a guest, each with a descriptor, cost one mapping', async (t) => {
  const before = held(server.pid, 'guest')
  const guest = new Guest('guest', 10_000)
  t.equal(guest.maxDmaMaps, 65_535)
  const iova = (page: number) => BigInt(((page * 7919) % 10_000) * 3 * PAGE)
  for (let page = 0; page < 10_000; page++)
    if (!zeros(guest.map(iova(page), page))) throw new Error('refused')
  t.ok(zeros(guest.flush()))
  t.same(
    held(server.pid, 'guest'),
    { fds: before.fds + 1, mappings: 1 },
    'one mapping, and the descriptor of the session',
  )
  guest.map(1n << 40n, 0, guest.memory, 1)
  t.ok(zeros(guest.flush()))
  t.equal(held(server.pid, 'guest').mappings, 2, 'one more for what is only read')
  for (let page = 0; page < 10_000; page++) guest.unmap(iova(page))
  t.ok(zeros(guest.flush()))
  t.equal(held(server.pid, 'guest').mappings, 1)
  guest.unmap(0n, 0n, 2)
  t.ok(zeros(guest.flush()), 'all')
  t.equal(held(server.pid, 'guest').mappings, 0)
  guest.close()
})

t.test('a guest has no more mappings than were agreed on', async (t) => {
  const guest = new Guest('full', 16)
  for (let i = 0; i < DEFAULT_DMA_MAPS; i++) {
    if (!zeros(guest.map(BigInt(i) * 8192n, i % 16))) throw new Error(`refused before ${i}`)
  }
  t.ok(zeros(guest.flush()), `${DEFAULT_DMA_MAPS} are taken`)
  guest.map(1n << 40n, 0)
  guest.map(1n << 40n, 0)
  t.same(guest.flush(), [ENOSPC, ENOSPC])
  guest.unmap(8192n)
  guest.map(1n << 40n, 0)
  t.same(guest.flush(), [0, 0], 'one is free again')
  t.equal(held(server.pid, 'full').mappings, 1)
  guest.close()
})

t.test('a guest that maps and unmaps for ever leaves nothing', async (t) => {
  const guest = new Guest('churn', 64)
  const before = held(server.pid, 'churn')
  for (let i = 0; i < 10_000; i++) {
    guest.map(0x1000n, i % 64)
    guest.unmap(0n, 1n << 32n)
  }
  t.ok(zeros(guest.flush()))
  t.same(held(server.pid, 'churn'), before)
  guest.close()
})

t.test('a page that a guest may only read is not written through another', async (t) => {
  const guest = new Guest('guarded', 4)
  const reading = sys.open(`/proc/self/fd/${guest.memory}`, abi.O_RDONLY)
  guest.map(0n, 0)
  guest.map(0x1000n, 1, reading, 3)
  guest.map(0x1000n, 1, reading, 1)
  t.same(guest.flush(), [0, EACCES, 0])
  sys.close(reading)
  guest.close()
})

t.test('10,000 small buffers of a driver cost few mappings, on both sides', async (t) => {
  const device = await connectVfioUser(path)
  t.equal(device.dma.maxMappings, 65_535)
  const domain = new DmaDomain(device.dma)
  const before = { ours: held(process.pid, 'uaccel'), theirs: held(server.pid, 'uaccel') }
  const regions: DmaRegion[] = []
  for (let i = 0; i < 10_000; i++) regions.push(domain.alloc(1024 + 64 * (i % 32), { name: 'small' }))
  t.ok(domain.mappings <= 32, `${domain.mappings} mappings`)
  t.equal(held(server.pid, 'uaccel').mappings - before.theirs.mappings, domain.mappings)
  t.equal(held(server.pid, 'uaccel').fds, before.theirs.fds, 'descriptors are closed at once')
  for (const region of regions) region.free()
  for (let i = 0; i < 10_000; i++) domain.alloc(4096).free()
  t.ok(domain.mappings <= 1, 'one arena is kept for the next')
  domain.destroy()
  t.same({ ours: held(process.pid, 'uaccel'), theirs: held(server.pid, 'uaccel') }, before)
  await device.close()
})
