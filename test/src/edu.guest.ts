import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Accel } from '@uaccel/accel'
import { openVfio, parseBdf } from '@uaccel/core'
import eduDriver from '@uaccel/driver-edu'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { parseDevices } from '@uaccel/lab'
import { driverContract, eduContract, eduUnderTest } from '@uaccel/testkit'
import { TraceFile, TraceStory } from '@uaccel/trace'
import t from 'tap'
import { lanes } from './iommufd-lane.js'

/**
 * Runs in the lab: the contract of edu with every access trapped, through both of the kernel's interfaces for VFIO. With BARs mapped
 * contracts.guest.ts runs it. With the argument `driver`, the contract of drivers runs through the better of the two as well.
 */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
// The guest is emulated: what takes 5 s elsewhere takes a minute here.
t.setTimeout(400_000)
const bdf = parseBdf(edu.bdf)

const { iommu: best } = lanes().findLast(({ skip }) => !skip)!

for (const { iommu, skip } of lanes()) {
  t.test(`edu over kernel VFIO by ${iommu}, every access trapped`, { skip }, async (t) => {
    const open = () => openVfio(bdf, { iommu })
    eduContract(t, open, { trapped: true, transfers: 2 })
    if (iommu === best && process.argv.includes('driver')) driverContract(t, { ...eduUnderTest, open })
  })
}

t.test('left to choose, it takes iommufd where the kernel has it', async (t) => {
  const transport = await openVfio(bdf)
  t.match(transport.identity, { kind: 'vfio', address: bdf, iommu: best })
  await transport.close()
})

t.test('a trace of it has registers by name, the interrupt, the memory and the command', async (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 'trace-')), 'edu.uatrace')
  const accel = new Accel()
  accel.register(eduDriver)
  await accel.add(await openVfio(bdf), { traceFile: path })
  const client = accel.open(eduUapi, 'accel0')
  t.same(await client.call('factorial', { n: 5 }), { value: 120 })
  await client.call('echo', { data: Uint8Array.of(1, 2, 3) })
  await client.close()
  await accel.close()
  using file = TraceFile.open(path)
  const { events, lost } = file.read()
  const story = new TraceStory(file.names)
  const words = events.map((event) => story.tell(event).text)
  t.equal(lost, 0)
  for (const wanted of [
    /^FACTORIAL <- 0x00000005$/,
    /^vector 0$/,
    /^IRQ_STATUS -> 0x00000001 factorial=true dma=false$/,
    /^IRQ_ACK <- 0x00000001$/,
    /^FACTORIAL -> 0x00000078$/,
    /^factorial of open 1 ends \(/,
    /^map \d+ bytes at IOVA 0x/,
    /^DMA_COUNT <- 0x0000000000000003$/,
    /^unmap \d+ bytes at IOVA 0x/,
  ])
    t.ok(
      words.some((line) => wanted.test(line)),
      `${wanted}`,
    )
  if (!t.passing()) t.comment(words.join('\n'))
})
