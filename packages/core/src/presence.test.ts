import { setTimeout as sleep } from 'node:timers/promises'
import { DmaBuffer } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { openDevice } from './device.js'
import { type FakeOptions, FakeTransport } from './fake-transport.test.support.js'
import { reg32, registers } from './registers.js'

const Bar0 = registers({ STATUS: reg32(0x20, 'rw') })
/** The immediate comes after the loop looked at descriptors, also where the process was stopped for longer than the timer. */
const turn = (ms = 20) => new Promise((resolve) => setTimeout(() => setImmediate(resolve), ms))
const signal = (fd: number, n = 1) => sys.write(fd, new Uint8Array(BigUint64Array.of(BigInt(n)).buffer))

/** A device with a mapped BAR and one interrupt of `type`, which counts. */
async function bringUp(transport: FakeTransport, type: 'intx' | 'msix' = 'msix') {
  const dev = openDevice(transport)
  await dev.enable({ busMaster: true })
  const bar = await dev.mapBar(0, Bar0)
  const irqs = await dev.allocIrqVectors({ types: [type] })
  const seen: number[] = []
  irqs.handle(0, (count) => seen.push(count))
  const works = async (t: Test, what: string) => {
    bar.STATUS.write(7)
    t.equal(transport.bar.window.u32[8], 7, `${what}: the BAR is mapped`)
    t.equal(transport.config[4], 6, 'memory decoding and bus mastering are on')
    seen.length = 0
    signal(transport.armed.get(type)![0])
    await turn()
    t.same(seen, [1], 'the interrupt arrives')
  }
  return { dev, bar, irqs, seen, works }
}

t.test('each kind of reset that the transport has, and the first one unless told', async (t) => {
  const transport = new FakeTransport({ resets: ['function', 'hot'], irqs: { msix: { count: 1 } } })
  const { dev, works } = await bringUp(transport)
  t.strictSame(dev.resets, ['function', 'hot'])
  for (const [kind, done] of [
    [undefined, 'function'],
    ['hot', 'hot'],
    ['function', 'function'],
  ] as const) {
    await dev.reset(kind === undefined ? {} : { kind })
    t.ok(transport.log.includes(`reset ${done}`))
    await works(t, `after a ${done} reset`)
    transport.log.length = 0
  }
  await dev.release()
  await transport.close()
  for (const [resets, kind] of [
    [['hot'], 'function'],
    [[], undefined],
  ] as const) {
    const lacking = new FakeTransport({ resets })
    const dev = openDevice(lacking)
    await t.rejects(dev.reset(kind === undefined ? {} : { kind }), { code: 'ERR_ACCEL_UNSUPPORTED' })
    t.notMatch(lacking.log.join(), 'reset')
    t.equal(dev.config.read16(0), 0x1234, 'nothing was done')
    await dev.release()
    await lacking.close()
  }
})

t.test('a reset that is refused leaves the device working', async (t) => {
  const transport = new FakeTransport({ resets: ['hot'], irqs: { msix: { count: 1 } } })
  const { dev, works } = await bringUp(transport)
  transport.failReset = accelError('ERR_ACCEL_BUSY', '0000:01:00.1 is open in this process')
  await t.rejects(dev.reset(), transport.failReset)
  await works(t, 'after the refusal')
  t.notOk(dev.signal.aborted)
  await dev.release()
  await transport.close()
})

t.test('what fired before a reset is forgotten, and a mask stays', async (t) => {
  const transport = new FakeTransport({ irqs: { intx: { count: 1 } } })
  const { dev, irqs, seen } = await bringUp(transport, 'intx')
  const fd = transport.armed.get('intx')![0]
  signal(fd)
  const resetting = dev.reset()
  signal(fd)
  await resetting
  await turn()
  t.same(seen, [])
  irqs.mask(0)
  await dev.reset()
  t.equal(transport.log.at(-1), 'mask intx 0')
  signal(transport.armed.get('intx')![0])
  await turn()
  t.same(seen, [1], 'one that was on its way')
  t.equal(transport.log.at(-1), 'mask intx 0', 'the handler does not unmask what the driver masked')
  irqs.unmask(0)
  signal(transport.armed.get('intx')![0])
  await turn()
  t.equal(transport.log.filter((line) => line === 'unmask intx 0').length, 2)
  await dev.release()
  await transport.close()
})

