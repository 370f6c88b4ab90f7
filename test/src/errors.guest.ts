import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, readdirSync, writeFileSync } from 'node:fs'
import { Accel } from '@uaccel/accel'
import { type IommuKind, listPciDevices, openDevice, openVfio, parseBdf, readPciDevice } from '@uaccel/core'
import edu from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { parseDevices } from '@uaccel/lab'
import { DmaBuffer, DmaDomain } from '@uaccel/memory'
import { leavesNothing } from '@uaccel/testkit'
import { type AccelError, isAccelError } from '@uaccel/uapi'
import t from 'tap'
import { Administrator } from './administrator.js'
import { lanes } from './iommufd-lane.js'

/**
 * Runs in the lab, with edu on the root bus, and edu and a virtio-rng behind a conventional bridge, which share an IOMMU
 * group: what the kernel answers where something is in the way.
 */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const bdf = parseBdf(found.bdf)
const behindBridge = listPciDevices().filter((device) => !device.bdf.startsWith('0000:00:'))
const second = behindBridge.find(({ vendor, device }) => vendor === 0x1234 && device === 0x11e8)!
const neighbour = behindBridge.find(({ driver }) => driver === 'virtio-pci')!
/** A user without any right. */
const NOBODY = 65534

t.setTimeout(400_000)

async function errorOf(work: Promise<unknown> | (() => unknown)): Promise<AccelError> {
  try {
    await (typeof work === 'function' ? work() : work)
  } catch (error) {
    if (isAccelError(error)) return error
    throw error
  }
  throw new Error('an error was expected')
}

/** Runs `work` as a user without rights, in this process. */
async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  process.setegid!(NOBODY)
  process.seteuid!(NOBODY)
  try {
    return await work()
  } finally {
    process.seteuid!(0)
    process.setegid!(0)
  }
}

/** Does what an error says, as root. */
function obey({ details }: AccelError): void {
  for (const command of details!.commands as string[])
    execFileSync('sh', ['-c', command], { stdio: ['ignore', 'ignore', 'inherit'] })
}

t.test('a device that does not exist', async (t) => {
  const error = await errorOf(openVfio('0000:00:1e.7'))
  t.match(error, { code: 'ERR_ACCEL_NOT_FOUND', message: bdf }, 'it names those that do')
})

t.test('a device that belongs to a kernel driver', async (t) => {
  const error = await errorOf(openVfio(neighbour.bdf))
  t.match(error, {
    code: 'ERR_ACCEL_WRONG_DRIVER',
    message: "the kernel's virtio-pci",
    details: { bdf: neighbour.bdf, driver: 'virtio-pci' },
  })
})

t.test('a device of no driver is bound with the commands that the error gives', async (t) => {
  const error = await errorOf(openVfio(second.bdf))
  t.match(error, { code: 'ERR_ACCEL_WRONG_DRIVER', message: 'bound to no driver' })
  obey(error)
  t.equal(readPciDevice(second.bdf).driver, 'vfio-pci')
})

for (const { iommu, skip } of lanes()) {
  t.test(`a group of which the kernel uses another device, by ${iommu}`, { skip }, async (t) => {
    t.equal(second.iommuGroup?.id, neighbour.iommuGroup?.id, 'they share a group')
    const error = await errorOf(openVfio(second.bdf, { iommu }))
    t.match(error, {
      code: 'ERR_ACCEL_GROUP_NOT_VIABLE',
      message: `${neighbour.bdf} (driver virtio-pci)`,
      details: { group: second.iommuGroup!.id, blockers: [{ bdf: neighbour.bdf, driver: 'virtio-pci' }] },
    })
  })
}

t.test('the same when that device is unbound with the command that the error gives', async (t) => {
  obey(await errorOf(openVfio(second.bdf)))
  for (const { iommu, skip } of lanes()) {
    if (skip) continue
    const transport = await openVfio(second.bdf, { iommu })
    t.equal(transport.read(0, 0, 4), 0x010000ed)
    await transport.close()
  }
})

for (const { iommu, skip } of lanes()) {
  t.test(`two devices of one group at once, by ${iommu}`, { skip }, async (t) => {
    if (readPciDevice(neighbour.bdf).driver === undefined) {
      const error = await errorOf(openVfio(neighbour.bdf, { iommu }))
      obey(error)
    }
    await leavesNothing(t, async () => {
      const transports = [await openVfio(second.bdf, { iommu }), await openVfio(neighbour.bdf)]
      t.strictSame(
        transports.map(({ identity }) => identity.iommu),
        [iommu, iommu],
      )
      const devices = transports.map((transport) => openDevice(transport))
      const [one, other] = devices.map(({ dma }) => dma.alloc(2 << 20))
      t.not(one!.iova, other!.iova, 'they share addresses')
      for (const device of devices) await device.release()
      for (const transport of transports) await transport.close()
    })
  })
}

const group = `/dev/vfio/${readPciDevice(bdf).iommuGroup!.id}`
/** All that a user must have the right to, in the order in which it is opened; the container is everybody's. */
const nodesOf = (iommu: IommuKind) =>
  iommu === 'type1'
    ? [group]
    : ['/dev/iommu', `/dev/vfio/devices/${readdirSync(`/sys/bus/pci/devices/${bdf}/vfio-dev`)[0]}`]
