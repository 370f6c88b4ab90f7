import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { EventFd, sys } from '@uaccel/sys'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { openDevice } from '../device.js'
import { FakeTransport } from '../fake-transport.test.support.js'
import { EventLine } from './event-line.js'
import type { WorkerJob } from './share.test.worker.js'
import type { ShareToken } from './tokens.js'

t.setTimeout(120_000)

const program = new URL('./share.test.worker.js', import.meta.url)
type Message = { answer?: unknown; error?: string; aborted?: string; fired?: number; said?: unknown }

/** A worker that does what it is told. */
class Hand {
  readonly worker: Worker
  readonly progress = new Int32Array(new SharedArrayBuffer(8))
  readonly messages: Message[] = []
  #wake = () => {}

  constructor(device: ShareToken, parts: Omit<WorkerJob, 'device' | 'progress'> = {}) {
    const workerData: WorkerJob = { device, progress: this.progress, ...parts }
    this.worker = new Worker(program, { workerData, transferList: [device.port] })
    this.worker.on('message', (message: Message) => {
      this.messages.push(message)
      this.#wake()
    })
  }

  /** The next message that has this. */
  async next<K extends keyof Message>(...kinds: K[]): Promise<Message> {
    for (;;) {
      const at = this.messages.findIndex((message) => kinds.some((kind) => kind in message))
      if (at >= 0) return this.messages.splice(at, 1)[0]
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  async ask(action: string, at?: number, value?: number): Promise<unknown> {
    this.worker.postMessage([action, at, value])
    const { answer, error } = await this.next('answer', 'error')
    return error ?? answer
  }

  async ready(): Promise<this> {
    const { answer, error } = await this.next('answer', 'error')
    if (answer !== 'ready') throw new Error(`worker: ${error}`)
    return this
  }
}

async function until(done: () => boolean, limitMs = 5000): Promise<boolean> {
  for (const start = performance.now(); performance.now() - start < limitMs; await sleep(5))
    if (done()) return true
  return false
}

const openFds = () => readdirSync('/proc/self/fd').length
const sharedMaps = () => readFileSync('/proc/self/maps', 'utf8').match(/ rw-s .*\n/g) ?? []

async function bench(options: ConstructorParameters<typeof FakeTransport>[0] = {}) {
  const transport = new FakeTransport(options)
  const device = openDevice(transport)
  await device.enable()
  const end = async () => {
    await device.release()
    await transport.close()
  }
  return { transport, device, end }
}

t.test('registers and device memory, from both threads', async (t) => {
  const { transport, device, end } = await bench()
  const share = device.share()
  const bar = share.bar(0, { sizeBytes: 0x2000 })
  const hand = await new Hand(share.token, { bar }).ready()
  transport.bar.window.u32[4] = 0x8000_0007
  t.equal(await hand.ask('read', 16), 0x8000_0007)
  await hand.ask('write', 0, 42)
  t.equal(transport.bar.window.u32[0], 42)
  t.equal(await hand.ask('register'), 42)
  t.equal(await hand.ask('far'), 'ERR_ACCEL_UNSUPPORTED', 'a register beyond what was shared')
  t.equal(await hand.ask('write', 0x2000, 1), 'ERR_ACCEL_OUT_OF_RANGE')
  t.equal(await hand.ask('again'), 'ERR_ACCEL_CLOSED', 'a token is for one')
  const said = new Promise((resolve) => {
    share.onMessage = resolve
  })
  await hand.ask('say')
  t.equal(await said, 'from the worker')
  share.post('from the owner')
  t.match(await hand.next('said'), { said: 'from the owner' })
  const exited = once(hand.worker, 'exit')
  await end()
  t.match(await hand.next('aborted'), { aborted: 'ERR_ACCEL_NO_DEVICE' })
  t.same(await exited, [0], 'it ends by itself')
  await share.ref().detached
})

t.test('what cannot be shared', async (t) => {
  const { device, end } = await bench({ mappable: [] })
  const share = device.share()
  t.throws(() => share.bar(0), { code: 'ERR_ACCEL_UNSUPPORTED', message: /transport maps nothing/ })
  t.throws(() => share.bar(1), { code: 'ERR_ACCEL_NOT_FOUND' })
  t.throws(() => share.bar(0, { offset: 4 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  t.throws(() => share.memory(device.dma.alloc(4096)), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /separate/,
  })
  share.close()
  t.throws(() => share.bar(0), { code: 'ERR_ACCEL_CLOSED' })
  await share.ref().detached
  const late = new Hand(share.token)
  t.match(await late.next('error'), { error: 'ERR_ACCEL_CLOSED' }, 'a token that was taken back')
  await end()
  t.throws(() => device.share(), { code: 'ERR_ACCEL_NO_DEVICE' })

  const trapping = new FakeTransport()
  const other = openDevice(trapping, { trapBars: true })
  t.throws(() => other.share().bar(0), { code: 'ERR_ACCEL_UNSUPPORTED', message: /trapBars/ })
  await other.release()
  await trapping.close()
  const intx = await bench({ irqs: { intx: { count: 1 } } })
  const irqs = await intx.device.allocIrqVectors({ types: ['intx'] })
  t.throws(() => intx.device.share().vector(irqs, 0), { code: 'ERR_ACCEL_UNSUPPORTED', message: /unmasked/ })
  await intx.end()
})

t.test('DMA memory: freed here, its views there throw, and a stale array reaches nothing', async (t) => {
  const { device, end } = await bench()
  const share = device.share()
  const region = device.dma.alloc(4096, { separate: true })
  const fd = sys.dup(region.buffer.fd)
  const hand = await new Hand(share.token, { memory: share.memory(region) }).ready()
  t.equal(await hand.ask('memoryWrite', 3, 7), region.iova)
  t.equal(region.u8[3], 7)
  region.free()
  t.equal(await hand.ask('memory'), 'ERR_ACCEL_REVOKED')
  t.equal(await hand.ask('staleWrite', 3, 9), 9, 'no fault')
  const byte = new Uint8Array(1)
  sys.pread(fd, byte, 3)
  t.equal(byte[0], 7, 'and what the device may have got is untouched')
  sys.close(fd)
  await end()
})

t.test('what a worker reads of memory that is taken back meanwhile is known as such', async (t) => {
  const { device, end } = await bench()
  const share = device.share()
  const region = device.dma.alloc(4096, { separate: true })
  const hand = await new Hand(share.token, { memory: share.memory(region) }).ready()
  const asked = hand.ask('untilZero')
  t.ok(await until(() => hand.progress[0] > 0))
  region.u8[0] = 0
  t.equal(await asked, true, 'a zero that was written is one')
  hand.progress[0] = 0
  const again = hand.ask('untilZero')
  t.ok(await until(() => hand.progress[0] > 0))
  await device.release()
  t.equal(await again, false, 'one of memory that was taken back is none')
  await end()
})

t.test('an interrupt vector fires in the worker, also after a reset, and comes back', async (t) => {
  const { transport, device, end } = await bench({ irqs: { msix: { count: 3 } } })
  const irqs = await device.allocIrqVectors({ max: 3 })
  const here: number[] = []
  for (let i = 0; i < 3; i++) irqs.handle(i, () => here.push(i))
  const share = device.share()
  const hand = await new Hand(share.token, { event: share.vector(irqs, 1) }).ready()
  const fire = (vector: number) =>
    sys.write(transport.armed.get('msix')![vector], new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]))
  fire(1)
  t.match(await hand.next('fired'), { fired: 1 })
  fire(0)
  t.ok(await until(() => here.length > 0))
  await device.reset()
  fire(1)
  t.match(await hand.next('fired'), { fired: 1 })
  t.same(here, [0], 'each has its own')
  hand.worker.postMessage(['close'])
  t.match(await hand.next('aborted'), { aborted: 'ERR_ACCEL_CLOSED' })
  await share.ref().detached
  irqs.handle(1, () => here.push(1))
  fire(1)
  t.ok(await until(() => here.length > 1))
  await end()
})

t.test('a reset under a worker that never reaches its event loop', async (t) => {
  const { transport, device, end } = await bench()
  const share = device.share()
  const hand = await new Hand(share.token, { bar: share.bar(0) }).ready()
  const ended = hand.ask('busy')
  const going = async () => {
    const from = Atomics.load(hand.progress, 0)
    return until(() => Atomics.load(hand.progress, 0) > from + 1000)
  }
  t.ok(await going())
  let resume = () => {}
  transport.reset = () =>
    new Promise((resolve) => {
      resume = resolve
    })
  const resetting = device.reset()
  t.ok(await until(() => hand.progress[1] > 10), 'it is told by one load')
  transport.bar.window.u32[2] = 0xdead
  await sleep(20)
  t.equal(transport.bar.window.u32[2], 0xdead, 'and reaches nothing')
  resume()
  await resetting
  t.ok(await going(), 'afterwards its accessors work again')
  t.not(transport.bar.window.u32[2], 0xdead)
  transport.lose(accelError('ERR_ACCEL_NO_DEVICE', 'pulled out'))
  t.equal(await ended, 'ERR_ACCEL_NO_DEVICE', 'a loss ends its loop')
  await share.ref().detached
  await end()
})

t.test('a worker that blocks: an interrupt wakes it, and so does what happens to the device', async (t) => {
  const { transport, device, end } = await bench({ irqs: { msix: { count: 1 } } })
  const irqs = await device.allocIrqVectors()
  const fire = () => sys.write(transport.armed.get('msix')![0], new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]))
  const share = device.share()
  const hand = await new Hand(share.token, { awaited: share.vector(irqs, 0) }).ready()
  t.equal(await hand.ask('look'), 0)
  const ended = hand.ask('block')
  t.ok(await until(() => hand.progress[0] > 0))
  for (let wakes = 2; wakes < 5; wakes++) {
    await sleep(5) // it sleeps
    fire()
    t.ok(await until(() => hand.progress[0] === wakes))
  }
  share.post('news')
  t.ok(await until(() => hand.progress[1] === 1), 'by a message')
  await device.reset()
  t.ok(await until(() => hand.progress[1] >= 2), 'by a reset')
  await sleep(20)
  const wakes = hand.progress[1]
  t.ok(wakes <= 3, 'and it sleeps again')
  fire()
  t.ok(await until(() => hand.progress[0] === 5), 'a vector that was armed anew')
  t.equal(hand.progress[1], wakes)
  transport.lose(accelError('ERR_ACCEL_NO_DEVICE', 'pulled out'))
  t.equal(await ended, 'ERR_ACCEL_NO_DEVICE', 'by a loss, which ends it')
  t.match(await hand.next('said'), { said: 'news' })
  await share.ref().detached
  await end()
})