t.test(
  'a device that answers late comes back; one that does not, or comes back other than it was, is wedged',
  async (t) => {
    const late = new FakeTransport({ irqs: { msix: { count: 1 } } })
    const { dev, works } = await bringUp(late)
    const id = late.config.slice(0, 12)
    for (const answer of [
      [0xff, 0xff, 0xff, 0xff],
      [0x01, 0x00, 0xff, 0xff],
    ]) {
      late.onReset = () => {
        late.config.set(answer)
        setTimeout(() => late.config.set(id), 100)
      }
      await dev.reset()
      await works(t, 'in the end')
    }
    await dev.release()
    await late.close()

    for (const [message, onReset] of [
      [/an answer to reads of config space/, (fake: FakeTransport) => fake.config.fill(0xff, 0, 12)],
      // The vendor id is vfio-pci's own word: the device does not answer for all that.
      [/an answer to reads of config space/, (fake: FakeTransport) => fake.config.fill(0xff, 8, 12)],
      [
        /base address register 1 was 0x0 before and is 0x10 now/,
        (fake: FakeTransport) => fake.config.fill(0x10, 0x14, 0x15),
      ],
    ] as const) {
      const transport = new FakeTransport({ irqs: { msix: { count: 1 } } })
      const { dev, bar } = await bringUp(transport)
      transport.onReset = () => onReset(transport)
      await t.rejects(dev.reset(), { code: 'ERR_ACCEL_WEDGED', message })
      t.throws(() => bar.STATUS.read(), { code: 'ERR_ACCEL_NO_DEVICE', message: /did not come back/ })
      t.match(dev.signal.reason, { cause: { code: 'ERR_ACCEL_WEDGED' } })
      await dev.release()
      await transport.close()
    }
  },
)

for (const [what, step, code] of [
  [
    'fails',
    () => Promise.reject(accelError('ERR_ACCEL_TIMEOUT', 'the queue does not stop')),
    'ERR_ACCEL_TIMEOUT',
  ],
  ['does not end', () => new Promise<void>(() => {}), 'ERR_ACCEL_TIMEOUT'],
] as const) {
  t.test(
    `where a step of the driver ${what}, the device is reset before its memory is unmapped`,
    async (t) => {
      for (const resets of [['function', 'hot'], ['hot']] as const) {
        const transport = new FakeTransport({ resets })
        const dev = openDevice(transport)
        await dev.enable({ busMaster: true })
        dev.dma.alloc(64)
        const ran: string[] = []
        dev.defer(() => void ran.push('others run'))
        dev.defer(step)
        const start = performance.now()
        await t.rejects(dev.release({ limitMs: 50 }), { code })
        t.ok(performance.now() - start < 1000, 'within its limit')
        t.same(ran, ['others run'])
        const log = transport.log.filter((line) => /command 0x2|reset|unmap/.test(line))
        t.same(log.slice(0, 1), ['command 0x2'], 'bus mastering off first')
        t.equal(log.includes('reset function'), resets.length === 2, 'never a reset that hits others')
        t.equal(log.at(-1), 'dma unmap')
        t.equal(transport.config[4], 2)
        await transport.close()
      }
    },
  )
}

t.test('a device that nothing brought to rest keeps its memory where no IOMMU takes it away', async (t) => {
  const cases: [what: string, kept: boolean, options: FakeOptions, befall?: (fake: FakeTransport) => void][] =
    [
      [
        'neither stopped nor reset',
        true,
        {},
        (fake) => {
          fake.failReset = accelError('ERR_ACCEL_TIMEOUT', 'no answer')
        },
      ],
      ['no PCI device, and no reset', true, { platform: { name: 'fake', version: '1' }, resets: [] }],
      ['reset', false, {}],
      ['gone', false, {}, (fake) => fake.lose(accelError('ERR_ACCEL_NO_DEVICE', 'pulled out'))],
    ]
  for (const [what, kept, options, befall] of cases) {
    const transport = new FakeTransport({ physical: true, ...options })
    const dev = openDevice(transport)
    const buffer = DmaBuffer.create(4096)
    const { dma } = dev
    dma.map(buffer)
    dev.defer(() => Promise.reject(accelError('ERR_ACCEL_TIMEOUT', 'the queue does not stop')))
    befall?.(transport)
    await t.rejects(dev.release(), what)
    if (kept) t.equal(transport.mapped.size, 1, what)
    else t.throws(() => dma.map(buffer), { code: 'ERR_ACCEL_NO_DEVICE', message: /destroyed/ }, what)
    await transport.close()
    buffer.destroy()
  }
})

t.test('a step that comes to rest needs no reset', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  dev.dma.alloc(64)
  dev.defer(() => sleep(20))
  await dev.release()
  t.notMatch(transport.log.join(), 'reset')
  await transport.close()
})

