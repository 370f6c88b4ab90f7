import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { openVfio, parseBdf } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { DmaDomain, type DmaMapper, type DmaRegion } from '@uaccel/memory'
import { sys } from '@uaccel/sys'
import { leavesNothing } from '@uaccel/testkit'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab: what many small buffers cost the kernel. */
const found = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!found) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const bdf = parseBdf(found.bdf)
const BUFFERS = 10_000
/** What they may cost, in mappings of the kernel. */
const LIMIT = 32

t.setTimeout(400_000)

/** VFIO_IOMMU_GET_INFO, VFIO_IOMMU_INFO_CAPS and VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL of include/uapi/linux/vfio.h. */
const GET_INFO = 0x3b70
const INFO_CAPS = 2
const CAP_DMA_AVAIL = 3

/** How many more mappings the container of this process takes. */
function available(): number {
  const fd = readdirSync('/proc/self/fd').find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/vfio/vfio'
    } catch {
      return false
    }
  })
  const info = Buffer.alloc(1024)
  info.writeUInt32LE(info.length, 0)
  sys.ioctl(Number(fd), GET_INFO, info)
  if (!(info.readUInt32LE(4) & INFO_CAPS))
    throw new Error('the kernel does not say how many mappings are left')
  for (let at = info.readUInt32LE(16); at !== 0; at = info.readUInt32LE(at + 4))
    if (info.readUInt16LE(at) === CAP_DMA_AVAIL) return info.readUInt32LE(at + 8)
  throw new Error('the kernel does not say how many mappings are left')
}

/** Memory that the kernel keeps in place for this process, in KiB: type 1 counts it as locked, iommufd as pinned. */
function heldKiB(): number {
  const status = readFileSync('/proc/self/status', 'utf8')
  return [...status.matchAll(/^Vm(?:Lck|Pin):\s+(\d+)/gm)].reduce((sum, [, kib]) => sum + Number(kib), 0)
}

/** The same mapper, and how many mappings it has. */
function counted(mapper: DmaMapper): { mapper: DmaMapper; live: () => number } {
  let live = 0
  return {
    live: () => live,
    mapper: {
      pageSizeBytes: mapper.pageSizeBytes,
      maxMappings: mapper.maxMappings,
      locksMemory: mapper.locksMemory,
      ranges: () => mapper.ranges(),
      map(request) {
        mapper.map(request)
        live++
      },
      unmap(iova, sizeBytes) {
        mapper.unmap(iova, sizeBytes)
        live--
      },
    },
  }
}

for (const { iommu, skip } of lanes()) {
  t.test(`${BUFFERS} small buffers by ${iommu}`, { skip }, async (t) => {
    const transport = await openVfio(bdf, { iommu })
    const { mapper, live } = counted(transport.dma)
    const free = () => (iommu === 'type1' ? available() : 0)
    const before = { free: free(), heldKiB: heldKiB() }
    await leavesNothing(
      t,
      async () => {
        const domain = new DmaDomain(mapper, { addressBits: 28 })
        const regions: DmaRegion[] = []
        for (let i = 0; i < BUFFERS; i++) regions.push(domain.alloc(1024 + 64 * (i % 32)))
        const used = live()
        t.ok(used <= LIMIT, `${used} kernel mappings`)
        if (iommu === 'type1') t.equal(before.free - available(), used, 'as the kernel counts them')
        t.equal(heldKiB() - before.heldKiB, used * 2048, 'of 2 MiB each')
        for (const region of regions) region.free()
        for (let i = 0; i < BUFFERS; i++) domain.alloc(4096).free()
        t.ok(live() <= 1, 'one is kept for the next')
        domain.destroy()
        t.same({ free: free(), heldKiB: heldKiB() }, before, 'all was given back')
      },
      1,
    )
    const domain = new DmaDomain(mapper, { addressBits: 28 })
    for (let i = 0; i < 200; i++) domain.alloc(2 << 20).free()
    t.equal(live(), 0, 'a large one is mapped by itself, and goes with its mapping')
    t.same({ free: free(), heldKiB: heldKiB() }, before)
    await transport.close()
  })
}