const give = (paths: readonly string[], user: number) => {
  for (const path of paths) chownSync(path, user, user)
}

t.test('a user without the right to any node', async (t) => {
  t.match(await asNobody(() => errorOf(openVfio(bdf))), { code: 'ERR_ACCEL_PERMISSION', message: group })
})

for (const { iommu, skip } of lanes()) {
  t.test(`a user without the right to a node, by ${iommu}`, { skip }, async (t) => {
    const nodes = nodesOf(iommu)
    t.teardown(() => give(nodes, 0))
    for (const path of nodes) {
      t.match(await asNobody(() => errorOf(openVfio(bdf, { iommu }))), {
        code: 'ERR_ACCEL_PERMISSION',
        message: `chown nobody ${path}`,
        details: { path },
      })
      give([path], NOBODY)
    }
    // With the rights to one interface and not the other, that one is taken.
    await asNobody(async () => {
      const transport = await openVfio(bdf)
      t.equal(transport.identity.iommu, iommu)
      await transport.close()
    })
  })
}

for (const { iommu, skip } of lanes()) {
  t.test(`memory that the user may not lock, by ${iommu}`, { skip }, async (t) => {
    const nodes = nodesOf(iommu)
    give(nodes, NOBODY)
    execFileSync('prlimit', [`--pid=${process.pid}`, `--memlock=${64 << 10}:${64 << 10}`])
    t.teardown(() => {
      give(nodes, 0)
      execFileSync('prlimit', [`--pid=${process.pid}`, '--memlock=unlimited:unlimited'])
    })
    await asNobody(async () => {
      const transport = await openVfio(bdf, { iommu })
      const device = openDevice(transport)
      const error = await errorOf(() => device.dma.alloc(128 << 10))
      t.match(error, { code: 'ERR_ACCEL_MEMLOCK', message: 'RLIMIT_MEMLOCK is 64 KiB', cause: undefined })
      t.match(error.message, 'ulimit -l')
      await device.release()

      // The same from the kernel: a domain that believes itself exempt asks it.
      const memlock = () => ({ limitBytes: 64 << 10, lockedBytes: 0, exempt: true })
      const domain = new DmaDomain(transport.dma, { memlock })
      const big = DmaBuffer.create(128 << 10)
      const small = DmaBuffer.create(32 << 10)
      t.match(await errorOf(() => domain.map(big)), {
        code: 'ERR_ACCEL_MEMLOCK',
        cause: { code: 'ERR_ACCEL_NO_MEMORY', errno: 'ENOMEM' },
      })
      t.equal(domain.map(small).sizeBytes, 32 << 10, 'what the limit allows is mapped')
      domain.destroy()
      big.destroy()
      small.destroy()
      await transport.close()
    })
  })
}

const core = JSON.stringify(import.meta.resolve('@uaccel/core'))

for (const { iommu, skip } of lanes()) {
  t.test(`a device that is open already, here and in another process, by ${iommu}`, { skip }, async (t) => {
    const transport = await openVfio(bdf, { iommu })
    for (const other of [...lanes().filter(({ skip }) => !skip), { iommu: 'auto' as const }]) {
      const error = await errorOf(openVfio(bdf, other))
      t.match(error, { code: 'ERR_ACCEL_BUSY', message: 'in this process already' })
    }
    await transport.close()

    const program = `
      const { openVfio } = await import(${core})
      await openVfio('${bdf}', { iommu: '${iommu}' })
      console.log('open')
      setInterval(() => {}, 1e6)`
    const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(holder.stdout, 'data')
    for (const other of lanes().filter(({ skip }) => !skip)) {
      const path = nodesOf(other.iommu).at(-1)
      const error = await errorOf(openVfio(bdf, other))
      t.match(error, { code: 'ERR_ACCEL_BUSY', message: `fuser -v ${path}`, details: { path } })
    }
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    const free = await openVfio(bdf, { iommu })
    await free.close()
  })
}

const administrator = new Administrator()

for (const { iommu, skip } of lanes()) {
  t.test(`the kernel takes a device back that is in use, by ${iommu}`, { skip }, async (t) => {
    const driver = '/sys/bus/pci/drivers/vfio-pci'
    await leavesNothing(t, async () => {
      const accel = new Accel()
      accel.register(edu)
      await accel.add(await openVfio(bdf, { iommu }))
      const removed = new Promise((resolve) => accel.once('removed', resolve))
      const dev = accel.open(eduUapi, 'accel0')
      t.equal((await dev.call('factorial', { n: 5 })).value, 120)
      // No reset stops the device: the next driver to be probed waits for the end of this.
      const inFlight = errorOf(dev.call('factorial', { n: 2 ** 29 }))
      const unbound = administrator.write(`${driver}/unbind`, bdf)
      t.match(await inFlight, { code: 'ERR_ACCEL_NO_DEVICE' })
      const reason = await dev.lost
      t.match(String(reason.message), /the kernel wants .* back: it is unbound or unplugged/)
      t.match(await errorOf(dev.call('identify', {})), { code: 'ERR_ACCEL_NO_DEVICE' })
      await removed
      await unbound
      t.equal(readPciDevice(bdf).driver, undefined)
      await accel.close()
      writeFileSync(`${driver}/bind`, bdf)
      t.equal(readPciDevice(bdf).driver, 'vfio-pci')
    })
  })
}
