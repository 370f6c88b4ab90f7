import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { openBuffers } from '@uaccel/accel'
import { type NodeClient, openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { Mapping, sys } from '@uaccel/sys'
import type { Handle, Uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { eventually, held, nodeFolder, settled, startServer } from './nodes.js'

t.setTimeout(300_000)

/*
 * Buffers that opens, devices and processes share, with the rules of DRM's PRIME (drivers/gpu/drm/drm_prime.c): an object that comes back
 * has the handle that it had, one that is exported twice is one file, and an import holds memory, never its exporter.
 */

const SIZE = 1 << 16
type Client = NodeClient<Uapi>

async function exported(client: Client, handle: Handle<'bo'>, kind: 'memory' | 'dmaBuf' = 'memory') {
  const { fd } = await client.common('boExport', { handle, kind, flags: {} })
  return fd!
}

const imported = (client: Client, fd: number) => client.common('boImport', { fd, flags: {} })

/** What a client sees in a buffer that it maps. */
async function seen(client: Client, handle: Handle<'bo'>): Promise<Uint8Array> {
  const { fd, sizeBytes } = await client.common('boMmap', { handle, flags: {} })
  const mapping = Mapping.map({ fd: fd!, offset: 0, sizeBytes: Number(sizeBytes) })
  sys.close(fd!)
  const bytes = new Uint8Array(mapping.window.u8)
  mapping.revoke()
  return bytes
}

/** A job that fills a buffer, which this open has under `handle`. */
async function fill(client: Client, handle: Handle<'bo'>, value: number): Promise<void> {
  const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: SIZE, pattern: 0x01010101 * value }])
  const range = { handle, access: 'write', offset: 0n, sizeBytes: BigInt(SIZE) } as const
  const signal = { fence: 0 as Handle<'fence'>, value: 0n }
  await client.common('submit', { buffers: [range], waits: [], signal, flags: {}, payload })
  await client.common('boWait', { handle, deadlineNs: process.hrtime.bigint() + 20_000_000_000n })
}

const all = (bytes: Uint8Array, value: number) => bytes.every((byte) => byte === value)

async function serve(t: Test, devices: string) {
  const folder = nodeFolder(t)
  const { process: server } = await startServer(t, devices, { folder })
  const pid = server.pid!
  return {
    server,
    npu: () => openAccel(npuUapi, 'accel0', { folder }),
    edu: () => openAccel(eduUapi, 'accel0', { folder }),
    settled: () => settled(pid),
    /** Buffer objects whose memory it holds. */
    buffers: () => held(pid).kinds['/memfd:uaccel-bo (deleted)'] ?? 0,
  }
}

t.test('two opens of a device', async (t) => {
  const { npu, settled, buffers } = await serve(t, 'npu')
  const [a, b] = [await npu(), await npu()]
  const { handle } = await a.common('boCreate', { sizeBytes: BigInt(SIZE), flags: {} })
  await fill(a, handle, 1)
  const before = await settled()
  const [fd, again] = [await exported(a, handle), await exported(a, handle)]
  t.equal(sys.identify(fd).id, sys.identify(again).id, 'one file')
  t.equal((await imported(a, fd)).handle, handle, 'its own comes back as what it is')
  const there = await imported(b, fd)
  t.same(await imported(b, again), there)
  t.same(await settled(), before, 'and no file more is held for it')
  await fill(b, there.handle, 2)
  t.ok(all(await seen(a, handle), 2))
  await a.common('boDestroy', { handle })
  await t.rejects(a.common('boInfo', { handle }), { code: 'ERR_ACCEL_CLOSED' })
  await a.close()
  await fill(b, there.handle, 3)
  t.ok(all(await seen(b, there.handle), 3), 'who made it is gone, and it goes on')
  await b.common('boDestroy', { handle: there.handle })
  t.ok(await eventually(() => buffers() === 0), 'with the last it is freed')
  await b.close()
  sys.close(fd)
  sys.close(again)
})

