import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import {
  type DeviceIdentity,
  type DeviceSource,
  latestSeqnum,
  type Overrun,
  type Uevent,
  type UeventAction,
} from '@uaccel/core'
import { accelError, type ErrorCode, uapi } from '@uaccel/uapi'
import t from 'tap'
import { FakeTransport } from './fake-transport.test.helper.js'
import { Accel, accelDriver, type DiscoverOptions, type Discovery } from './index.js'

const thing = uapi({ name: 'thing', version: 1, commands: {} })
const thingDriver = (probe: () => unknown = () => {}) =>
  accelDriver({
    name: 'thing',
    uapi: thing,
    ids: [{ bus: 'pci', vendor: 0x1234 }],
    async probe() {
      await probe()
      return { commands: {} }
    },
  })

interface Slot {
  readonly identity: DeviceIdentity
  /** What opening throws; a promise holds it up. */
  obstacle?: ErrorCode | Promise<void>
}

/** A machine with slots for devices, which announces what is done to them. */
class Machine implements DeviceSource {
  readonly name = 'machine'
  readonly subsystems = ['pci']
  readonly slots = new Map<string, Slot>()
  readonly transports: FakeTransport[] = []
  readonly log: string[] = []
  scanFails = false
  listening = 0
  #handler: ((event: Uevent | Overrun) => void) | undefined
  #seqnum = latestSeqnum() + 1e6

  readonly uevents: NonNullable<DiscoverOptions['uevents']> = (handler) => {
    this.#handler = handler
    this.listening++
    const close = () => {
      this.#handler = undefined
      this.listening--
    }
    return { close, [Symbol.dispose]: close }
  }

  scan(): DeviceIdentity[] {
    if (this.scanFails) throw accelError('ERR_ACCEL_IO', 'sysfs is odd')
    return [...this.slots.values()].map(({ identity }) => identity)
  }

  addressOf({ name }: Uevent): string {
    return name
  }

  async open({ transport: { address } }: DeviceIdentity): Promise<FakeTransport> {
    this.log.push(`open ${address}`)
    const obstacle = this.slots.get(address)?.obstacle
    if (typeof obstacle === 'string') throw accelError(obstacle, 'in the way')
    await obstacle
    const slot = this.slots.get(address)
    if (slot === undefined) throw accelError('ERR_ACCEL_NOT_FOUND', 'unplugged')
    const transport = new FakeTransport(slot.identity.bus === 'pci' ? { vendor: slot.identity.vendor } : {})
    this.transports.push(transport)
    return transport
  }

  plug(
    address: string,
    { vendor = 0x1234, obstacle }: { vendor?: number; obstacle?: Slot['obstacle'] } = {},
  ) {
    const identity: DeviceIdentity = {
      bus: 'pci',
      vendor,
      device: 1,
      subsystemVendor: 0,
      subsystem: 0,
      revision: 0,
      classCode: 0x120000,
      transport: { kind: 'vfio', address },
    }
    this.slots.set(address, { identity, ...(obstacle === undefined ? {} : { obstacle }) })
    this.announce('bind', address)
  }

  unplug(address: string): void {
    this.slots.delete(address)
    this.announce('unbind', address)
  }

  announce(action: UeventAction | 'overrun', name = '', { seqnum = ++this.#seqnum, synthetic = false } = {}) {
    if (action === 'overrun') this.#handler?.({ action })
    else
      this.#handler?.({
        ...{ action, name, seqnum, synthetic },
        ...{ subsystem: 'pci', devpath: `/devices/${name}`, properties: new Map() },
      })
  }
}

async function start(machine: Machine, options: Partial<DiscoverOptions> = {}) {
  const accel = new Accel()
  accel.register(thingDriver())
  const { uevents } = machine
  const discovery = await accel.discover({ sources: [machine], uevents, retryMs: [], ...options })
  const { log } = machine
  accel.on('added', ({ name }) => log.push(`added ${name}`))
  accel.on('removed', ({ name }) => log.push(`removed ${name}`))
  accel.on('error', ({ message }) => log.push(`accel error ${message}`))
  discovery.on('skipped', ({ device, error }) =>
    log.push(`skipped ${device.transport.address} ${error.code}`),
  )
  discovery.on('error', ({ code }) => log.push(`error ${code}`))
  return { accel, discovery, log, names: () => accel.nodes.map(({ name }) => name) }
}

