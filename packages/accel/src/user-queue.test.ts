import { DmaBuffer, openQueue } from '@uaccel/memory'
import { abi, closeAll, createSealedMemory, EventFd, sys } from '@uaccel/sys'
import { accelError, cmd, commonUapi, type Handle, uapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import {
  Accel,
  type AccelClient,
  type AccelOptions,
  accelDriver,
  openBuffers,
  type QueueRequest,
} from './index.js'
import { MemoryTransport } from './memory-transport.test.helper.js'
import { bo, codeOf, createBo, held, send, turn } from './work.test.helper.js'

const queueUapi = uapi({ name: 'queues', version: 1, commands: { nothing: cmd(0x40) } })
type Client = AccelClient<typeof queueUapi>

/** A queue that the driver has made, and whose end the test decides. */
interface Made extends QueueRequest {
  readonly rings: DmaBuffer
  kicks: number
  stops: number
}

/** A driver whose queues are memory. */
async function toyQueues(t: Test, { bounded = true, ...options }: AccelOptions & { bounded?: boolean } = {}) {
  const accel = new Accel({
    quotas: { openObjects: 6, openBytes: 1 << 20, nodeObjects: 40, nodeBytes: 3 << 20, openJobs: 8 },
    ...options,
    limits: { settleMs: 60, recoverMs: 200, ...options.limits },
  })
  const made: Made[] = []
  const log: string[] = []
  const acts = {
    create: async () => {},
    stop: async (): Promise<void> => {},
    recover: async (): Promise<void> => {},
    kick: () => {},
  }
  accel.on('error', ({ message }) => log.push(message))
  accel.register(
    accelDriver({
      name: 'queues',
      uapi: queueUapi,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      async probe(dev) {
        void dev.dma.mappings
        const doorbell = createSealedMemory('toy-doorbells', 8192)
        dev.defer(() => sys.close(doorbell.fd))
        return {
          commands: { nothing: () => undefined },
          queues: {
            bounded,
            async create(request) {
              await acts.create()
              const rings = DmaBuffer.create(4096, { name: 'toy-rings' })
              const queue: Made = { ...request, rings, kicks: 0, stops: 0 }
              made.push(queue)
              return {
                rings: { fd: rings.fd, offset: 64, sizeBytes: 512 },
                doorbell: { fd: doorbell.fd, offset: 4096, sizeBytes: 4096 },
                payload: Uint8Array.of(1, 2, 3),
                kick: () => {
                  queue.kicks++
                  acts.kick()
                },
                async stop() {
                  queue.stops++
                  await acts.stop()
                  rings.destroy()
                },
              }
            },
          },
          recover: () => {
            log.push('recover')
            return acts.recover()
          },
        }
      },
    }),
  )
  const node = await accel.add(new MemoryTransport())
  t.teardown(() => accel.close())
  return { accel, node, made, log, acts, open: () => accel.open(queueUapi, 'accel0') }
}

const queueOf = (number: number) => number as Handle<'queue'>

const createWhole = (
  client: Client,
  { handles = [] as readonly number[], entries = 4, sizeBytes = 4096 } = {},
) =>
  send(client, 'queueCreate', {
    buffers: handles.map((handle) => ({
      handle: bo(handle),
      access: 'read' as const,
      offset: 0n,
      sizeBytes: BigInt(sizeBytes),
    })),
    entries,
    flags: {},
    payload: Uint8Array.of(9),
  })

/** The same for tests that do not look at what it gives. */
async function create(client: Client, options: Parameters<typeof createWhole>[1] = {}) {
  const { handle, rings, doorbell, kick } = await createWhole(client, options)
  closeAll([rings!, doorbell!, kick!])
  return { handle }
}

/** Waits for something that another turn of the event loop brings. */
async function until(check: () => boolean): Promise<void> {
  for (let turns = 0; !check() && turns < 10_000; turns++) await turn()
}

t.test('a queue is made, filled, kicked, told of and stopped', async (t) => {
  const { open, made } = await toyQueues(t)
  const before = held()
  const client = open()
  const memory = await openBuffers(client).create(4096)
  const queue = await openQueue(client, {
    entries: 8,
    buffers: [{ buffer: memory, access: 'write', offset: 16, sizeBytes: 32 }],
    payload: Uint8Array.of(5),
  })
  const [{ ranges, entries, payload, label, rings, notify }] = made as [Made]
  t.match({ entries, payload: [...payload], label }, { entries: 8, payload: [5], label: /^queue 1 of open/ })
  t.match(ranges, [{ access: 'write', offset: 16, sizeBytes: 32, memory: { sizeBytes: 4096 } }])
  t.same([...queue.payload], [1, 2, 3])
  t.equal(queue.rings.sizeBytes, 512)
  queue.rings.u8[0] = 42
  t.equal(rings.u8[64], 42)
  queue.doorbell.write32(8, 7)
  let events = 0
  await queue.onEvent(() => events++)
  queue.kick()
  await until(() => made[0]!.kicks > 0)
  t.equal(made[0]!.kicks, 1)
  notify()
  await until(() => events > 0)
  t.equal(events, 1)
  await memory.destroy()
  t.equal(ranges[0]!.memory.destroyed, false, 'its memory stays while the queue is there')
  await queue.close()
  await queue.close()
  t.equal(made[0]!.stops, 1)
  t.equal(ranges[0]!.memory.destroyed, true)
  notify()
  queue.kick()
  queue.doorbell.write32(8, 9)
  t.equal(queue.rings.u8[0], 42, 'and can be read')
  queue.unmap()
  t.throws(() => queue.rings.u8, { code: 'ERR_ACCEL_REVOKED' })
  await client.close()
  t.same(held(), before)
})

t.test('what is handed out can neither shrink nor grow', async (t) => {
  const { open } = await toyQueues(t)
  const client = open()
  const { rings, doorbell, kick, handle } = await createWhole(client)
  for (const fd of [rings!, doorbell!]) {
    t.equal(sys.getSeals(fd) & (abi.F_SEAL_SHRINK | abi.F_SEAL_GROW), abi.F_SEAL_SHRINK | abi.F_SEAL_GROW)
    t.throws(() => sys.ftruncate(fd, 0), { code: 'ERR_ACCEL_PERMISSION' })
    sys.close(fd)
  }
  sys.close(kick!)
  await send(client, 'queueDestroy', { handle })
})

t.test('every refusal has its code, and leaves nothing', async (t) => {
  const { open, made } = await toyQueues(t)
  const client = open()
  const mine = await createBo(client)
  const gone = await createBo(client)
  await send(client, 'boDestroy', { handle: gone })
  const { handle: fence } = await send(client, 'fenceCreate', { initialValue: 0n, flags: {} })
  const before = held()
  t.equal(await codeOf(create(client, { entries: 0 })), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await codeOf(create(client, { handles: [99] })), 'ERR_ACCEL_NOT_FOUND', 'foreign')
  t.equal(await codeOf(create(client, { handles: [fence] })), 'ERR_ACCEL_NOT_FOUND', 'another kind')
  t.equal(await codeOf(create(client, { handles: [gone] })), 'ERR_ACCEL_CLOSED')
  t.equal(await codeOf(create(client, { handles: [mine], sizeBytes: 0 })), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await codeOf(create(client, { handles: [mine], sizeBytes: 4097 })), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await codeOf(create(client, { handles: Array(33).fill(mine) })), 'ERR_ACCEL_OUT_OF_RANGE')
  const command = commonUapi.commands.queueCreate
  const raw = (field: string, at: number) => {
    const bytes = command.in.encode({ buffers: [], entries: 4, flags: {}, payload: new Uint8Array() })
    bytes[command.in.layout.fields.find(({ name }) => name === field)!.offset + at] = 1
    return codeOf(client.dispatch(command.number, bytes))
  }
  t.equal(await raw('flags', 0), 'ERR_ACCEL_BAD_FLAGS')
  t.equal(await raw('payload', 4), 'ERR_ACCEL_RESERVED', 'bytes behind the payload')
  for (const name of ['queueDestroy', 'queueEvent'] as const) {
    const rest = name === 'queueEvent' ? { flags: {} } : {}
    const call = (handle: number) => codeOf(send(client, name, { handle: queueOf(handle), ...rest } as never))
    t.equal(await call(0), 'ERR_ACCEL_NOT_FOUND')
    t.equal(await call(mine), 'ERR_ACCEL_NOT_FOUND')
    t.equal(await call(gone), 'ERR_ACCEL_CLOSED')
  }
  t.equal(made.length, 0)
  t.same(held(), before)
})

t.test('a driver without queues, or one that has none left', async (t) => {
  const accel = new Accel()
  t.teardown(() => accel.close())
  const commands = { nothing: () => undefined }
  accel.register(
    accelDriver({
      name: 'none',
      uapi: queueUapi,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => ({ commands }),
    }),
  )
  await accel.add(new FakeTransport())
  t.equal(await codeOf(create(accel.open(queueUapi, 'accel0'))), 'ERR_ACCEL_UNSUPPORTED')

  const { open, acts, node } = await toyQueues(t)
  const client = open()
  acts.create = async () => {
    throw accelError('ERR_ACCEL_BUSY', 'none left')
  }
  const handle = await createBo(client)
  t.equal(await codeOf(create(client, { handles: [handle] })), 'ERR_ACCEL_BUSY')
  await open().close()
  await send(client, 'boDestroy', { handle })
  t.equal(node.work.quarantinedBytes, 0)
})

t.test('a queue takes the device for its open alone', async (t) => {
  const { open, accel } = await toyQueues(t)
  const [client, other] = [open(), open()]
  t.equal(await codeOf(create(client)), 'ERR_ACCEL_BUSY', 'somebody else is there')
  await other.close()
  const { handle } = await create(client)
  const more = await create(client)
  t.throws(open, { code: 'ERR_ACCEL_BUSY', message: /this process/, details: { open: 1 } })
  await send(client, 'queueDestroy', { handle })
  t.throws(open, { code: 'ERR_ACCEL_BUSY' })
  await send(client, 'queueDestroy', more)
  await open().close()
  await create(client)
  await client.close()
  await open().close()
  t.equal(accel.nodes.length, 1)
})

t.test('while the queue of one who left is being stopped, others are told to try again', async (t) => {
  const { open, acts } = await toyQueues(t)
  let stopped = () => {}
  acts.stop = () =>
    new Promise((resolve) => {
      stopped = resolve
    })
  const client = open()
  await create(client)
  const closing = client.close()
  await turn()
  t.throws(open, { code: 'ERR_ACCEL_AGAIN' })
  stopped()
  await closing
  await open().close()
})

t.test('a device that does not hold queues to their memory: nothing else may be mapped', async (t) => {
  const { open, accel, made } = await toyQueues(t, { bounded: false })
  const client = open()
  const [a, b] = [await createBo(client), await createBo(client)]
  const both = await create(client, { handles: [a, b] })
  await send(client, 'queueDestroy', both)
  t.equal(await codeOf(create(client, { handles: [a] })), 'ERR_ACCEL_BUSY', 'b is mapped')
  await send(client, 'boDestroy', { handle: b })
  t.same((await create(client, { handles: [a] })).handle > 0, true)
  t.equal(made.length, 2)
  t.equal(accel.nodes.length, 1)
})

t.test('queues count for the quota', async (t) => {
  const { open } = await toyQueues(t)
  const client = open()
  const handles: Handle<'queue'>[] = []
  for (let i = 0; i < 6; i++) handles.push((await create(client)).handle)
  t.equal(await codeOf(create(client)), 'ERR_ACCEL_NO_MEMORY')
  await send(client, 'queueDestroy', { handle: handles[0]! })
  await create(client)
  await client.close()
})

t.test('a queue that is not stopped: its memory waits for the recovery', async (t) => {
  const { open, acts, log, node } = await toyQueues(t)
  const client = open()
  const handle = await createBo(client)
  await create(client, { handles: [handle] })
  acts.stop = async () => {
    throw accelError('ERR_ACCEL_TIMEOUT', 'it does not stop')
  }
  let recovered = () => {}
  acts.recover = () =>
    new Promise((resolve) => {
      recovered = resolve
    })
  await client.close()
  t.match(log, [/was not stopped cleanly/, 'recover'])
  t.equal(node.work.quarantinedBytes, 4096)
  t.throws(open, { code: 'ERR_ACCEL_AGAIN' })
  recovered()
  await until(() => node.work.quarantinedBytes === 0)
  t.equal(node.work.quarantinedBytes, 0)
  await open().close()
})

t.test('who leaves, or gives up, while the queue is being made', async (t) => {
  const { open, acts, made } = await toyQueues(t)
  const before = held()
  let go = () => {}
  acts.create = () =>
    new Promise((resolve) => {
      go = resolve
    })
  const leaving = open()
  const code = codeOf(create(leaving))
  await turn()
  const closing = leaving.close()
  go()
  t.equal(await code, 'ERR_ACCEL_CLOSED')
  await closing
  t.equal(made[0]!.stops, 1)

  const client = open()
  const command = commonUapi.commands.queueCreate
  const bytes = command.in.encode({ buffers: [], entries: 1, flags: {}, payload: new Uint8Array() })
  const abort = new AbortController()
  const withdrawn = codeOf(client.dispatch(command.number, bytes, { signal: abort.signal }))
  await turn()
  abort.abort()
  t.equal(await withdrawn, 'ERR_ACCEL_ABORTED')
  go()
  await until(() => made.length === 2 && made[1]!.stops === 1)
  t.equal(made[1]!.stops, 1)
  await open().close()
  await client.close()
  t.same(held(), before)
})

t.test('a queue whose descriptors cannot be given is stopped, and keeps nobody out', async (t) => {
  const { open, made } = await toyQueues(t)
  const before = held()
  const client = open()
  const { dup } = sys
  Object.assign(sys, {
    dup: () => {
      throw accelError('ERR_ACCEL_NO_MEMORY', 'no descriptor left')
    },
  })
  try {
    t.equal(await codeOf(create(client)), 'ERR_ACCEL_NO_MEMORY')
  } finally {
    Object.assign(sys, { dup })
  }
  t.equal(made[0]!.stops, 1)
  await open().close()
  await client.close()
  t.same(held(), before)
})

t.test('a kick that the driver fails at is told, and does not end the process', async (t) => {
  const { open, log, acts } = await toyQueues(t)
  acts.kick = () => {
    throw accelError('ERR_ACCEL_REVOKED', 'in the middle of a reset')
  }
  const client = open()
  const { handle, rings, doorbell, kick } = await createWhole(client)
  const event = new EventFd(sys, kick!)
  event.signal()
  await until(() => log.length > 0)
  t.match(log, [/queue 1 of open .* was not woken: in the middle of a reset/])
  await send(client, 'queueDestroy', { handle })
  event.close()
  closeAll([rings!, doorbell!])
  await client.close()
})

t.test('a client that fills the eventfds, or makes them blocking, holds nobody up', async (t) => {
  const { open, made } = await toyQueues(t)
  const client = open()
  const { handle, rings, doorbell, kick } = await createWhole(client)
  const { fd } = await send(client, 'queueEvent', { handle, flags: {} })
  const again = await send(client, 'queueEvent', { handle, flags: {} })
  for (const each of [fd!, kick!]) {
    const event = new EventFd(sys, each)
    event.signal(2n ** 64n - 2n)
    sys.setNonblocking(each, false)
  }
  for (let i = 0; i < 10; i++) made[0]!.notify()
  await until(() => made[0]!.kicks > 0)
  t.equal(made[0]!.kicks, 1, 'however often it was signalled')
  t.equal(await codeOf(send(client, 'version', {})), 'accepted')
  for (const each of [fd!, again.fd!, kick!, rings!, doorbell!]) sys.close(each)
  await client.close()
})
