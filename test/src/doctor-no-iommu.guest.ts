import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import {
  bindDevice,
  type CheckResult,
  examineDevice,
  examineMachine,
  openUio,
  openVfio,
  unbindDevice,
} from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import t from 'tap'
import { uaccel } from './uaccel.js'

/** Runs in the lab, on a machine without an IOMMU, with an edu that nobody has bound. */
const bdf = parseDevices(process.env.UACCEL_LAB_DEVICES ?? '').find(({ name }) => name === 'edu')!.bdf

t.setTimeout(400_000)

const inShell = (commands: readonly string[]) =>
  execFileSync('sh', ['-e'], { input: commands.join('\n'), stdio: ['pipe', 'ignore', 'inherit'] })

const finding = (id: string) =>
  [...examineMachine().findings, ...examineDevice(bdf).findings].find((each) => each.id === id)!
const unsafeMode = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode'
const skip = existsSync(unsafeMode) ? false : 'this kernel was built without CONFIG_VFIO_NOIOMMU'

t.test('a machine without an IOMMU', async (t) => {
  await t.rejects(bindDevice(bdf), { code: 'ERR_ACCEL_NO_IOMMU', message: `uaccel doctor ${bdf}` })
  const { code, stdout } = await uaccel(['doctor', bdf, '--json'])
  t.equal(code, 1)
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: CheckResult[] }
  t.equal(ok, false)
  const iommu = findings.find(({ id }) => id === 'iommu')!
  t.match(iommu, { status: 'failed', found: /^none: the firmware describes no IOMMU/ })
  t.match(iommu.fixes![0], { reboot: true }, 'the right way')

  const { fixes } = findings.find(({ id }) => id === 'iommu-group')!
  t.match(fixes, [{ unsafe: true }])
  inShell(fixes![0]!.commands)
  t.match(examineMachine(), { ok: true })
  t.match(examineDevice(bdf), { ok: true, device: { driver: 'uio_pci_generic' } })
  t.equal(finding('iommu').status, 'warning')
  const { nodes } = await bindDevice(bdf, { driver: 'uio_pci_generic' })
  t.match(nodes, [/^\/dev\/uio\d+$/])
  const transport = await openUio(bdf, { allowNoIommu: true })
  t.equal(transport.read(0, 0, 4), 0x010000ed, 'a driver can open it')
  await transport.close()
  await unbindDevice(bdf)
})

t.test('no-IOMMU VFIO', { skip }, async (t) => {
  const unsafe = finding('iommu').fixes!.find((fix) => fix.unsafe)!
  t.strictSame(unsafe.commands, [`echo 1 > ${unsafeMode}`])
  inShell(unsafe.commands)
  t.match(examineMachine(), { ok: true })
  t.equal(finding('iommu').status, 'warning')
  t.equal(finding('driver').status, 'failed')
  inShell(finding('driver').fixes![0]!.commands)
  t.match(examineDevice(bdf), { ok: true, device: { driver: 'vfio-pci' } })
  const binding = await bindDevice(bdf)
  t.match(binding, { changed: false, nodes: [/\/noiommu-\d+$/] })
  const transport = await openVfio(bdf, { allowNoIommu: true })
  t.equal(transport.read(0, 0, 4), 0x010000ed, 'a driver can open it')
  await transport.close()
})
