import { setTimeout as sleep } from 'node:timers/promises'
import { Accel, type AccelNode } from '@uaccel/accel'
import { type IommuKind, parseBdf, readPciDevice, vfioSource } from '@uaccel/core'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import { parseDevices } from '@uaccel/lab'
import { leavesNothing } from '@uaccel/testkit'
import { type AccelError, isAccelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { Administrator } from './administrator.js'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab, where our model of the NPU is a device of QEMU's: an administrator takes it with work under way, and gives it back. */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'npu')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no npu: run this in the lab')
const bdf = parseBdf(found.bdf)
const driver = '/sys/bus/pci/drivers/vfio-pci'
const JOBS = 256
const ROUNDS = 3
/** From the moment that the process knew to the end of the last job, in ms. */
const LIMIT_MS = 100
/** What an unbind may take while the device is in use, in ms. */
const UNBIND_MS = 2000
/** Test mode, docs/devices/npu.md, 9.10: from this descriptor on nothing completes. */
const TEST_HANG = 0xc0 | 0x400

t.setTimeout(500_000)

const administrator = new Administrator()

/** Puts 256 jobs under way, none of which ends by itself; `ended` says how they did in the end, and when. */
async function fill(npu: Npu) {
  const context = await npu.createContext({ ringEntries: 512 })
  const buffer = context.allocate(4096)
  const hang = context.encode([{ op: 'nop' }])
  hang.words[0] = TEST_HANG
  hang.words[13] = 0
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 4096, pattern: 1 }])
  const errorOf = async (work: Promise<unknown>): Promise<AccelError> => {
    const error: unknown = await work.then(
      () => new Error('an error was expected'),
      (error: unknown) => error,
    )
    if (isAccelError(error)) return error
    throw error
  }
  const ends = Array.from({ length: JOBS }, (_, i) =>
    errorOf(context.run(i === 0 ? hang : job, { timeoutMs: 60_000 })),
  )
  if (context.inFlight !== JOBS) throw new Error(`${context.inFlight} jobs in flight`)
  return { ended: Promise.all(ends).then((errors) => ({ errors, at: performance.now() })) }
}

async function works(npu: Npu): Promise<boolean> {
  const context = await npu.createContext()
  const buffer = context.allocate(64)
  await context.run(context.encode([{ op: 'fill', y: { buffer }, length: 16, pattern: 0x01010101 }]))
  const filled = buffer.u8.subarray(0, 16).every((byte) => byte === 1)
  await context.close()
  return filled
}

for (const { iommu, skip } of lanes()) {
  t.test(`an administrator takes a busy NPU and gives it back, by ${iommu}`, { skip }, async (t) => {
    const ends: number[] = []
    const unbinds: number[] = []
    await leavesNothing(t, () => takeAndGive(t, iommu, ends, unbinds), 1)
    const worst = { ended: Math.max(...ends), unbound: Math.max(...unbinds) }
    t.ok(worst.ended < LIMIT_MS, `all jobs ended within ${worst.ended.toFixed(1)} ms`)
    t.ok(worst.unbound < UNBIND_MS, `the unbind took ${Math.round(worst.unbound)} ms`)
    const whole = (values: number[]) => values.map(Math.round).join(', ')
    t.comment(`ms in each round: jobs ${whole(ends)}; unbind ${whole(unbinds)}`)
  })
}

async function takeAndGive(t: Test, iommu: IommuKind, ends: number[], unbinds: number[]): Promise<void> {
  const npus: Npu[] = []
  const told: string[] = []
  const accel = new Accel()
  accel.on('error', (error) => told.push(error.message))
  accel.register(npuDriver({ onReady: (npu) => npus.push(npu) }))
  const discovery = await accel.discover({ sources: [vfioSource({ iommu })], ref: true })
  discovery.on('skipped', ({ error }) => told.push(error.message))
  t.same(discovery.skipped, [])
  for (let round = 0; round < ROUNDS; round++) {
    const [node] = accel.nodes as [AccelNode]
    const removed = new Promise((resolve) => accel.once('removed', resolve))
    const { ended } = await fill(npus.at(-1)!)
    await sleep(50)
    const unbound = administrator.write(`${driver}/unbind`, bdf)
    const reason = await node.lost
    const knownAt = performance.now()
    const { errors, at } = await ended
    ends.push(Math.max(0, at - knownAt))
    t.ok(
      errors.every(({ code }) => code === 'ERR_ACCEL_NO_DEVICE'),
      `${errors.length} jobs ended with the removal error`,
    )
    t.match(reason.message, /the kernel wants .* back/)
    await removed
    unbinds.push(await unbound)
    t.equal(accel.nodes.length, 0)
    t.equal(readPciDevice(bdf).driver, undefined)
    const added = new Promise((resolve) => accel.once('added', resolve))
    await administrator.write(`${driver}/bind`, bdf)
    await added
    t.equal(accel.node('accel0').identity.transport.address, bdf)
    t.ok(await works(npus.at(-1)!), 'probed again')
  }
  t.same(told, [], 'nothing else was to report')
  await accel.close()
}
