import { openVfio, parseBdf } from '@uaccel/core'
import { npuContract } from '@uaccel/driver-npu/contract'
import { classify, loadDigits, pciEngine } from '@uaccel/example-digits'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { runCell } from './contracts/cells.js'
import { clientInGuest, NOBODY, serveInGuest, stopServer } from './guest-nodes.js'
import { lanes } from './iommufd-lane.js'

/** Runs in the lab, where our model of the NPU is a device of QEMU's (vfio-user-pci), through kernel VFIO. */
const npu = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'npu')
if (!npu) throw new Error('UACCEL_LAB_DEVICES names no npu: run this in the lab')
const bdf = parseBdf(npu.bdf)
/** Random cases of each operation. */
const runs = Number(process.env.UACCEL_NPU_RUNS ?? 3)
/** Digits that a client of the node reads. */
const DIGITS = Number(process.argv[2])

t.setTimeout(600_000)

for (const { iommu, skip } of lanes()) {
  if (!skip)
    await runCell(t, 'npu', iommu, (t) => npuContract(t, () => openVfio(bdf, { iommu }), { runs }), [
      'vfio-user-pci',
    ])

  t.test(`digits by ${iommu}`, { skip }, async (t) => {
    const { model, digits } = loadDigits()
    const engine = await pciEngine(model, bdf, iommu)
    try {
      const result = await classify(engine, digits, () => {})
      const right = result.answers.reduce((sum, answer, i) => sum + Number(answer === digits.labels[i]), 0)
      t.comment(`${engine.device}, ${engine.transport}: ${right} of ${digits.count} in ${result.seconds} s`)
      // The reference takes minutes on an emulated processor: the host compares.
      const scores = Buffer.concat(result.scores.map(({ buffer }) => Buffer.from(buffer)))
      t.comment(`scores ${iommu} ${scores.toString('base64')}`)
    } finally {
      await engine.close()
    }
  })
}

t.test('digits by a client without rights, through the node', async (t) => {
  const server = await serveInGuest(t, bdf, lanes().findLast(({ skip }) => !skip)!.iommu)
  const { said } = await clientInGuest(t, 'digits', `${DIGITS}`)
  const { scores, descriptors, ...rest } = said
  t.match(rest, { uid: NOBODY, errors: 0 })
  t.ok((descriptors as number) > 5 * DIGITS, `${descriptors} descriptors: the device did it`)
  t.comment(`scores node ${scores}`)
  await stopServer(server)
})