/** Lets what was announced be done. */
async function settle(discovery: Discovery): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await turn()
    await discovery.settled()
  }
}

t.test('what is there is added, what no driver takes is never opened', async (t) => {
  const machine = new Machine()
  machine.plug('a')
  machine.plug('b', { vendor: 0x9999 })
  machine.plug('c')
  const { accel, discovery, log, names } = await start(machine)
  t.same(log, ['open a', 'open c'])
  t.same(names(), ['accel0', 'accel1'])
  t.same(discovery.skipped, [])

  // A driver that is registered later gets the device that waits for it.
  accel.register(accelDriver({ ...thingDriver(), name: 'other', ids: [{ bus: 'pci', vendor: 0x9999 }] }))
  await discovery.settled()
  t.equal(accel.node('accel2').driver.name, 'other')
  t.equal(machine.listening, 1)
  await accel.close()
  t.equal(machine.listening, 0, 'closing the subsystem ends its discovery')
  t.ok(machine.transports.every(({ closed, listeners }) => closed === 1 && listeners === 0))
})

t.test(
  'a device that is bound is added, one that is unbound is removed; it gets the lowest free minor',
  async (t) => {
    const machine = new Machine()
    const { accel, discovery, log, names } = await start(machine)
    machine.plug('a')
    machine.plug('b')
    await settle(discovery)
    t.same(names(), ['accel0', 'accel1'])
    const { lost } = accel.node('accel0')
    machine.unplug('a')
    t.match(await lost, { code: 'ERR_ACCEL_NO_DEVICE', message: 'a was unbound or unplugged' })
    await settle(discovery)
    t.same(names(), ['accel1'])
    machine.plug('a')
    await settle(discovery)
    t.same(names(), ['accel0', 'accel1'])
    t.same(log, [
      'open a',
      'open b',
      'added accel0',
      'added accel1',
      'removed accel0',
      'open a',
      'added accel0',
    ])
    await accel.close()
  },
)

t.test(
  'its transport says first that a device is lost: it is released once, and comes back when it is bound',
  async (t) => {
    const machine = new Machine()
    machine.plug('a')
    const { accel, discovery, log } = await start(machine)
    for (let round = 0; round < 10; round++) {
      machine.transports.at(-1)!.vanish()
      await settle(discovery)
      t.same(accel.nodes, [], 'it is not tried again before it is bound anew')
      if (round % 2 === 0) machine.unplug('a')
      machine.plug('a') // with and without a turn in between
      await settle(discovery)
      t.same(
        accel.nodes.map(({ name }) => name),
        ['accel0'],
      )
    }
    t.same(
      log.slice(1),
      Array.from({ length: 10 }, () => ['removed accel0', 'open a', 'added accel0']).flat(),
    )
    await accel.close()
    t.ok(machine.transports.every(({ closed }) => closed === 1))
  },
)

t.test('unbound and bound again before anybody looks: it is another', async (t) => {
  const machine = new Machine()
  machine.plug('a')
  const { accel, discovery, log } = await start(machine)
  machine.unplug('a')
  machine.plug('a')
  machine.plug('a')
  await settle(discovery)
  t.same(log, ['open a', 'removed accel0', 'open a', 'added accel0'])
  await accel.close()
})

t.test('messages that are old, asked for or repeated do no harm', async (t) => {
  const machine = new Machine()
  machine.plug('a')
  const { accel, discovery, log } = await start(machine)
  machine.announce('unbind', 'a', { seqnum: 1 })
  machine.announce('remove', 'a', { synthetic: true })
  machine.announce('bind', 'a')
  machine.announce('change', 'a')
  machine.announce('unbind', 'nobody')
  await settle(discovery)
  t.same(log, ['open a'])
  await accel.remove('accel0')
  machine.announce('add', 'a', { synthetic: true })
  machine.announce('change', 'a')
  machine.announce('bind', 'b')
  await settle(discovery)
  t.same(accel.nodes, [], 'what the program removed stays so')
  await discovery.rescan()
  t.equal(accel.nodes.length, 1, 'until it asks')
  await accel.close()
})

