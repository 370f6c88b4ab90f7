import { closeSync, existsSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { abi, createSealedMemory, EventFd, Mapping, sys } from '@uaccel/sys'
import t from 'tap'
import { MemoryTransport } from './memory-transport.test.helper.js'
import { bo, codeOf, createBo, held, inMs, jobOf, send, toy, toyUapi, turn } from './work.test.helper.js'

type Client = Parameters<typeof send>[0]

const exported = async (client: Client, handle: number, kind: 'memory' | 'dmaBuf' = 'memory') =>
  (await send(client, 'boExport', { handle: bo(handle), kind, flags: {} })).fd!
const imported = (client: Client, fd: number | null) => send(client, 'boImport', { fd, flags: {} })

t.test('an import is the same object: one handle in an open, the same memory in all', async (t) => {
  const before = held()
  const { open, taken, node, transport } = await toy(t)
  const [a, b] = [open(), open()]
  const handle = await createBo(a, 8192)
  const fd = await exported(a, handle)
  t.same(await imported(a, fd), { sizeBytes: 8192n, handle }, 'its own')
  const there = await imported(b, fd)
  t.same(await imported(b, fd), there)
  await send(a, 'submit', jobOf([[handle]]))
  await send(b, 'submit', jobOf([[there.handle]]))
  t.equal(taken.length, 1, 'and they take turns with it')
  taken[0]!.ranges[0]!.memory.u8[7] = 77
  taken[0]!.finish()
  await turn()
  t.equal(taken[1]!.ranges[0]!.memory.u8[7], 77)
  t.equal(taken[1]!.ranges[0]!.iova, taken[0]!.ranges[0]!.iova)
  await send(a, 'boDestroy', { handle })
  await a.close()
  taken[1]!.finish()
  await send(b, 'boWait', { handle: there.handle, deadlineNs: inMs(20_000) })
  const c = open()
  const again = await imported(c, fd)
  await b.close()
  t.equal(node.work.quarantinedBytes, 0)
  t.match(await send(c, 'boInfo', { handle: again.handle }), { sizeBytes: 8192n, jobs: 0 })
  await send(c, 'boDestroy', { handle: again.handle })
  t.equal(transport.mapped.size, 0)
  // The descriptor kept the memory: it comes back as somebody else's would.
  const back = await imported(c, fd)
  const { fd: view } = await send(c, 'boMmap', { handle: back.handle, flags: {} })
  const mapping = Mapping.map({ fd: view!, offset: 0, sizeBytes: 8192, label: 'test' })
  t.equal(mapping.window.u8[7], 77)
  mapping.revoke()
  await c.close()
  closeSync(view!)
  closeSync(fd)
  t.same(held(), before)
})

t.test('memory of another process: sealed, or refused', async (t) => {
  const { open } = await toy(t)
  const client = open()
  const before = held()
  const { fd: good } = createSealedMemory('other', 8192)
  const { handle, sizeBytes } = await imported(client, good)
  t.equal(sizeBytes, 8192n)
  await send(client, 'boDestroy', { handle })
  const unsealed = sys.memfdCreate('other')
  sys.ftruncate(unsealed, 8192)
  const odd = sys.memfdCreate('other')
  sys.ftruncate(odd, 5000)
  const empty = sys.memfdCreate('other')
  const readonly = createSealedMemory('other', 4096)
  const unwritable = openSync(`/proc/self/fd/${readonly.fd}`, 'r')
  for (const fd of [odd, empty]) sys.addSeals(fd, abi.F_SEAL_SHRINK)
  const event = new EventFd()
  const [left, right] = sys.socketpair()
  const file = openSync('/dev/null', 'r+')
  for (const [fd, code] of [
    [unsealed, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [odd, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [empty, 'ERR_ACCEL_OUT_OF_RANGE'],
    [unwritable, 'ERR_ACCEL_PERMISSION'],
    [event.fd, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [left, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [file, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [null, 'ERR_ACCEL_INVALID_ARGUMENT'],
  ] as const) {
    t.equal(await codeOf(imported(client, fd)), code)
  }
  const { fd: large } = createSealedMemory('other', 2 << 20)
  t.equal(await codeOf(imported(client, large)), 'ERR_ACCEL_NO_MEMORY', 'and it counts')
  for (const fd of [good, unsealed, odd, empty, readonly.fd, unwritable, left, right, file, large])
    closeSync(fd)
  event.close()
  // What is no memory is closed on another thread.
  for (const end = performance.now() + 20_000; held().fds > before.fds && performance.now() < end; )
    await sleep(1)
  t.same(held(), before)
})

t.test('a dma-buf, where the kernel makes any', async (t) => {
  const { open } = await toy(t)
  const [a, b] = [open(), open()]
  const handle = await createBo(a)
  if (!existsSync('/dev/udmabuf')) {
    t.equal(await codeOf(exported(a, handle, 'dmaBuf')), 'ERR_ACCEL_UNSUPPORTED')
    return
  }
  const fd = await exported(a, handle, 'dmaBuf')
  t.equal((await imported(a, fd)).handle, handle)
  t.match(await imported(b, fd), { sizeBytes: 4096n })
  closeSync(fd)
})

t.test('two devices share a buffer, and wait for each other', async (t) => {
  const { accel, open, taken, transport } = await toy(t)
  const second = new MemoryTransport()
  await accel.add(second)
  const [a, b] = [open(), accel.open(toyUapi, 'accel1')]
  const handle = await createBo(a)
  const fd = await exported(a, handle)
  const there = await imported(b, fd)
  closeSync(fd)
  await send(a, 'submit', jobOf([[handle, 'write']]))
  await send(b, 'submit', jobOf([[there.handle, 'read']]))
  t.equal(taken.length, 1)
  t.same([transport.mapped.size, second.mapped.size], [1, 1])
  await a.close()
  t.same([transport.mapped.size, second.mapped.size], [1, 1], 'the job still has it')
  taken[0]!.finish()
  await turn()
  t.equal(taken.length, 2, 'the other device goes on')
  taken[1]!.finish()
  await accel.remove('accel0')
  t.same([transport.mapped.size, second.mapped.size], [0, 1])
  await b.close()
  t.equal(second.mapped.size, 0)
})
