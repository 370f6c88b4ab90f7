import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { bindDevice, bindGroup, listPciDevices, openVfio, readPciDevice, unbindDevice } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { uaccel } from './uaccel.js'

/**
 * Runs in the lab, with edu, an nvme, and edu and a virtio-rng behind a conventional bridge, which share an IOMMU
 * group: devices given to vfio-pci and back by the kernel.
 */
const devices = new Map(
  parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').map(({ name, bdf }) => [name, bdf]),
)
const edu = devices.get('edu')!
const nvme = devices.get('nvme')!
const behindBridge = listPciDevices().filter((device) => !device.bdf.startsWith('0000:00:'))
const second = behindBridge.find(({ vendor, device }) => vendor === 0x1234 && device === 0x11e8)!.bdf
const neighbour = behindBridge.find(({ driver }) => driver === 'virtio-pci')!.bdf
/** A user without any right. */
const NOBODY = 65534
const skipNvme = existsSync('/sys/bus/pci/drivers/nvme') ? false : 'this kernel has no nvme driver loaded'

t.setTimeout(400_000)

const driverOf = (bdf: string) => readPciDevice(bdf).driver
const run = (file: string, ...args: string[]) =>
  execFileSync(file, args, { stdio: ['ignore', 'ignore', 'inherit'] })

/** The disk of an NVMe controller, some time after the kernel's driver took it. */
async function diskOf(bdf: string): Promise<string> {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(20)) {
    const part = globParts(bdf).find((name) => existsSync(`/dev/${name}`))
    if (part !== undefined) return `/dev/${part}`
  }
  throw new Error(`${bdf} has no disk`)
}

function globParts(bdf: string): string[] {
  const controllers = `/sys/bus/pci/devices/${bdf}/nvme`
  if (!existsSync(controllers)) return []
  return readdirSync(controllers).flatMap((name) =>
    readdirSync(`${controllers}/${name}`).filter((inner) => /^nvme\d+n\d+$/.test(inner)),
  )
}

t.test('a device of no driver goes to vfio-pci, and back', async (t) => {
  t.match(await unbindDevice(edu), { changed: true, previousDriver: 'vfio-pci' }, 'bound by somebody else')
  t.equal(driverOf(edu), undefined)
  const bound = await bindDevice(edu, { owner: { uid: NOBODY, gid: NOBODY } })
  t.match(bound, { driver: 'vfio-pci', changed: true, blockers: [] })
  t.ok(bound.nodes.includes(`/dev/vfio/${readPciDevice(edu).iommuGroup!.id}`))
  for (const path of bound.nodes) {
    const { uid, gid, mode } = statSync(path)
    t.strictSame([uid, gid, mode & 0o777], [NOBODY, NOBODY, 0o660], path)
  }
  process.setegid!(NOBODY)
  process.seteuid!(NOBODY)
  const transport = await openVfio(edu)
  t.equal(transport.read(0, 0, 4), 0x010000ed, 'that user can open it')
  await transport.close()
  process.seteuid!(0)
  process.setegid!(0)
  t.match(await unbindDevice(edu), { changed: true })
  t.equal(driverOf(edu), undefined)
})

t.test('the command, and the commands that it prints', async (t) => {
  const plan = await uaccel(['bind', edu, '--dry-run'])
  t.match(plan, { code: 0, stderr: '' })
  t.equal(driverOf(edu), undefined)
  run('sh', '-ec', plan.stdout)
  t.equal(driverOf(edu), 'vfio-pci')
  const already = await uaccel(['bind', edu, '--owner', 'nobody'])
  t.match(already, {
    code: 0,
    stdout: /: bound to vfio-pci already\n {2}\/dev\/vfio\/\d+.*, now nobody's\n$/,
  })
  const json = await uaccel(['unbind', edu, '--json'])
  t.match(JSON.parse(json.stdout), { bdf: edu, previousDriver: 'vfio-pci', changed: true })
  t.equal(driverOf(edu), undefined)
})