t.test('two devices in two processes', async (t) => {
  const [one, other] = [await serve(t, 'npu'), await serve(t, 'npu')]
  const [a, b] = [await one.npu(), await other.npu()]
  const spare = openBuffers(b)
  const target = await spare.create(SIZE)
  const { handle } = await a.common('boCreate', { sizeBytes: BigInt(SIZE), flags: {} })
  const fd = await exported(a, handle)
  const there = await imported(b, fd)
  t.same(await imported(b, fd), there, 'one handle for one memory')
  const back = await exported(b, there.handle)
  t.equal((await imported(a, back)).handle, handle, 'through another process and back it is its own')
  await fill(a, handle, 7)
  const copy = encodeJob([{ op: 'copy', x: { buffer: 0 }, y: { buffer: 1 }, length: SIZE }])
  const run = async () => {
    const ranges = [there.handle, target.handle].map((handle, i) => ({
      handle,
      access: i === 0 ? ('read' as const) : ('write' as const),
      offset: 0n,
      sizeBytes: BigInt(SIZE),
    }))
    const signal = { fence: 0 as Handle<'fence'>, value: 0n }
    await b.common('submit', { buffers: ranges, waits: [], signal, flags: {}, payload: copy })
    const deadlineNs = process.hrtime.bigint() + 20_000_000_000n
    await b.common('boWait', { handle: target.handle, deadlineNs })
  }
  await run()
  t.ok(all(target.u8, 7), 'what one device wrote the other one read')
  // References go one way: who exported dies with its server, and what was imported is not disturbed.
  one.server.kill('SIGKILL')
  await once(one.server, 'exit')
  t.equal((await a.lost).code, 'ERR_ACCEL_NO_DEVICE')
  await fill(b, there.handle, 8)
  await run()
  t.ok(all(target.u8, 8))
  sys.close(fd)
  sys.close(back)
  await Promise.all([a.close(), b.close()])
  t.ok(await eventually(() => other.buffers() === 0))
})

t.test('an NPU and an edu, which takes no jobs, in two processes', async (t) => {
  const [npus, edus] = [await serve(t, 'npu'), await serve(t, 'edu')]
  const [npu, edu] = [await npus.npu(), await edus.edu()]
  const { handle } = await edu.common('boCreate', { sizeBytes: BigInt(SIZE), flags: {} })
  const fd = await exported(edu, handle)
  const there = await imported(npu, fd)
  await fill(npu, there.handle, 9)
  t.ok(all(await seen(edu, handle), 9), 'the memory of one, written by the other')
  await t.rejects(fill(edu, handle, 1), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.same(await edu.call('factorial', { n: 5 }), { value: 120 })
  // An importer that goes takes nothing with it.
  await npu.common('boDestroy', { handle: there.handle })
  t.ok(all(await seen(edu, handle), 9))
  sys.close(fd)
  await edu.close()
  t.ok(await eventually(() => npus.buffers() === 0))
  await npu.close()
})

t.test('a dma-buf', async (t) => {
  const [one, other] = [await serve(t, 'npu'), await serve(t, 'npu')]
  const [a, b, c] = [await one.npu(), await one.npu(), await other.npu()]
  const { handle } = await a.common('boCreate', { sizeBytes: BigInt(SIZE), flags: {} })
  const asDmaBuf = exported(a, handle, 'dmaBuf')
  if (existsSync('/dev/udmabuf')) {
    const fd = await asDmaBuf
    t.equal((await imported(a, fd)).handle, handle)
    const there = await imported(b, fd)
    await fill(b, there.handle, 4)
    t.ok(all(await seen(a, handle), 4))
    await t.rejects(imported(c, fd), { code: 'ERR_ACCEL_UNSUPPORTED', details: { exporter: 'udmabuf' } })
    sys.close(fd)
  } else {
    await t.rejects(asDmaBuf, { code: 'ERR_ACCEL_UNSUPPORTED', message: /udmabuf/ })
  }
  await Promise.all([a.close(), b.close(), c.close()])
})