t.test('after messages were lost, what is there counts', async (t) => {
  const machine = new Machine()
  machine.plug('a')
  const { accel, discovery, names } = await start(machine)
  machine.slots.delete('a')
  machine.slots.set('b', {
    identity: { ...accel.nodes[0]!.identity, transport: { kind: 'vfio', address: 'b' } },
  })
  machine.announce('overrun')
  await settle(discovery)
  t.same(names(), ['accel1'], 'the minor of the one that goes was still taken')
  machine.transports.at(-1)!.vanish()
  await settle(discovery)
  machine.announce('overrun') // an unbind and a bind were among them
  await settle(discovery)
  t.same(names(), ['accel0'])
  await accel.close()
})

t.test('what is in the way of one device is told once, and does not stop the others', async (t) => {
  const machine = new Machine()
  machine.plug('a', { obstacle: 'ERR_ACCEL_BUSY' })
  machine.plug('b', { obstacle: 'ERR_ACCEL_MEMLOCK' })
  machine.plug('c')
  const { accel, discovery, log, names } = await start(machine)
  t.same(names(), ['accel0'])
  t.same(
    discovery.skipped.map(({ device, error }) => [device.transport.address, error.code]),
    [
      ['a', 'ERR_ACCEL_BUSY'],
      ['b', 'ERR_ACCEL_MEMLOCK'],
    ],
  )
  log.length = 0
  machine.announce('bind', 'd')
  await settle(discovery)
  t.same(log, ['open a'], 'what may pass is tried again at the next message')
  machine.slots.get('a')!.obstacle = 'ERR_ACCEL_PERMISSION'
  machine.announce('bind', 'd')
  machine.announce('bind', 'd')
  await settle(discovery)
  t.same(log, ['open a', 'open a', 'skipped a ERR_ACCEL_PERMISSION'])
  delete machine.slots.get('a')!.obstacle
  delete machine.slots.get('b')!.obstacle
  machine.announce('change', 'b')
  await settle(discovery)
  t.same(names(), ['accel0', 'accel1', 'accel2'])
  t.same(discovery.skipped, [])
  await accel.close()
})

t.test('what may pass is tried again after a while, and given up in the end', async (t) => {
  const machine = new Machine()
  machine.plug('a', { obstacle: 'ERR_ACCEL_BUSY' })
  machine.plug('b', { obstacle: 'ERR_ACCEL_BUSY' })
  const { accel, log, names } = await start(machine, { retryMs: [10, 10, 10], ref: true })
  await sleep(15)
  delete machine.slots.get('a')!.obstacle
  await sleep(200)
  t.same(names(), ['accel0'])
  t.equal(log.filter((line) => line === 'open b').length, 4)
  await accel.close()
})

t.test('what happens on the bus takes none of the attempts that come by themselves', async (t) => {
  const machine = new Machine()
  machine.plug('a', { obstacle: 'ERR_ACCEL_PERMISSION' })
  const { accel, discovery, log, names } = await start(machine, { retryMs: [50, 50], ref: true })
  for (let i = 0; i < 4; i++) {
    machine.announce('bind', 'other')
    await settle(discovery)
  }
  t.equal(log.filter((line) => line === 'open a').length, 5)
  delete machine.slots.get('a')!.obstacle
  await sleep(200)
  t.same(names(), ['accel0'], 'the node had its owner set meanwhile, of which no uevent tells')
  await accel.close()
})

t.test('each source is asked what a uevent is about', async (t) => {
  const machine = new Machine()
  const { uevents } = machine
  const deaf: DeviceSource = {
    ...{ name: 'deaf', subsystems: ['pci'], scan: () => [], addressOf: () => undefined },
    open: () => Promise.reject(new Error('nothing to open')),
  }
  machine.plug('a', { obstacle: 'ERR_ACCEL_UNSUPPORTED' })
  const { accel, discovery, names } = await start(machine, { sources: [deaf, machine], uevents })
  delete machine.slots.get('a')!.obstacle
  machine.announce('change', 'a')
  await settle(discovery)
  t.same(names(), ['accel0'])
  await accel.close()
})