t.test('a driver that does not want the device', async (t) => {
  await t.rejects(bindDevice(edu, { driver: 'virtio-pci' }), {
    code: 'ERR_ACCEL_SYSTEM',
    message: /wanted|was to be bound to virtio-pci, and is bound to none.*It has no driver, as before/,
  })
  t.equal(driverOf(edu), undefined)
  t.match(await bindDevice(edu), { driver: 'vfio-pci' })
  await t.rejects(bindDevice(edu, { driver: 'virtio-pci' }), { message: /It is bound to vfio-pci again/ })
  t.equal(driverOf(edu), 'vfio-pci')
  t.match(await bindDevice(edu, { driver: 'uio_pci_generic' }), { nodes: [/^\/dev\/uio\d+$/] })
  await unbindDevice(edu)
  t.equal(driverOf(edu), undefined, 'what it was at first')
})

t.test('a disk that is mounted', { skip: skipNvme }, async (t) => {
  await unbindDevice(nvme)
  t.equal(driverOf(nvme), 'nvme', 'the kernel chooses')
  const disk = await diskOf(nvme)
  const place = mkdtempSync('/tmp/disk-')
  run('mkfs.ext4', '-q', disk)

  const fd = openSync(disk, 'r')
  await t.rejects(bindDevice(nvme), {
    code: 'ERR_ACCEL_BUSY',
    message: `(process ${process.pid}, this one) has ${disk} open`,
  })
  closeSync(fd)

  run('mount', disk, place)
  const refused = await uaccel(['bind', nvme])
  t.match(refused, { code: 1, stdout: '', stderr: `${disk} is mounted on ${place}` })
  t.match(refused.stderr, `umount ${place}`)
  t.equal(driverOf(nvme), 'nvme')
  run('umount', place)

  // in a mount namespace that this process does not see
  const elsewhere = spawn(
    'unshare',
    ['-m', 'sh', '-c', `mount ${disk} ${place} && echo mounted && exec sleep 1000`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  await once(elsewhere.stdout!, 'data')
  await t.rejects(bindDevice(nvme), { code: 'ERR_ACCEL_BUSY', message: /claimed by the kernel/ })
  await ended(elsewhere)

  while (true) {
    try {
      run('mount', disk, place)
      break
    } catch {
      await sleep(100)
    }
  }
  t.match(await bindDevice(nvme, { force: true }), { driver: 'vfio-pci', previousDriver: 'nvme' })
  t.notOk(existsSync(disk))
  run('umount', place)
  const transport = await openVfio(nvme)
  t.equal(transport.read(0, 8, 4) >>> 16, 1, 'the controller answers with the version of NVMe, 1.x')
  await transport.close()
  t.match(await unbindDevice(nvme), { driver: 'nvme', previousDriver: 'vfio-pci' })
  run('dd', `if=${await diskOf(nvme)}`, 'of=/dev/null', 'bs=4096', 'count=1')
})

t.test('all devices of a group', async (t) => {
  t.match(await bindDevice(second), {
    driver: 'vfio-pci',
    blockers: [{ bdf: neighbour, driver: 'virtio-pci' }],
  })
  await t.rejects(openVfio(second), { code: 'ERR_ACCEL_GROUP_NOT_VIABLE' })
  const bindings = await bindGroup(second)
  t.strictSame(bindings.map(({ bdf }) => bdf).sort(), [second, neighbour].sort())
  t.match(bindings, [{ blockers: [] }, { blockers: [] }])
  const transport = await openVfio(second)
  await transport.close()
  t.match(await unbindDevice(neighbour), { driver: 'virtio-pci' })
  await unbindDevice(second)
  t.equal(driverOf(second), undefined)
})

const core = JSON.stringify(import.meta.resolve('@uaccel/core'))

t.test('a program that does not give the device up', async (t) => {
  await bindDevice(edu)
  const program = `const { openVfio } = await import(${core})
    await openVfio('${edu}')
    console.log('open')
    setInterval(() => {}, 1e6)`
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(holder.stdout!, 'data')
  const named = new RegExp(`\\(process ${holder.pid}\\)`)
  await t.rejects(unbindDevice(edu), { code: 'ERR_ACCEL_BUSY', message: named })
  await t.rejects(bindDevice(edu, { driver: 'uio_pci_generic' }), { code: 'ERR_ACCEL_BUSY', message: named })
  await t.rejects(unbindDevice(edu, { force: true, timeoutMs: 1500 }), {
    code: 'ERR_ACCEL_TIMEOUT',
    message: named,
  })
  await ended(holder)
  while (driverOf(edu) !== undefined) await sleep(20)
  t.match(await unbindDevice(edu), { changed: false }, 'the kernel has done it by now')
  t.match(await bindDevice(edu), { driver: 'vfio-pci', changed: true })
})

async function ended(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}
