import { chownSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import { openVfio, parseBdf, readPciDevice, vfioSource } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { parseDevices } from '@uaccel/lab'
import { leavesNothing } from '@uaccel/testkit'
import t from 'tap'
import { Administrator } from './administrator.js'
import { busyClients, works } from './busy.js'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab: an administrator takes a device from its busy users and gives it back, over and over. */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const bdf = parseBdf(found.bdf)
const driver = '/sys/bus/pci/drivers/vfio-pci'
const rounds = Number(process.env.UACCEL_REMOVAL_ROUNDS ?? 2)
/** A user without any right. */
const NOBODY = 65534
/** What an unbind may take while the device is in use, in ms. */
const UNBIND_MS = 2000

t.setTimeout(400_000)
const names = ({ nodes }: Accel) => nodes.map(({ name }) => name)
const administrator = new Administrator()

for (const { iommu, skip } of lanes()) {
  t.test(`a busy device is unbound and bound again, by ${iommu}`, { skip }, async (t) => {
    const times: number[] = []
    const session = async () => {
      const accel = new Accel()
      const told: string[] = []
      accel.on('error', (error) => told.push(error.message))
      accel.register(edu)
      const discovery = await accel.discover({ sources: [vfioSource({ iommu })], ref: true })
      discovery.on('skipped', ({ error }) => told.push(error.message))
      discovery.on('error', (error) => told.push(error.message))
      t.same(discovery.skipped, [])
      for (let round = 0; round < rounds; round++) {
        const removed = new Promise((resolve) => accel.once('removed', resolve))
        const ended = busyClients(accel)
        await sleep(50)
        times.push(await administrator.write(`${driver}/unbind`, bdf))
        t.equal(readPciDevice(bdf).driver, undefined)
        // Every other time it is bound again before its users have noticed.
        if (round % 2 === 0) await removed
        const added = new Promise((resolve) => accel.once('added', resolve))
        await administrator.write(`${driver}/bind`, bdf)
        for (const { error } of await ended) t.equal(error.code, 'ERR_ACCEL_NO_DEVICE')
        await added
        t.same(names(accel), ['accel0'])
        t.ok(await works(accel), 'probed again')
      }
      t.same(told, [], 'nothing else was to report')
      await accel.close()
    }
    await leavesNothing(t, session, 1)
    const worst = Math.round(Math.max(...times))
    t.ok(worst < UNBIND_MS, `${times.length} unbinds took at most ${worst} ms`)
  })
}

t.test(
  'a device that somebody holds, and one that the user has no right to, are added when that has passed',
  async (t) => {
    const source = vfioSource({ iommu: 'type1' })
    const group = `/dev/vfio/${readPciDevice(bdf).iommuGroup!.id}`
    const obstacles: readonly (readonly [code: string, put: () => Promise<() => unknown>])[] = [
      [
        'ERR_ACCEL_BUSY',
        async () => {
          const transport = await openVfio(bdf, { iommu: 'type1' })
          return () => transport.close()
        },
      ],
      [
        'ERR_ACCEL_PERMISSION',
        async () => {
          process.seteuid!(NOBODY)
          return () => {
            process.seteuid!(0)
            chownSync(group, NOBODY, NOBODY)
            process.seteuid!(NOBODY)
          }
        },
      ],
    ]
    for (const [code, put] of obstacles) {
      const remove = await put()
      const accel = new Accel()
      accel.register(edu)
      const discovery = await accel.discover({ sources: [source], ref: true })
      t.match(discovery.skipped, [{ device: { transport: { address: bdf } }, error: { code } }])
      const added = new Promise((resolve) => accel.once('added', resolve))
      await remove()
      await added
      t.same(discovery.skipped, [])
      await accel.close()
    }
    process.seteuid!(0)
  },
)
