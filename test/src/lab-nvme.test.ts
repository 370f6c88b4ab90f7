import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { keepPrinted } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

/** Reads and writes of the soak, on each interface to the IOMMU: UACCEL_NVME_IOS for a long one. */
const ios = Number(process.env.UACCEL_NVME_IOS ?? 200)
/** An emulated processor does some hundred a second, and verifies each. */
const limitMs = 500_000 + 20 * ios

t.setTimeout(limitMs + 100_000)

t.test("QEMU's NVMe controller on kernel VFIO, in the lab", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const disk = join(folder, 'disk')
  writeFileSync(disk, '')
  truncateSync(disk, 64 << 20)
  const { exitCode, stdout, stderr } = await runGuest('nvme', {
    devices: ['nvme,serial=uaccel,mdts=7'],
    // A namespace by itself has limits for copies, which QEMU leaves 0 for one that the controller makes.
    qemuArgs: [
      ...['-drive', `if=none,id=disk,format=raw,file=${disk}`],
      ...['-device', 'nvme-ns,drive=disk,bus=device0,mssrl=32,mcl=96,msrc=3'],
    ],
    args: [`${ios}`],
    limitMs,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  keepPrinted(stdout)
  for (const [line] of stdout.matchAll(/# .*(verified|acknowledged|one copy).*$/gm)) t.comment(line)
  await repeatResults(t, stdout, [
    ...iommuKinds.map((iommu) => `${suites.nvme}: ${columns[iommu]}`),
    "our driver and the kernel's read what the other wrote",
  ])
})
