import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { openBuffers } from '@uaccel/accel'
import { type NodeClient, openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { encodeJob, npuUapi } from '@uaccel/driver-npu/uapi'
import { abi, sys } from '@uaccel/sys'

/*
 * Clients that use buffers and jobs, each in a process of its own: argv[2] is what it does, argv[3] the folder of the nodes, where
 * accel0 is an edu, and accel1, or what argv[4] names, an NPU. None loads a driver, but for the uAPI of one.
 */

const folder = process.argv[3]!
const say = (word: object) => process.send?.(word)
const edu = () => openAccel(eduUapi, 'accel0', { folder })
const npu = () => openAccel(npuUapi, process.argv[4] ?? 'accel1', { folder })

const SIZE = 1 << 16
const fill = (pattern: number) =>
  encodeJob([{ op: 'fill', y: { buffer: 0 }, length: SIZE, pattern: 0x01010101 * pattern }])
const copy = encodeJob([{ op: 'copy', x: { buffer: 0 }, y: { buffer: 1 }, length: SIZE }])

function readable(fd: number): void {
  if (!sys.poll([{ fd, events: abi.POLLIN }], 30_000)) throw new Error('the fence was never reached')
}

/** One job after another that fills a buffer and copies it: waited for by eventfd, and looked at. */
async function round(dev: NodeClient<typeof npuUapi>, pattern: number): Promise<boolean> {
  const buffers = openBuffers(dev)
  const [from, to] = [await buffers.create(SIZE), await buffers.create(SIZE)]
  const { handle: fence } = await dev.common('fenceCreate', { initialValue: 0n, flags: {} })
  await buffers.submit({ buffers: [{ buffer: from, access: 'write' }], payload: fill(pattern) })
  await buffers.submit(
    {
      buffers: [
        { buffer: from, access: 'read' },
        { buffer: to, access: 'write' },
      ],
      payload: copy,
    },
    { fence, value: 1n },
  )
  const { fd } = await dev.common('fenceEvent', { handle: fence, value: 1n, flags: {} })
  readable(fd!)
  sys.close(fd!)
  await dev.common('wait', { points: [{ fence, value: 1n }], deadlineNs: 0n, flags: {} })
  const right = to.u8.every((byte) => byte === pattern)
  await Promise.all([from.destroy(), to.destroy(), dev.common('fenceDestroy', { handle: fence })])
  return right
}

const programs: Record<string, () => Promise<void>> = {
  /** Everything that leaves something at the server, until somebody kills it. */
  async session() {
    say({ running: true })
    for (let pattern = 1; ; pattern = (pattern % 250) + 1) {
      const [device, dev] = await Promise.all([edu(), npu()])
      const computed = device.call('factorial', { n: 12 })
      const echoed = device.call('echo', { data: new Uint8Array(2000).fill(pattern) })
      const buffers = openBuffers(dev)
      const mine = await Promise.all([buffers.create(SIZE), buffers.create(4 * SIZE), buffers.create(4096)])
      const { fd: memory } = await dev.common('boExport', {
        handle: mine[0].handle,
        kind: 'memory',
        flags: {},
      })
      await Promise.all([
        dev.common('boImport', { fd: memory, flags: {} }),
        device.common('boImport', { fd: memory, flags: {} }),
      ])
      sys.close(memory!)
      const { handle: fence } = await dev.common('fenceCreate', { initialValue: 0n, flags: {} })
      const { fd: never } = await dev.common('fenceEvent', { handle: fence, value: 99n, flags: {} })
      for (let i = 0; i < 12; i++) {
        const job = { buffers: [{ buffer: mine[i % 2]! }], payload: fill(pattern) }
        await buffers.submit(job, { fence, value: BigInt(i + 1) })
      }
      const { fd: event } = await dev.common('fenceEvent', { handle: fence, value: 12n, flags: {} })
      readable(event!)
      if (!(await round(dev, pattern))) throw new Error('wrong data')
      await Promise.all([computed, echoed])
      // Some sessions end in order, some leave all to their close.
      if (pattern % 2) await Promise.all(mine.map((buffer) => buffer.destroy()))
      await Promise.all([device.close(), dev.close()])
      for (const buffer of mine) await buffer.destroy()
      for (const fd of [never!, event!]) sys.close(fd)
    }
  },
  /** Has the device write 0xdd into its buffer, when it is told to; then it is killed. */
  async victim() {
    const dev = await npu()
    const buffers = openBuffers(dev)
    const buffer = await buffers.create(SIZE)
    const told = once(process, 'message')
    say({ ready: true })
    await told
    await buffers.submit({ buffers: [{ buffer }], payload: fill(0xdd) })
    say({ submitted: true })
    await dev.lost
  },
  /**
   * As many opens as argv[5] says, each with one job after another from `startNs` to `endNs` of CLOCK_MONOTONIC, as often as it is told such
   * a time. Answers how many each got done.
   */
  async share() {
    const sizeBytes = Number(process.argv[6])
    const payload = encodeJob([{ op: 'fill', y: { buffer: 0 }, length: sizeBytes, pattern: 1 }])
    const users = await Promise.all(
      Array.from({ length: Number(process.argv[5]) }, async () => {
        const dev = await npu()
        const buffers = openBuffers(dev)
        return { dev, buffers, buffer: await buffers.create(sizeBytes) }
      }),
    )
    say({ ready: true })
    for (;;) {
      const [time] = (await once(process, 'message')) as [{ startNs: string; endNs: string } | 'end']
      if (time === 'end') break
      const [startNs, endNs] = [BigInt(time.startNs), BigInt(time.endNs)]
      await sleep(Number(startNs - process.hrtime.bigint()) / 1e6)
      const done = await Promise.all(
        users.map(async ({ buffers, buffer }) => {
          for (let count = 0; ; count++) {
            await buffers.run({ buffers: [{ buffer }], payload })
            if (process.hrtime.bigint() > endNs) return count
          }
        }),
      )
      say({ done })
    }
    await Promise.all(users.map(({ dev }) => dev.close()))
  },
  /** Works, and looks at what it got, until it is told to stop. */
  async bystander() {
    const [device, dev] = await Promise.all([edu(), npu()])
    let on = true
    process.once('message', () => {
      on = false
    })
    await round(dev, 1)
    say({ running: true })
    const seen = { rounds: 0, wrong: 0, slowestMs: 0 }
    for (let pattern = 1; on; pattern = (pattern % 250) + 1) {
      const start = performance.now()
      const [right, { value }] = await Promise.all([round(dev, pattern), device.call('factorial', { n: 10 })])
      seen.rounds++
      if (!right || value !== 3_628_800) seen.wrong++
      seen.slowestMs = Math.max(seen.slowestMs, Math.round(performance.now() - start))
      await sleep(5) // the others are to be killed at work, too
    }
    await Promise.all([device.close(), dev.close()])
    say(seen)
  },
}

await programs[process.argv[2]!]!()
process.disconnect?.()
