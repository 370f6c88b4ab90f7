import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { openDevice, openPlatform, openUio, openVfio } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { EventFd, watch } from '@uaccel/sys'
import { eduContract, leavesNothing } from '@uaccel/testkit'
import { isAccelError } from '@uaccel/uapi'
import t from 'tap'
import { noIommuContract, withEdu } from './no-iommu.js'
import { rebind } from './rebind.js'

/** Runs in the lab, on a machine without IOMMU: QEMU's own edu device through UIO. */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const { bdf } = edu
// The guest is emulated: what takes 5 s elsewhere takes a minute here.
t.setTimeout(400_000)

const open = (options = {}) => openUio(bdf, { allowNoIommu: true, ...options })

// Awaited, since what comes below looks at what the driver shows of it.
await t.test('a device of no driver, and the commands that bind it', async (t) => {
  const error: unknown = await open().catch((error: unknown) => error)
  t.match(error, { code: 'ERR_ACCEL_WRONG_DRIVER', message: 'wanted uio_pci_generic' })
  if (!isAccelError(error) || error.details === undefined) return
  for (const command of error.details.commands as string[]) {
    if (!command.startsWith('modprobe ')) execFileSync('sh', ['-c', command], { stdio: 'inherit' })
  }
  const transport = await open()
  t.match(transport.identity, { kind: 'uio', address: bdf, iommu: 'none', tainted: String })
  t.equal(transport.read(0, 0, 4), 0x0100_00ed)
  await transport.close()
  await t.rejects(openVfio(bdf), { code: 'ERR_ACCEL_NO_IOMMU', message: /intel_iommu=on/ })
  await t.rejects(openVfio(bdf, { allowNoIommu: true }), {
    code: 'ERR_ACCEL_NO_IOMMU',
    message: /enable_unsafe_noiommu_mode/,
  })
})

t.test('UIO is no way without its rules', async (t) => {
  noIommuContract(t, { bdf, call: `openUio('${bdf}', { allowNoIommu: true })`, open })
})

t.test('edu, every access trapped', async (t) => {
  eduContract(t, open, { trapped: true, transfers: 4, interrupts: ['intx'] })
})

t.test('in a worker thread', async (t) => {
  const module = (name: string) => JSON.stringify(import.meta.resolve(name))
  const program = `import { parentPort } from 'node:worker_threads'
    const { openUio } = await import(${module('@uaccel/core')})
    const { Accel } = await import(${module('@uaccel/accel')})
    const edu = await import(${module('@uaccel/driver-edu')})
    const { eduUapi } = await import(${module('@uaccel/driver-edu/uapi')})
    const accel = new Accel()
    accel.register(edu.default)
    await accel.add(await openUio('${bdf}', { allowNoIommu: true }))
    const client = accel.open(eduUapi, 'accel0')
    const answers = []
    for (const n of [5, 6, 7]) answers.push((await client.call('factorial', { n })).value)
    answers.push(...(await client.call('echo', { data: Uint8Array.of(1, 2, 3) })).data)
    answers.push((await client.call('interrupts', {})).count)
    await accel.close()
    parentPort.postMessage(answers)`
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`))
  const [answers] = await once(worker, 'message')
  t.same(answers, [120, 720, 5040, 1, 2, 3, 5])
  await once(worker, 'exit')
})

t.test('the kernel takes the device away', async (t) => {
  await leavesNothing(t, async () => {
    await withEdu(await open(), async (client) => {
      t.equal((await client.call('factorial', { n: 5 })).value, 120)
      const inFlight = client.call('factorial', { n: 2 ** 29 }).catch((error: unknown) => error)
      writeFileSync('/sys/bus/pci/drivers/uio_pci_generic/unbind', bdf)
      t.match(await inFlight, { code: 'ERR_ACCEL_NO_DEVICE' })
      t.match(await client.lost, { code: 'ERR_ACCEL_NO_DEVICE', message: /unbound or pulled out/ })
      await t.rejects(client.call('identify', {}), { code: 'ERR_ACCEL_NO_DEVICE' })
    })
    t.equal(rebind(bdf, 'uio_pci_generic').driver, 'uio_pci_generic')
    await withEdu(await open(), async (client) => {
      t.equal((await client.call('factorial', { n: 6 })).value, 720)
    })
  })
})

const maps = `/sys/bus/pci/devices/${bdf}/uio`
const lacking =
  readdirSync(maps).some((uio) => readdirSync(`${maps}/${uio}`).includes('maps')) === false &&
  'uio_pci_generic of this kernel shows no maps'

/** As the kernel driver of a platform device does at a written 1, which uio_pci_generic knows nothing of: Interrupt Disable (PCI 3.0, 6.2.2). */
function unmaskLine(): void {
  const config = openSync(`/sys/bus/pci/devices/${bdf}/config`, 'r+')
  const command = Buffer.alloc(2)
  readSync(config, command, 0, 2, 4)
  command.writeUInt16LE(command.readUInt16LE() & ~0x400)
  writeSync(config, command, 0, 2, 4)
  closeSync(config)
}

t.test('the same device as one of another bus: its map, and its interrupt', { skip: lacking }, async (t) => {
  await leavesNothing(t, async () => {
    const transport = await openPlatform('uio_pci_generic', { allowNoIommu: true })
    t.match(transport.platform, { name: 'uio_pci_generic', version: String })
    const device = openDevice(transport)
    await device.enable({ busMaster: true })
    t.match(device.identity, { bus: 'platform', name: 'uio_pci_generic' })
    const registers = await device.mapMemory(0)
    registers.write32(0x64, registers.read32(0x24)) // what a former user left
    unmaskLine()
    t.ok(registers.mapped)
    t.equal(registers.read32(0), 0x0100_00ed)
    t.equal(transport.read(0, 0, 4), 0x0100_00ed)
    const event = new EventFd()
    let fired = 0
    const watching = watch(event.fd, () => {
      fired += event.drain()
    })
    transport.setIrqs('intx', [event.fd])
    registers.write32(0x60, 1)
    for (let i = 0; i < 1000 && fired === 0; i++) await sleep(5)
    t.equal(fired, 1)
    registers.write32(0x64, registers.read32(0x24))
    watching.close()
    event.close()
    await device.release()
    await transport.close()
  })
})