t.test('a wake that comes after its announcement was applied ends one wait, not all', async (t) => {
  const { device, end } = await bench()
  const share = device.share()
  const hand = await new Hand(share.token, { awaited: share.event().token }).ready()
  await hand.ask('look') // nothing is announced any more
  const { wake } = share.token
  sys.write(wake, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0])) // what an owner does last that was overtaken
  const waited = async () => {
    const start = performance.now()
    t.equal(await hand.ask('wait', 300), 0)
    return performance.now() - start
  }
  await waited()
  t.ok((await waited()) > 290, 'the second lasts until its limit')
  share.close()
  await share.ref().detached
  await end()
})

t.test('what a worker cannot wait for', async (t) => {
  const { device, end } = await bench()
  const share = device.share()
  const { token, line } = share.event()
  const hand = await new Hand(share.token, { awaited: token }).ready()
  line.signal()
  t.equal(await hand.ask('look'), 1)
  t.equal(await hand.ask('counts'), 1)
  await hand.ask('closeLine')
  t.equal(await hand.ask('look'), 'ERR_ACCEL_CLOSED')
  t.throws(() => line.waitSync({ timeoutMs: -1 }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  line.signal()
  t.equal(line.waitSync({ timeoutMs: 1000 }), 1, 'the owner can wait as well')
  await line.handle(() => {})
  t.throws(() => line.waitSync({ timeoutMs: 0 }), { code: 'ERR_ACCEL_BUSY' })
  share.close()
  await share.ref().detached
  await end()
})

t.test('a line that was closed signals nobody: its number may be another descriptor by then', async (t) => {
  const line = new EventLine()
  const { fd } = line
  line.close()
  const other = new EventFd()
  t.equal(other.fd, fd)
  line.signal()
  t.equal(other.drain(), 0)
  other.close()
})

t.test('a worker that is terminated leaves nothing behind', async (t) => {
  const round = async (action: string) => {
    const { device, end } = await bench({ irqs: { msix: { count: 1 } } })
    const irqs = await device.allocIrqVectors()
    const share = device.share()
    const region = device.dma.alloc(8192, { separate: true })
    const hand = await new Hand(share.token, {
      bar: share.bar(0),
      memory: share.memory(region),
      event: share.vector(irqs, 0),
      awaited: share.event().token,
    }).ready()
    void hand.ask(action)
    await until(() => Atomics.load(hand.progress, 0) > 0)
    await hand.worker.terminate()
    await share.ref().detached
    await end()
  }
  await round('busy')
  const before = [openFds(), sharedMaps().length]
  for (let i = 0; i < 3; i++) await round(i === 1 ? 'block' : 'busy')
  t.same([openFds(), sharedMaps().length], before)
})