t.test('sleep: every touch says so, and all is as before after it', async (t) => {
  const transport = new FakeTransport({ lowPower: true, irqs: { msix: { count: 1 } } })
  const { dev, bar, works } = await bringUp(transport)
  t.ok(dev.canSleep)
  await dev.wake()
  await dev.sleep()
  await dev.sleep()
  t.equal(transport.log.filter((line) => line === 'sleep').length, 1)
  const asleep = { code: 'ERR_ACCEL_NO_DEVICE', message: /sleeps: wake\(\) it first/ }
  t.throws(() => bar.STATUS.read(), asleep)
  t.throws(() => dev.config.read16(0), asleep)
  await t.rejects(dev.mapBar(0, Bar0), asleep)
  await t.rejects(dev.enable(), asleep)
  await t.rejects(dev.reset(), { code: 'ERR_ACCEL_BUSY', message: asleep.message })
  await dev.wake()
  await works(t, 'awake')
  await dev.sleep()
  let reached: number | undefined
  dev.defer(() => {
    reached = bar.STATUS.read()
  })
  await dev.release()
  t.equal(reached, 7, 'it is woken for the steps of its release')
  await transport.close()

  const lacking = new FakeTransport()
  const other = openDevice(lacking)
  t.notOk(other.canSleep)
  await t.rejects(other.sleep(), { code: 'ERR_ACCEL_UNSUPPORTED' })
  t.equal(other.config.read16(0), 0x1234)
  await other.release()
  await lacking.close()
})

t.test('a device that is wanted back, and one that is withdrawn', async (t) => {
  const transport = new FakeTransport()
  const dev = openDevice(transport)
  const reasons: string[] = []
  const forget = dev.onRequest((reason) => reasons.push(reason.message))
  dev.onRequest(({ message }) => reasons.push(`again ${message}`))
  const ask = () => {
    for (const listener of transport.requestListeners) listener(accelError('ERR_ACCEL_NO_DEVICE', 'unbind'))
  }
  ask()
  forget()
  ask()
  t.same(reasons, ['unbind', 'again unbind', 'again unbind'])
  t.notOk(dev.signal.aborted, 'what to do is for the listener to say')
  const reason = accelError('ERR_ACCEL_NO_DEVICE', 'unbind')
  dev.withdraw(reason)
  t.equal(dev.signal.reason, reason)
  t.equal(dev.config.read16(0), 0x1234, 'it can still be reached')
  await dev.release()
  t.equal(transport.requestListeners.size, 0)
  t.throws(() => dev.onRequest(() => {}), { code: 'ERR_ACCEL_NO_DEVICE' })
  await transport.close()
})

t.test('one change at a time: what is asked for meanwhile waits', async (t) => {
  const transport = new FakeTransport({ lowPower: true, irqs: { msix: { count: 1 } } })
  const { dev, works } = await bringUp(transport)
  const calls: string[] = []
  const setLowPower = transport.setLowPower!
  Object.assign(transport, {
    async setLowPower(on: boolean) {
      calls.push(on ? 'sleep begins' : 'wake begins')
      await sleep(10)
      await setLowPower(on)
      calls.push(on ? 'asleep' : 'awake')
    },
  })
  const sleeping = dev.sleep()
  const [first, second] = [dev.wake(), dev.wake()]
  await sleeping
  await second
  t.same(calls, ['sleep begins', 'asleep', 'wake begins', 'awake'])
  await works(t, 'whoever asked last')
  await first
  const again = dev.sleep()
  const released = dev.release()
  await again
  await released
  t.same(calls.slice(4), ['sleep begins', 'asleep', 'wake begins', 'awake'], 'a release wakes it afterwards')
  await transport.close()
})

t.test(
  'a device whose bus mastering cannot be switched off is reset before its memory is unmapped',
  async (t) => {
    const transport = new FakeTransport()
    const { log } = transport
    const dev = openDevice(transport)
    await dev.enable({ busMaster: true })
    dev.dma.alloc(4096)
    const write = transport.write.bind(transport)
    transport.write = (region, offset, width, value) => {
      if (region === 7) throw accelError('ERR_ACCEL_IO', 'config space is stuck')
      write(region, offset, width, value)
    }
    transport.reset = async (kind) => {
      transport.write = write
      log.push(`reset ${kind}`)
    }
    log.length = 0
    await dev.release()
    const order = log.filter((line) => /^(reset|dma unmap)/.test(line))
    t.same(order, ['reset function', 'dma unmap'])
    await transport.close()
  },
)
