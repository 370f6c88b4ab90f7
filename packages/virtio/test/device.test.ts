import { openDevice } from '@uaccel/core'
import { AutoClock, loopback } from '@uaccel/model'
import t, { type Test } from 'tap'
import { type VirtioControls, type VirtioModelOptions, virtioModel } from '../model/index.js'
import { FEATURE, findStructures, type SplitQueue, VirtioDevice } from '../src/index.js'

/** Answers each request with its bytes in reverse. Its two queues are of 8 and 16 entries; its configuration is 8 bytes. */
const mirror = virtioModel({
  name: 'mirror',
  deviceId: 63,
  classCode: 0x00ff00,
  queues: [8, 16],
  features: 1n << 3n,
  config: () => Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  create: () => ({ serve: ({ input }) => input.toReversed() }),
})
const ACCESS_PLATFORM = 1n << 33n
const INDIRECT = 1n << 28n
const EVENT_INDEX = 1n << 29n

/** A queue with one buffer for each slot: half to be read, half to be written. */
class Mirror {
  readonly queue: SplitQueue
  readonly memory
  readonly #waiting = new Map<number, (answer: Uint8Array) => void>()
  readonly #bytes = 64

  constructor(dev: ReturnType<typeof openDevice>, queue: SplitQueue) {
    this.queue = queue
    this.memory = dev.dma.alloc(2 * this.#bytes * queue.entries)
  }

  send(bytes: Uint8Array): Promise<Uint8Array> | undefined {
    const slot = this.queue.begin(3)
    if (slot < 0) return undefined
    const at = slot * 2 * this.#bytes
    this.memory.u8.set(bytes, at)
    const low = this.memory.iovaLow + at
    this.queue.add(low, this.memory.iovaHigh, bytes.length - 1, false)
    this.queue.add(low + bytes.length - 1, this.memory.iovaHigh, 1, false)
    this.queue.add(low + this.#bytes, this.memory.iovaHigh, this.#bytes, true)
    this.queue.end()
    return new Promise((resolve) => this.#waiting.set(slot, resolve))
  }

  used(): void {
    for (let slot = this.queue.next(); slot >= 0; slot = this.queue.next()) {
      const at = slot * 2 * this.#bytes + this.#bytes
      this.#waiting.get(slot)!(this.memory.u8.slice(at, at + this.queue.written))
      this.queue.release(slot)
    }
  }
}

async function bringUp(t: Test, model: VirtioModelOptions = {}, irqs: 'msix' | 'intx' | 'poll' = 'msix') {
  const definition = irqs === 'intx' ? { ...mirror, interrupts: { intx: true } } : mirror
  const transport = loopback(definition, { model, clock: new AutoClock({ spreadNs: 20_000, seed: 3 }) })
  t.teardown(() => transport.close())
  const dev = openDevice(transport)
  t.teardown(() => dev.release())
  const virtio = await VirtioDevice.negotiate(dev, { wanted: [3, 4] })
  const mirrors: Mirror[] = []
  const queues = await virtio.openQueues(
    [0, 1].map((index) => ({ index, entries: 16, maxSegments: 3, used: () => mirrors[index]!.used() })),
    irqs === 'poll' ? [] : undefined,
  )
  for (const queue of queues) mirrors.push(new Mirror(dev, queue))
  virtio.start()
  return { transport, dev, virtio, mirrors }
}

async function talk(t: Test, { queue, send }: { queue: SplitQueue; send: Mirror['send'] }, rounds: number) {
  for (let round = 0; round < rounds; round++) {
    const sent: Uint8Array[] = []
    const answers: Promise<Uint8Array>[] = []
    for (;;) {
      const bytes = Uint8Array.from({ length: 2 + (round % 60) }, (_, i) => round + i + sent.length)
      const answer = send(bytes)
      if (answer === undefined) break
      sent.push(bytes)
      answers.push(answer)
    }
    queue.flush()
    t.same(
      await Promise.all(answers),
      sent.map((bytes) => bytes.toReversed()),
    )
  }
}
const speak = (t: Test, mirror: Mirror, rounds = 20) =>
  talk(t, { queue: mirror.queue, send: (bytes) => mirror.send(bytes) }, rounds)

for (const features of [ACCESS_PLATFORM, INDIRECT, EVENT_INDEX, INDIRECT | EVENT_INDEX]) {
  for (const irqs of ['msix', 'intx'] as const) {
    t.test(`features 0x${features.toString(16)}, ${irqs}: agrees, answers, starts again`, async (t) => {
      const { transport, virtio, mirrors } = await bringUp(t, { features }, irqs)
      t.equal(virtio.irqs!.type, irqs)
      t.equal(virtio.features, features | (1n << 32n) | (1n << 3n), 'what both know, and no more')
      t.same([virtio.has(FEATURE.version1), virtio.has(4)], [true, false])
      t.same(
        virtio.config.stable((config) => [config.u8(1), config.u16(2), config.u32(4), config.u64(0)]),
        [2, 0x0403, 0x0807_0605, 0x0807_0605_0403_0201n],
      )
      t.throws(() => virtio.config.u32(300), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
      t.same(
        mirrors.map(({ queue }) => queue.entries),
        [8, 16],
        'no more entries than the device has',
      )
      await Promise.all(mirrors.map((mirror) => speak(t, mirror)))
      await virtio.reset()
      await virtio.restart()
      await Promise.all(mirrors.map((mirror) => speak(t, mirror)))
      t.equal(virtio.needsReset, false)
      transport.assertClean()
    })
  }
}

t.test('each queue has an MSI-X vector of its own', async (t) => {
  const { virtio, mirrors } = await bringUp(t)
  const fired = () => [0, 1, 2].map((vector) => virtio.irqs!.counts(vector).fired > 0)
  t.equal(virtio.irqs!.count, 3)
  await speak(t, mirrors[1]!, 1)
  t.same(fired(), [false, true, false])
  await speak(t, mirrors[0]!, 1)
  t.same(fired(), [true, true, false])
})

t.test('requests that are put in together make one notification', async (t) => {
  const notified: number[] = []
  const { mirrors } = await bringUp(t, { onNotify: (queue) => notified.push(queue) })
  const answers = Array.from({ length: 16 }, () => mirrors[1]!.send(Uint8Array.of(1, 2)))
  mirrors[1]!.queue.flush()
  await Promise.all(answers)
  t.same(notified, [1])
})

t.test('a device without what is required is refused', async (t) => {
  const transport = loopback(mirror)
  const dev = openDevice(transport)
  await t.rejects(VirtioDevice.negotiate(dev, { required: [5] }), {
    code: 'ERR_ACCEL_UNSUPPORTED',
    message: /feature 5/,
  })
  await dev.release()
  const again = openDevice(transport)
  const virtio = await VirtioDevice.negotiate(again)
  const request = { index: 2, entries: 8, maxSegments: 1, used: () => {} }
  await t.rejects(virtio.openQueues([request]), { code: 'ERR_ACCEL_UNSUPPORTED', message: /no queue 2/ })
  await again.release()
  await transport.close()
})

t.test('queues that are polled take no interrupt', async (t) => {
  const { transport, virtio, mirrors } = await bringUp(t, {}, 'poll')
  const polling = setInterval(() => mirrors.forEach((mirror) => void mirror.used()), 1)
  t.teardown(() => clearInterval(polling))
  await Promise.all(mirrors.map((mirror) => speak(t, mirror, 5)))
  t.equal(virtio.irqs, undefined)
  await virtio.reset()
  await virtio.restart()
  await Promise.all(mirrors.map((mirror) => speak(t, mirror, 5)))
  transport.assertClean()
})

t.test('the device changes its configuration, and says that it needs a reset', async (t) => {
  for (const irqs of ['msix', 'intx'] as const) {
    let controls: VirtioControls | undefined
    const onCreate = (device: VirtioControls) => {
      controls = device
    }
    const { virtio, mirrors } = await bringUp(t, { onCreate }, irqs)
    const told = () => new Promise<void>((resolve) => virtio.onConfigChange(resolve))
    let changed = told()
    controls!.configure(0, Uint8Array.of(9))
    await changed
    t.equal(virtio.config.u8(0), 9)
    t.equal(virtio.needsReset, false)
    changed = told()
    controls!.needReset()
    await changed
    t.equal(virtio.needsReset, true)
    await virtio.reset()
    await virtio.restart()
    t.equal(virtio.needsReset, false)
    await speak(t, mirrors[0]!, 2)
  }
})

t.test('what a hostile device says in its registers', async (t) => {
  // Offsets of struct virtio_pci_common_cfg (4.1.4.3).
  const at = { numQueues: 0x12, status: 0x14, generation: 0x15, size: 0x18, vector: 0x1a, notifyOff: 0x1e }
  const lies = (offset: number, value: number) => ({
    lie: (at: number, right: number) => (at === offset ? value : right),
  })
  const cases: [string, VirtioModelOptions, string][] = [
    ['no queues', lies(at.numQueues, 0), 'ERR_ACCEL_UNSUPPORTED'],
    ['fewer queues than wanted', lies(at.numQueues, 1), 'ERR_ACCEL_UNSUPPORTED'],
    ['a queue of no entries', lies(at.size, 0), 'ERR_ACCEL_UNSUPPORTED'],
    ['a notification beyond its structure', lies(at.notifyOff, 2), 'ERR_ACCEL_IO'],
    ['a notification far beyond it', lies(at.notifyOff, 0xffff), 'ERR_ACCEL_IO'],
    ['another vector than it was given', lies(at.vector, 0xffff), 'ERR_ACCEL_IO'],
    ['features that it does not agree to', lies(at.status, 0), 'ERR_ACCEL_UNSUPPORTED'],
  ]
  for (const [what, model, code] of cases) await t.rejects(bringUp(t, model), { code }, what)

  let stuck = false
  const silent = await bringUp(t, {
    lie: (offset, value) => (offset === at.status && stuck ? 0xff : value),
  })
  stuck = true
  t.equal(silent.virtio.needsReset, true)
  await t.rejects(silent.virtio.reset(), { code: 'ERR_ACCEL_TIMEOUT' }, 'a status that keeps its bits')
  stuck = false

  let generation = 0
  const { virtio } = await bringUp(t, {
    lie: (offset, value) => (offset === at.generation ? generation++ & 0xff : value),
  })
  t.throws(() => virtio.config.stable((config) => config.u32(0)), { code: 'ERR_ACCEL_IO' })
  for (const offset of [-1, 253, 256, 2 ** 32, Number.NaN])
    t.throws(() => virtio.config.u32(offset), { code: 'ERR_ACCEL_OUT_OF_RANGE' }, `${offset}`)

  let other = false
  const changing = await bringUp(t, {
    lie: (offset, value) => (offset === 0x04 && other ? value & ~8 : value), // without feature 3
  })
  await changing.virtio.reset()
  other = true
  for (const time of ['first', 'second']) {
    await t.rejects(
      changing.virtio.restart(),
      { code: 'ERR_ACCEL_IO', message: /other features/ },
      `the ${time} reset`,
    )
    await changing.virtio.reset()
  }
})

t.test('a queue is no longer than the device has it, and no chain longer than its queue', async (t) => {
  for (const [size, entries] of [
    [1, 1],
    [2, 2],
    [7, 4],
    [0xffff, 16],
  ] as const) {
    const transport = loopback(mirror, {
      strict: false,
      model: { lie: (offset, value) => (offset === 0x18 ? size : value) },
    })
    const dev = openDevice(transport)
    const virtio = await VirtioDevice.negotiate(dev)
    const request = { index: 1, entries: 16, maxSegments: 3, used: () => {} }
    const [queue] = await virtio.openQueues([request])
    t.equal(queue!.entries, entries)
    t.equal(queue!.maxSegments, Math.min(3, entries))
    t.throws(() => queue!.begin(4), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
    if (entries < 3) {
      const needs = virtio.openQueues([{ ...request, minSegments: 3 }])
      await t.rejects(needs, { code: /^ERR_ACCEL_(UNSUPPORTED|BUSY)$/ })
    }
    await dev.release()
    await transport.close()
  }
})

t.test('structures that do not lie in their BAR are no structures', async (t) => {
  const transport = loopback(mirror)
  const dev = openDevice(transport)
  const config = dev.config.snapshot()
  const found = findStructures(config, dev.regions)
  t.match(found, {
    common: { bar: 4, offset: 0, sizeBytes: 56 },
    notify: { multiplier: 4 },
    isr: { sizeBytes: 1 },
  })
  const isVendor = (at: number) => config[at] === 9
  let at = config[0x34]!
  const caps: number[] = []
  for (; at !== 0; at = config[at + 1]!) if (isVendor(at)) caps.push(at)
  t.equal(caps.length, 4)
  const unsupported = { code: 'ERR_ACCEL_UNSUPPORTED' }
  const changes: [offset: number, bytes: number[]][] = [
    [2, [12]], // shorter than a structure's capability is
    [3, [99]], // of another kind
    [4, [6]], // a reserved BAR
    [4, [2]], // one that it does not have
    [8, [0xff, 0xff, 0xff, 0xff]], // beyond its end
    [12, [0, 0, 0, 0]], // without room
    [12, [0xff, 0xff, 0xff, 0xff]],
  ]
  for (const capability of caps.slice(0, 3)) {
    for (const [offset, bytes] of changes) {
      const changed = config.slice()
      changed.set(bytes, capability + offset)
      t.throws(() => findStructures(changed, dev.regions), unsupported, `${offset}: ${bytes}`)
    }
  }
  const looped = config.slice()
  looped[caps[1]! + 1] = caps[0]!
  t.throws(() => findStructures(looped, dev.regions), unsupported)
  await dev.release()
  await transport.close()
})