t.test('a probe that fails is told, and tried again when the device is bound anew', async (t) => {
  const machine = new Machine()
  machine.plug('a')
  let works = false
  const accel = new Accel()
  accel.register(
    thingDriver(() => {
      if (!works) throw new Error('no firmware')
    }),
  )
  const { uevents } = machine
  const discovery = await accel.discover({ sources: [machine], uevents, retryMs: [1] })
  t.match(discovery.skipped, [{ error: { code: 'ERR_ACCEL_PROBE_FAILED', message: /no firmware/ } }])
  works = true
  machine.announce('bind', 'other')
  await settle(discovery)
  await sleep(10)
  t.same(accel.nodes, [])
  machine.unplug('a')
  machine.plug('a')
  await settle(discovery)
  t.equal(accel.nodes.length, 1)
  await accel.close()
})

t.test('a device that goes while it is opened is no error; its successor is another device', async (t) => {
  const machine = new Machine()
  let finish = () => {}
  const obstacle = new Promise<void>((resolve) => {
    finish = resolve
  })
  const { accel, discovery, log, names } = await start(machine)
  machine.plug('a', { obstacle })
  await turn()
  machine.unplug('a')
  await turn()
  finish()
  await settle(discovery)
  t.same(log, ['open a'])
  t.same(discovery.skipped, [])

  let finishAgain = () => {}
  machine.plug('a', {
    obstacle: new Promise<void>((resolve) => {
      finishAgain = resolve
    }),
  })
  await turn()
  machine.unplug('a')
  machine.plug('a')
  await turn()
  finishAgain()
  await settle(discovery)
  t.same(log, ['open a', 'open a', 'open a', 'added accel0'])
  t.equal(machine.transports[0]!.closed, 1, 'the first was open, and is closed')
  t.same(names(), ['accel0'])
  await accel.close()
})

t.test('close while a device is being opened: it is closed and not added', async (t) => {
  const machine = new Machine()
  let finish = () => {}
  const { accel, discovery } = await start(machine)
  machine.plug('a', {
    obstacle: new Promise<void>((resolve) => {
      finish = resolve
    }),
  })
  await turn()
  await turn()
  const closing = accel.close()
  machine.plug('b')
  finish()
  await closing
  await discovery.close()
  await discovery.rescan()
  t.same(accel.nodes, [])
  t.match(machine.transports, [{ closed: 1 }])
})

t.test('close while a probe is under way, and afterwards the devices stay', async (t) => {
  const machine = new Machine()
  machine.plug('a')
  const accel = new Accel()
  let finish = () => {}
  accel.register(
    thingDriver(
      () =>
        new Promise<void>((resolve) => {
          finish = resolve
        }),
    ),
  )
  const { uevents } = machine
  const discovering = accel.discover({ sources: [machine], uevents })
  await sleep(5)
  const closing = accel.close()
  finish()
  await Promise.all([discovering, closing])
  t.same(accel.nodes, [])
  t.equal(machine.transports[0]!.closed, 1)

  const other = new Accel()
  other.register(thingDriver())
  {
    await using _discovery = await other.discover({ sources: [machine], uevents })
  }
  t.equal(other.nodes.length, 1)
  machine.unplug('a')
  await turn()
  t.equal(other.nodes.length, 1, 'nobody follows any more')
  await other.close()
})

t.test('one look only, and sources that fail or share an address', async (t) => {
  const [machine, second] = [new Machine(), new Machine()]
  machine.plug('a')
  second.plug('a')
  second.plug('b')
  const { accel, discovery, log, names } = await start(machine, { sources: [machine, second], follow: false })
  t.equal(machine.listening, 0)
  t.same([...machine.log, ...second.log], ['open a', 'open b'])
  machine.scanFails = true
  await discovery.rescan()
  t.same(log, ['open a', 'error ERR_ACCEL_IO'])
  t.same(names(), ['accel0', 'accel1'], 'what is not seen is not gone')
  await accel.close()
})

t.test('an exception in a listener reaches uncaughtException', async (t) => {
  const machine = new Machine()
  const { accel, discovery } = await start(machine)
  const bug = new Error('listener')
  discovery.once('skipped', () => {
    throw bug
  })
  const caught = new Promise((resolve) => process.once('uncaughtException', resolve))
  machine.plug('a', { obstacle: 'ERR_ACCEL_BUSY' })
  t.equal(await caught, bug)
  await accel.close()
})

t.test('the real thing: what is bound to vfio-pci here, followed over netlink', async (t) => {
  await using accel = new Accel()
  const discovery = await accel.discover()
  t.same(discovery.skipped, [], 'no driver, so nothing is opened')
})
