import { reg32, registers } from '@uaccel/core'
import { accelError, cmd, u32, uapi } from '@uaccel/uapi'
import t from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, type AccelDevice, accelDriver, type DeviceId } from './index.js'

const thing = uapi({
  name: 'thing',
  version: 1,
  commands: { add: cmd(0x40, { in: { a: u32, b: u32 }, out: { sum: u32 } }), nothing: cmd(0x41) },
})
const commands = {
  add: ({ a, b }: { a: number; b: number }) => ({ sum: a + b }),
  nothing: async () => undefined,
}
const Bar0 = registers({ SCRATCH: reg32(0, 'rw') })

function driver(
  probe: (dev: AccelDevice) => unknown = () => {},
  { name = 'thing', ids = [{ bus: 'pci', vendor: 0x1234 }] as readonly DeviceId[] } = {},
) {
  return accelDriver({
    name,
    uapi: thing,
    ids,
    async probe(dev) {
      await probe(dev)
      return { commands }
    },
  })
}

t.test('a device is matched, probed, opened, called and removed', async (t) => {
  await using accel = new Accel()
  const log: string[] = []
  accel.on('added', ({ name }) => log.push(`added ${name}`))
  accel.on('removed', ({ name }) => log.push(`removed ${name}`))
  accel.on('lost', ({ name }) => log.push(`lost ${name}`))
  accel.register(
    driver((dev) => {
      dev.defer(() => void log.push('first'))
      dev.defer(() => void log.push('second'))
    }),
  )
  const transport = new FakeTransport()
  const node = await accel.add(transport)
  t.equal(node.name, 'accel0')
  t.same(accel.nodes, [node])
  const client = accel.open(thing, 'accel0')
  t.same(await client.call('add', { a: 1, b: 2 }), { sum: 3 })
  t.same(await client.call('nothing', {}), {})
  t.match(await client.version(), { uapi: 'thing', version: 1, commonVersion: 3 })
  t.equal(Buffer.from((await client.version()).digest).toString('hex'), thing.digest)
  t.same(await client.info(), {
    node: 'accel0',
    driver: 'thing',
    transport: 'loopback',
    address: 'fake',
    tainted: '',
    emulated: 'yes',
    bus: 'pci',
    vendor: 0x1234,
    device: 0x5678,
    classCode: 0x120000,
    iommu: '',
  })
  await accel.remove('accel0')
  t.same(log, ['added accel0', 'second', 'first', 'removed accel0'])
  t.equal(transport.closed, 1)
  t.equal(transport.listeners, 0)
  t.same(accel.nodes, [])
  t.equal((await client.lost).code, 'ERR_ACCEL_NO_DEVICE')
  await t.rejects(client.call('add', { a: 1, b: 2 }), { code: 'ERR_ACCEL_NO_DEVICE', cause: node.reason! })
  await client.close()
  await t.rejects(accel.remove('accel0'), { code: 'ERR_ACCEL_NOT_FOUND' })
})

