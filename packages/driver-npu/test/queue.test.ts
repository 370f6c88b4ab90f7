import { type Mmio, openDevice } from '@uaccel/core'
import type { DmaDomain, DmaRegion } from '@uaccel/memory'
import { loopback } from '@uaccel/model'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { Npu } from '../src/driver.js'
import { type NpuBar, NpuQueue } from '../src/queue.js'

/** A queue whose device is the test: it sees what the driver wrote and forges completions. */
async function forged() {
  const transport = loopback(npuModel)
  const device = await openDevice(transport)
  const npu = await Npu.start(device, { irq: 'poll' })
  const context = await npu.createContext()
  const regions: DmaRegion[] = []
  const alloc = (sizeBytes: number) => {
    const region = device.dma.alloc(sizeBytes)
    regions.push(region)
    return region
  }
  const written: string[] = []
  const write32 = (offset: number, value: number) => written.push(`doorbell ${offset} ${value}`)
  const wake = { WAKE: { write: () => written.push('wake') } }
  const queue = new NpuQueue(
    0,
    { QUEUE: [wake] } as unknown as NpuBar,
    { write32 } as unknown as Mmio,
    { alloc } as unknown as DmaDomain,
    3,
  )
  const [sq, cq, status] = regions.map(({ i32 }) => i32)
  let posted = 0
  const post = (cid: number, statusCode = 0, step = 0) => {
    const at = (posted & 7) * 4
    cq[at] = step
    cq[at + 3] = (statusCode << 24) | ((((posted >>> 3) & 1) ^ 1) << 16) | cid
    posted++
  }
  const end = async () => {
    await device.release()
    await transport.close()
  }
  return { context, queue, written, post, sq, status, end }
}

t.test('one doorbell for a batch, WAKE where the device asked, across the turns of the ring', async (t) => {
  const { context, queue, written, post, sq, status, end } = await forged()
  const job = context.encode([{ op: 'nop' }, { op: 'nop', fence: true }])
  let done = 0
  const turn = (wakeAt: number) => {
    status[0] = wakeAt
    queue.push(job, () => done++)
    queue.push(job, () => done++)
    queue.ring()
    const cids = [0, 1, 2, 3].map((i) => sq[((done * 2 + i) & 7) * 16] >>> 16)
    for (const cid of cids.toReversed()) post(cid) // completions out of order
    return queue.poll()
  }
  for (let i = 0; i < 10; i++) {
    written.length = 0
    const tail = 4 * (i + 1)
    // Asked to be woken from just here on in even turns; in odd ones it still works on what came before.
    t.equal(turn(i % 2 === 0 ? tail - 4 : tail - 5), 4)
    t.strictSame(written, [`doorbell 0 ${tail}`, ...(i % 2 === 0 ? ['wake'] : []), `doorbell 4 ${tail}`])
  }
  t.equal(done, 20)
  t.equal(queue.inFlight, 0)
  queue.ring()
  t.equal(written.length, 2, 'nothing new, no doorbell')
  await end()
})

t.test('completions that nobody waits for are passed over', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const job = context.encode([{ op: 'nop' }, { op: 'nop' }])
  const ends: (string | undefined)[] = []
  queue.push(job, (error) => ends.push(error?.code))
  queue.ring()
  const cid = sq[0] >>> 16
  post(0xffff)
  post(cid ^ 1)
  t.equal(queue.poll(), 2, 'as many as were submitted')
  t.strictSame(ends, [])
  t.equal(queue.poll(), 0)
  post(cid)
  t.equal(queue.poll(), 0, 'more than were submitted')
  await end()
})

t.test('the first failed step is the error, an unknown status included', async (t) => {
  const { context, queue, post, sq, end } = await forged()
  const job = context.encode([{ op: 'nop' }, { op: 'nop' }, { op: 'nop' }])
  const ends: unknown[] = []
  for (const [code, step] of [
    [0x55, 1],
    [0x10, 2_000_000],
  ]) {
    const first = (ends.length * 3) & 7
    queue.push(job, (error) => ends.push(error?.details))
    queue.ring()
    const cid = sq[first * 16] >>> 16
    post(cid)
    post(cid, code, step)
    post(cid, 0x3f, 2)
    t.equal(queue.poll(), 3)
  }
  t.match(ends, [
    { status: '0x55', operation: 'nop', step: 1 },
    { status: 'WINDOW_READ', operation: 'unknown', step: 2_000_000 },
  ])
  await end()
})
