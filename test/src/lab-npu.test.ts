import { iommuKinds } from '@uaccel/core'
import { countMismatches, loadDigits } from '@uaccel/example-digits'
import t from 'tap'
import { keepPrinted } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'
import { serveModel } from './serve-model.js'

/** Digits that the guest's client of the node reads. */
const NODE_DIGITS = 20

t.setTimeout(1_200_000)

t.test('our model of the NPU as a device of a guest, driven through kernel VFIO', async (t) => {
  const npu = await serveModel(t, 'npu')
  const { exitCode, stdout, stderr } = await runGuest('npu', {
    devices: [`npu=vfio-user:${npu.path}`],
    args: [`${NODE_DIGITS}`],
  })
  if (exitCode !== 0) t.comment(`${stdout.replaceAll(/scores .*/g, '')}\n${stderr}`)
  t.equal(exitCode, 0)
  keepPrinted(stdout)
  for (const [line] of stdout.matchAll(/NPU-1 .* s$/gm)) t.comment(line)
  await repeatResults(t, stdout, [
    ...iommuKinds.flatMap((iommu) => [`${suites.npu}: ${columns[iommu]}`, `digits by ${iommu}`]),
    'digits by a client without rights, through the node',
  ])
  const { model, digits } = loadDigits()
  const printed = [...stdout.matchAll(/# scores (\w+) (\S+)$/gm)]
  t.ok(printed.some(([, way]) => way === 'node') && printed.length > 1)
  for (const [, way, text] of printed) {
    const values = new Float32Array(new Uint8Array(Buffer.from(text!, 'base64')).buffer)
    const count = way === 'node' ? NODE_DIGITS : digits.count
    t.equal(values.length, 10 * count)
    const scores = Array.from({ length: count }, (_, i) => values.subarray(10 * i, 10 * i + 10))
    const mismatches = countMismatches(model, { ...digits, count }, scores, () => {})
    t.equal(mismatches, 0, `${count} digits by ${way}, each as the reference on the CPU has it`)
  }
  t.same(await npu.violations(), [], 'the driver kept the rules of the device')
})
