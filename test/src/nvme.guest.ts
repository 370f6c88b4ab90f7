import { closeSync, existsSync, fsyncSync, openSync, readdirSync, readSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { openVfio, parseBdf } from '@uaccel/core'
import { encodeSteps } from '@uaccel/driver-nvme'
import { fill, nvmeContract, withNvme } from '@uaccel/driver-nvme/contract'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { runCell } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { lanes } from './iommufd-lane.js'
import { rebind } from './rebind.js'

/** Runs in the lab: our driver on QEMU's NVMe controller, through kernel VFIO, and the kernel's driver on the same disk. */
const nvme = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'nvme')
if (!nvme) throw new Error('UACCEL_LAB_DEVICES names no nvme: run this in the lab')
const bdf = parseBdf(nvme.bdf)
const kernelHasNvme = existsSync('/sys/bus/pci/drivers/nvme')
/** Reads and writes of the soak, on each interface to the IOMMU. */
const ios = Number(process.argv[2] ?? 200)

t.setTimeout(400_000 + 20 * ios)

/** The disk of the controller, some time after the kernel's driver took it. */
async function disk(): Promise<string> {
  const controllers = `/sys/bus/pci/devices/${bdf}/nvme`
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(20)) {
    if (!existsSync(controllers)) continue
    for (const name of readdirSync(controllers)) {
      const found = readdirSync(`${controllers}/${name}`).find((inner) => /^nvme\d+n\d+$/.test(inner))
      if (found !== undefined && existsSync(`/dev/${found}`)) return `/dev/${found}`
    }
  }
  throw new Error(`${bdf} has no disk`)
}

for (const { iommu, skip } of lanes()) {
  if (skip) t.test(`${suites.nvme}: ${columns[iommu]}`, { skip }, async () => {})
  else
    await runCell(t, 'nvme', iommu, (t) =>
      nvmeContract(t, () => openVfio(bdf, { iommu }), { ios, blocks: 1024 }),
    )
}

t.test(
  "our driver and the kernel's read what the other wrote",
  { skip: kernelHasNvme ? false : 'this kernel has no nvme driver loaded' },
  async (t) => {
    const BYTES = 1 << 20
    const ours = new Uint8Array(BYTES)
    const theirs = new Uint8Array(BYTES)
    fill(ours, 1)
    fill(theirs, 2)
    const io = async (bytes: Uint8Array, operation: 'read' | 'write', byteOffset: number) =>
      withNvme(
        () => openVfio(bdf),
        async ({ buffers, blockBytes }) => {
          const buffer = await buffers.create(BYTES)
          if (operation === 'write') buffer.u8.set(bytes)
          const lba = byteOffset / blockBytes
          const step = { operation, buffer: 0, lba, blocks: BYTES / blockBytes }
          await buffers.run({ buffers: [{ buffer }], payload: encodeSteps([step, { operation: 'flush' }]) })
          if (operation === 'read') bytes.set(buffer.u8)
        },
      )
    await io(ours, 'write', 0)
    t.equal(rebind(bdf, 'nvme').driver, 'nvme')
    const path = await disk()
    const fd = openSync(path, 'r+')
    const seen = new Uint8Array(BYTES)
    t.equal(readSync(fd, seen, 0, BYTES, 0), BYTES)
    t.ok(Buffer.compare(seen, ours) === 0, `${path} has what our driver wrote`)
    t.equal(writeSync(fd, theirs, 0, BYTES, BYTES), BYTES)
    fsyncSync(fd)
    closeSync(fd)
    t.equal(rebind(bdf, 'vfio-pci').driver, 'vfio-pci')
    const back = new Uint8Array(BYTES)
    await io(back, 'read', BYTES)
    t.ok(Buffer.compare(back, theirs) === 0, "our driver reads what the kernel's wrote")
  },
)
