import { writeFileSync } from 'node:fs'
import { openVfio } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { eduContract } from '@uaccel/testkit'
import t from 'tap'
import { noIommuContract } from './no-iommu.js'

/** Runs in the lab, on a machine without IOMMU: QEMU's own edu device through VFIO's mode for that. */
const edu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')
if (!edu) throw new Error('UACCEL_LAB_DEVICES names no edu: run this in the lab')
const { bdf } = edu
t.setTimeout(400_000)

const open = (options = {}) => openVfio(bdf, { allowNoIommu: true, ...options })

t.test('VFIO without an IOMMU is no way without its rules', async (t) => {
  noIommuContract(t, { bdf, call: `openVfio('${bdf}', { allowNoIommu: true })`, open })
})

t.test('who names an interface to the IOMMU gets none without one', async (t) => {
  for (const iommu of ['type1', 'iommufd'] as const)
    await t.rejects(open({ iommu }), { code: 'ERR_ACCEL_NO_IOMMU' })
  const transport = await open()
  t.match(transport.identity, { kind: 'vfio', address: bdf, iommu: 'none', tainted: String })
  await transport.close()
})

t.test('the kernel allows it no more', async (t) => {
  const parameter = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode'
  writeFileSync(parameter, '0')
  t.teardown(() => writeFileSync(parameter, '1'))
  await t.rejects(open(), { code: 'ERR_ACCEL_UNSUPPORTED', message: parameter })
})

t.test('edu, every access trapped', async (t) => {
  eduContract(t, open, { trapped: true, transfers: 4 })
})
