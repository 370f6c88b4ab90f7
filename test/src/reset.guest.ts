import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Accel } from '@uaccel/accel'
import { listPciDevices, openDevice, openVfio, parseBdf, reg32, registers } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { parseDevices } from '@uaccel/lab'
import { eduBench, leavesNothing, resetContract } from '@uaccel/testkit'
import t from 'tap'
import { lanes } from './iommufd-lane.js'
import { uaccelBin } from './uaccel.js'

/**
 * Runs in the lab, with edu on the root bus, one alone behind a root port, two functions behind another, and an nvme: resets
 * and sleep as QEMU's devices and the kernel have them, beyond what contracts.guest.ts runs.
 */
const devices = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')
const [plain, alone] = devices.filter(({ name }) => name === 'edu').map(({ bdf }) => parseBdf(bdf))
const nvme = parseBdf(devices.find(({ name }) => name === 'nvme')!.bdf)
/** What the lab does not know of, bound here. */
const together = listPciDevices()
  .filter(
    ({ vendor, device, bdf }) => vendor === 0x1234 && device === 0x11e8 && bdf !== plain && bdf !== alone,
  )
  .map(({ bdf }) => bdf)

t.setTimeout(400_000)

const sysfs = (bdf: string, file: string) => `/sys/bus/pci/devices/${bdf}/${file}`
const unbind = (bdf: string) => writeFileSync('/sys/bus/pci/drivers/vfio-pci/unbind', bdf)
function bind(bdf: string): void {
  writeFileSync(sysfs(bdf, 'driver_override'), 'vfio-pci')
  writeFileSync('/sys/bus/pci/drivers_probe', bdf)
}
for (const bdf of together) bind(bdf)

for (const { iommu, skip } of lanes()) {
  t.test(`a device without a reset by ${iommu}`, { skip }, async (t) => {
    resetContract(t, () => openVfio(plain!, { iommu }), eduBench)
  })

  t.test(`function and hot reset, with INTx, by ${iommu}`, { skip }, async (t) => {
    const transport = await openVfio(alone!, { iommu })
    t.strictSame(transport.resets, ['function', 'hot'])
    await transport.close()
    resetContract(t, () => openVfio(alone!, { iommu }), eduBench, { type: 'intx', rounds: 1 })
  })

  t.test(`a node is reset with a command under way by ${iommu}`, { skip }, async (t) => {
    await leavesNothing(t, async () => {
      const accel = new Accel()
      accel.register(edu)
      const node = await accel.add(await openVfio(alone!, { iommu }))
      const client = accel.open(eduUapi, 'accel0')
      for (const kind of ['function', 'hot'] as const) {
        const under = t.rejects(client.call('factorial', { n: 2 ** 27 }), {
          code: 'ERR_ACCEL_IO',
          message: /was reset/,
        })
        await sleep(20)
        await node.reset({ kind })
        await under
        t.same(await client.call('factorial', { n: 10 }), { value: 3_628_800 })
        const data = Uint8Array.of(1, 2, 3)
        t.same((await client.call('echo', { data })).data, data, 'it masters the bus')
      }
      await accel.close()
    })
  })

  t.test(`two functions on one bus by ${iommu}`, { skip }, async (t) => {
    t.equal(together.length, 2)
    const [one, other] = [await openVfio(together[0]!, { iommu }), await openVfio(together[1]!, { iommu })]
    const dev = openDevice(one)
    await dev.enable()
    const bar = await dev.mapBar(0, registers({ ID: reg32(0, 'ro') }))
    const refused = { code: 'ERR_ACCEL_BUSY', details: { devices: [together[1]] } }
    await t.rejects(dev.reset({ kind: 'hot' }), {
      ...refused,
      message: /are open in this process: close them first/,
    })
    t.equal(bar.ID.read(), 0x010000ed, 'nothing was done')
    await other.close()
    await dev.reset({ kind: 'hot' })
    t.equal(bar.ID.read(), 0x010000ed)
    unbind(together[1]!)
    await t.rejects(dev.reset({ kind: 'hot' }), refused, 'the kernel wants all of them bound')
    t.equal(bar.ID.read(), 0x010000ed)
    bind(together[1]!)
    await dev.release()
    await one.close()
  })

  t.test(`nvme sleeps and wakes by ${iommu}`, { skip }, async (t) => {
    const transport = await openVfio(nvme, { iommu })
    const dev = openDevice(transport)
    await dev.enable({ busMaster: true })
    // NVM Express Base 1.4, 3.1: capabilities, version.
    const bar = await dev.mapBar(0, registers({ CAP: reg32(0, 'ro'), VS: reg32(8, 'ro') }))
    const before = [bar.CAP.read(), bar.VS.read()]
    await dev.sleep()
    const status = () => readFileSync(sysfs(nvme, 'power/runtime_status'), 'utf8').trim()
    for (let i = 0; i < 100 && status() !== 'suspended'; i++) await sleep(20)
    t.equal(status(), 'suspended', 'as the kernel sees it')
    t.throws(() => bar.VS.read(), { code: 'ERR_ACCEL_NO_DEVICE', message: /sleeps: wake\(\) it first/ })
    await dev.wake()
    t.equal(status(), 'active')
    t.same([bar.CAP.read(), bar.VS.read()], before)
    await dev.sleep()
    await dev.release()
    await transport.close()
  })
}

t.test('the way out of wedged: uaccel reset, and off the bus and on again', async (t) => {
  const run = (...args: string[]) => spawnSync(process.execPath, [uaccelBin, ...args], { encoding: 'utf8' })
  for (const [args, kind] of [
    [[], 'function'],
    [['--hot'], 'hot'],
  ] as const) {
    const { status, stderr } = run('reset', alone!, ...args)
    t.equal(status, 0, stderr)
    t.equal(stderr, `${alone} answers after a ${kind} reset.\n`)
  }
  t.match(run('reset', plain!), { status: 1, stderr: /ERR_ACCEL_UNSUPPORTED/ })
  execFileSync('sh', ['-c', `echo 1 > ${sysfs(alone!, 'remove')} && echo 1 > /sys/bus/pci/rescan`])
  bind(alone!)
  const transport = await openVfio(alone!)
  t.equal(transport.read(0, 0, 4), 0x010000ed)
  await transport.close()
})