t.test('the types of commands follow the uAPI', async (t) => {
  await using accel = new Accel()
  accel.register(driver())
  await accel.add(new FakeTransport())
  await using client = accel.open(thing, 'accel0')
  const { sum }: { readonly sum: number } = await client.call('add', { a: 4, b: 5 })
  t.equal(sum, 9)
  // @ts-expect-error b is missing
  await t.rejects(client.call('add', { a: 1 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  // @ts-expect-error b is a number
  await t.rejects(client.call('add', { a: 1, b: '1' }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  // @ts-expect-error no such command
  await t.rejects(client.call('sub', {}), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
})

t.test('the binary form is checked as it will be across processes', async (t) => {
  await using accel = new Accel()
  accel.register(driver())
  await accel.add(new FakeTransport())
  await using client = accel.open(thing, 'accel0')
  const bytes = thing.commands.add.in.encode({ a: 2, b: 3 })
  const reply = await client.dispatch(0x40, bytes)
  t.same(thing.commands.add.out.decode(reply.bytes), { sum: 5 })
  await t.rejects(client.dispatch(0x99, bytes), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
  await t.rejects(client.dispatch(0x3f, bytes), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
  await t.rejects(client.dispatch(-1, bytes), { code: 'ERR_ACCEL_UNKNOWN_COMMAND' })
  await t.rejects(client.dispatch(0x40, bytes.subarray(1)), { code: 'ERR_ACCEL_BAD_SIZE' })
  await t.rejects(client.dispatch(0x40, Uint8Array.of(...bytes, 1)), { code: 'ERR_ACCEL_RESERVED' })
  await t.rejects(client.dispatch(0x01, Uint8Array.of(1)), { code: 'ERR_ACCEL_RESERVED' })
  t.same(thing.commands.add.out.decode((await client.dispatch(0x40, Uint8Array.of(...bytes, 0))).bytes), {
    sum: 5,
  })
  // A handler's answer is checked, too: 2^32 does not fit the sum.
  await t.rejects(client.call('add', { a: 2 ** 32 - 1, b: 1 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
})

t.test('drivers match by id and by class, the most specific first', async (t) => {
  await using accel = new Accel()
  const log: string[] = []
  const named = (name: string, ids: readonly DeviceId[]) => driver(() => log.push(name), { name, ids })
  accel.register(named('any-npu', [{ bus: 'pci', classCode: 0x120000, classMask: 0xffff00 }]))
  accel.register(named('exact', [{ bus: 'pci', vendor: 0x1234, device: 0x5678 }]))
  const forget = accel.register(named('vendor', [{ bus: 'pci', vendor: 0x4321 }]))
  await accel.add(new FakeTransport())
  await accel.add(new FakeTransport({ device: 1, classCode: 0x120001 }))
  await accel.add(new FakeTransport({ vendor: 0x4321, classCode: 0x020000 }))
  t.same(log, ['exact', 'any-npu', 'vendor'])
  forget()
  const orphan = new FakeTransport({ vendor: 0x4321, classCode: 0x020000 })
  await t.rejects(accel.add(orphan), {
    code: 'ERR_ACCEL_NO_DRIVER',
    message:
      /4321:5678 class 020000; registered: any-npu \(pci \*:\* class 120000\/ffff00\); exact \(pci 1234:5678\)/,
  })
  t.equal(orphan.closed, 1)
  t.equal(orphan.listeners, 0)
  t.throws(() => accel.register(named('exact', [{ bus: 'pci', vendor: 1 }])), { code: 'ERR_ACCEL_BUSY' })
})

t.test('a minor that is asked for', async (t) => {
  await using accel = new Accel()
  accel.register(driver())
  t.equal((await accel.add(new FakeTransport(), { minor: 7 })).name, 'accel7')
  t.equal((await accel.add(new FakeTransport())).name, 'accel0')
  for (const [minor, code] of [
    [7, 'ERR_ACCEL_BUSY'],
    [-1, 'ERR_ACCEL_OUT_OF_RANGE'],
    [2 ** 20, 'ERR_ACCEL_OUT_OF_RANGE'],
    [0.5, 'ERR_ACCEL_OUT_OF_RANGE'],
  ] as const) {
    const transport = new FakeTransport()
    await t.rejects(accel.add(transport, { minor }), { code })
    t.equal(transport.closed, 1, 'and the transport is closed')
  }
  await accel.remove('accel7')
  t.equal((await accel.add(new FakeTransport(), { minor: 7 })).minor, 7)
})

t.test('the lowest free minor is given', async (t) => {
  await using accel = new Accel()
  accel.register(driver())
  const add = async () => (await accel.add(new FakeTransport())).name
  t.same(await Promise.all([add(), add(), add()]), ['accel0', 'accel1', 'accel2'])
  await accel.remove('accel1')
  t.equal(await add(), 'accel1')
  t.equal(await add(), 'accel3')
  t.throws(() => accel.open(thing, 'accel9'), { code: 'ERR_ACCEL_NOT_FOUND', message: /accel0 \(thing\)/ })
  const other = uapi({ name: 'other', version: 1, commands: {} })
  t.throws(() => accel.open(other, 'accel0'), { code: 'ERR_ACCEL_VERSION', message: /thing, not other/ })
})

t.test('a probe that throws midway leaves nothing behind', async (t) => {
  await using accel = new Accel()
  const log: string[] = []
  const cause = new Error('midway')
  let kept: AccelDevice | undefined
  accel.register(
    driver(async (dev) => {
      kept = dev
      await dev.mapBar(0, Bar0)
      dev.defer(() => void log.push('first'))
      dev.defer(() => void log.push('second'))
      throw cause
    }),
  )
  const transport = new FakeTransport()
  await t.rejects(accel.add(transport), { code: 'ERR_ACCEL_PROBE_FAILED', message: /midway/, cause })
  t.same(log, ['second', 'first'])
  t.equal(transport.closed, 1)
  t.equal(transport.listeners, 0)
  t.same(accel.nodes, [])
  await t.rejects(kept!.mapBar(0, Bar0), { code: 'ERR_ACCEL_NO_DEVICE' })
})

t.test('a probe that does not end, or forgets a command, has failed', async (t) => {
  await using accel = new Accel({ limits: { probeMs: 20 } })
  const forget = accel.register(driver(() => new Promise(() => {})))
  await t.rejects(accel.add(new FakeTransport()), {
    code: 'ERR_ACCEL_PROBE_FAILED',
    cause: { code: 'ERR_ACCEL_TIMEOUT' },
  })
  forget()
  const answers: [answer: unknown, message: RegExp][] = [
    [{ commands: { add: commands.add } }, /no handler for command nothing/],
    [{}, /no table of commands/],
    [undefined, /no table of commands/],
  ]
  for (const [answer, message] of answers) {
    const forget = accel.register(
      accelDriver({
        name: 'lazy',
        uapi: thing,
        ids: [{ bus: 'pci', vendor: 0x1234 }],
        probe: () => answer as never,
      }),
    )
    await t.rejects(accel.add(new FakeTransport()), { code: 'ERR_ACCEL_PROBE_FAILED', message })
    forget()
  }
})

t.test('a device that vanishes while it is probed', async (t) => {
  await using accel = new Accel()
  const transport = new FakeTransport()
  accel.register(driver(() => transport.vanish()))
  await t.rejects(accel.add(transport), {
    code: 'ERR_ACCEL_PROBE_FAILED',
    cause: { code: 'ERR_ACCEL_NO_DEVICE' },
  })
  t.equal(transport.closed, 1)
  t.equal(transport.listeners, 0)
})

t.test('a probe that waits for a device that vanished ends at once', async (t) => {
  await using accel = new Accel()
  const transport = new FakeTransport()
  accel.register(
    driver(() => {
      setTimeout(() => transport.vanish(), 5)
      return new Promise(() => {})
    }),
  )
  const start = performance.now()
  await t.rejects(accel.add(transport), {
    code: 'ERR_ACCEL_PROBE_FAILED',
    cause: { code: 'ERR_ACCEL_NO_DEVICE', message: /pulled out/ },
  })
  t.ok(performance.now() - start < 10_000, 'not the limit of the probe')
  t.equal(transport.closed, 1)
  t.equal(transport.listeners, 0)
})

t.test('close takes devices away that are being added', async (t) => {
  const accel = new Accel()
  let finish = () => {}
  accel.register(
    driver(
      () =>
        new Promise<void>((resolve) => {
          finish = resolve
        }),
    ),
  )
  const transport = new FakeTransport()
  const adding = accel.add(transport)
  await new Promise((resolve) => setTimeout(resolve, 5))
  const closing = accel.close()
  finish()
  await Promise.all([adding, closing])
  t.same(accel.nodes, [])
  t.equal(transport.closed, 1)
})

t.test('a transport that cannot be closed does not hide why its device was not added', async (t) => {
  await using accel = new Accel()
  const transport = new FakeTransport()
  transport.close = async () => {
    throw accelError('ERR_ACCEL_IO', 'stuck')
  }
  await t.rejects(accel.add(transport), { code: 'ERR_ACCEL_NO_DRIVER' })
  accel.register(driver())
  t.equal((await accel.add(new FakeTransport())).name, 'accel0', 'its minor is free again')
})

t.test('a device that its driver reset, and that did not come back, is lost', async (t) => {
  await using accel = new Accel()
  let kept: AccelDevice | undefined
  accel.register(
    driver((dev) => {
      kept = dev
    }),
  )
  const transport = new FakeTransport()
  const node = await accel.add(transport)
  transport.breakReset()
  const removed = new Promise<void>((resolve) => accel.once('removed', () => resolve()))
  await t.rejects(kept!.reset(), { code: 'ERR_ACCEL_WEDGED' })
  t.match(await node.lost, { code: 'ERR_ACCEL_WEDGED', message: /Restart what emulates it/ })
  t.equal(node.state, 'wedged')
  await removed
  t.equal(transport.closed, 1)
})

t.test('handlers may be methods of an object with state', async (t) => {
  await using accel = new Accel()
  class Commands {
    readonly #offset = 10
    add({ a, b }: { a: number; b: number }) {
      return { sum: a + b + this.#offset }
    }
    nothing() {
      return undefined
    }
  }
  accel.register(
    accelDriver({
      name: 'thing',
      uapi: thing,
      ids: [{ bus: 'pci', vendor: 0x1234 }],
      probe: () => ({ commands: new Commands() }),
    }),
  )
  await accel.add(new FakeTransport())
  t.same(await accel.open(thing, 'accel0').call('add', { a: 1, b: 2 }), { sum: 13 })
})

t.test('firmware comes from the search path of the subsystem', async (t) => {
  const dir = t.testdir({ acme: { 'fw.bin': 'firmware' } })
  await using accel = new Accel({ firmwarePath: [dir] })
  let text = ''
  accel.register(
    driver(async (dev) => {
      text = Buffer.from(await dev.firmware('acme/fw.bin')).toString()
      await dev.firmware('acme/other.bin')
    }),
  )
  await t.rejects(accel.add(new FakeTransport()), {
    code: 'ERR_ACCEL_PROBE_FAILED',
    cause: { code: 'ERR_ACCEL_FIRMWARE', message: new RegExp(`${dir}/acme/other.bin: ENOENT`) },
  })
  t.equal(text, 'firmware')
})

t.test('an exception in a listener reaches uncaughtException, not the caller', async (t) => {
  await using accel = new Accel()
  accel.register(driver())
  const bug = new Error('listener')
  const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
  accel.on('added', () => {
    throw bug
  })
  await accel.add(new FakeTransport())
  t.equal(await caught, bug)
})

t.test('what cannot be released is told, and does not keep the rest', async (t) => {
  await using accel = new Accel()
  const errors: unknown[] = []
  accel.on('error', (error) => errors.push(error))
  accel.register(
    driver((dev) => {
      dev.defer(() => {
        throw accelError('ERR_ACCEL_IO', 'stuck')
      })
    }),
  )
  const transport = new FakeTransport()
  await accel.add(transport)
  await accel.remove('accel0')
  t.match(errors, [{ code: 'ERR_ACCEL_IO', message: /accel0 was not released cleanly: stuck/ }])
  t.equal(transport.closed, 1)
})

t.test('a driver that cannot match is refused', async (t) => {
  const code = 'ERR_ACCEL_INVALID_ARGUMENT'
  t.throws(() => driver(undefined, { ids: [] }), { code })
  t.throws(() => driver(undefined, { name: 'Bad' }), { code })
  t.throws(() => driver(undefined, { ids: [{ bus: 'pci' }] }), { code })
})
