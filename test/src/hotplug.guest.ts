import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import { parseBdf, vfioSource, watchUevents } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { parseDevices } from '@uaccel/lab'
import { leavesNothing } from '@uaccel/testkit'
import t from 'tap'
import { busyClients, works } from './busy.js'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab, with edu behind a root port: `unplug` and `plug` on standard error have the host do so. */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const bdf = parseBdf(found.bdf)
const folder = `/sys/bus/pci/devices/${bdf}`
const rounds = Number(process.env.UACCEL_REMOVAL_ROUNDS ?? 2)
/** From the moment that the process knew to the end of the last call. */
const LIMIT_MS = 100

t.setTimeout(400_000)

// What a rule of the administrator does: a device of this kind is for vfio-pci.
const rule = watchUevents(
  ({ action, ...event }) => {
    if (action !== 'add' || !('name' in event) || event.name !== bdf) return
    writeFileSync(`${folder}/driver_override`, 'vfio-pci')
    writeFileSync('/sys/bus/pci/drivers_probe', bdf)
  },
  { subsystems: ['pci'] },
)

for (const { iommu, skip } of lanes()) {
  t.test(`a busy device is unplugged and plugged in again, by ${iommu}`, { skip }, async (t) => {
    const times: number[] = []
    const session = async () => {
      const accel = new Accel()
      const told: string[] = []
      accel.on('error', (error) => told.push(error.message))
      accel.register(edu)
      const discovery = await accel.discover({ sources: [vfioSource({ iommu })], ref: true })
      discovery.on('skipped', ({ error }) => told.push(error.message))
      for (let round = 0; round < rounds; round++) {
        const [node] = accel.nodes
        const removed = new Promise((resolve) => accel.once('removed', resolve))
        const ended = busyClients(accel)
        await sleep(50)
        console.error('unplug')
        const reason = await node!.lost
        const knownAt = performance.now()
        await removed
        for (const { error, at } of await ended) {
          t.equal(error.code, 'ERR_ACCEL_NO_DEVICE')
          t.equal(error.cause, reason)
          times.push(at - knownAt)
        }
        t.match(reason.message, /the kernel wants .* back/)
        while (existsSync(folder)) await sleep(20)
        t.equal(accel.nodes.length, 0)
        const added = new Promise((resolve) => accel.once('added', resolve))
        console.error('plug')
        await added
        t.equal(accel.node('accel0').identity.transport.address, bdf)
        t.ok(await works(accel), 'probed again')
      }
      t.same(told, [], 'nothing else was to report')
      await accel.close()
    }
    await leavesNothing(t, session, 1)
    times.sort((a, b) => a - b)
    const [median, worst] = [times[times.length >> 1]!, times.at(-1)!]
    // The first on emulated processors runs cold, and the host may be busy with something else.
    t.ok(
      median < LIMIT_MS,
      `calls ended within ${median.toFixed(1)} ms (median), ${worst.toFixed(1)} ms at most`,
    )
  })
}

t.teardown(() => rule.close())
