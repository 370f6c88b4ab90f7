import { randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { iommuKinds } from '@uaccel/core'
import { makeImage } from '@uaccel/example-block'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test("the examples on QEMU's devices and kernel VFIO, in one guest", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-examples-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const [files, image] = [join(folder, 'files'), join(folder, 'disk.img')]
  cpSync(fileURLToPath(new URL('../../docs', import.meta.url)), files, { recursive: true })
  writeFileSync(join(files, 'large'), randomBytes(3_000_001))
  writeFileSync(image, await makeImage(files))
  const { exitCode, stdout, stderr } = await runGuest('examples', {
    devices: [
      `disk=nvme:${image}`,
      'crypto=virtio-crypto-pci,cryptodev=c0,iommu_platform=on,disable-legacy=on',
    ],
    qemuArgs: ['-object', 'cryptodev-backend-builtin,id=c0'],
    args: [files],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [, line] of stdout.matchAll(/# (\{.*\})$/gm)) t.comment(line)
  await repeatResults(
    t,
    stdout,
    iommuKinds.flatMap((iommu) => [`encrypt by ${iommu}`, `block by ${iommu}`]),
  )
})
