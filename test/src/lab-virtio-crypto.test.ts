import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

/** Random messages, by each of the kernel's interfaces. */
const MESSAGES = Number(process.env.UACCEL_CRYPTO_MESSAGES ?? 500)
/** Of the guest. A message took 10 ms by each interface on an emulated processor that nobody else wanted. */
const LIMIT_MS = 300_000 + 2 * 60 * MESSAGES

t.setTimeout(2 * LIMIT_MS)

t.test("QEMU's virtio-crypto device through kernel VFIO, in the lab", async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('virtio-crypto', {
    devices: ['crypto=virtio-crypto-pci,cryptodev=c0,iommu_platform=on,disable-legacy=on'],
    qemuArgs: ['-object', 'cryptodev-backend-builtin,id=c0'],
    args: [String(MESSAGES)],
    limitMs: LIMIT_MS,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [, line] of stdout.matchAll(/# (AES-CBC .* s)$/gm)) t.comment(line)
  await repeatResults(
    t,
    stdout,
    iommuKinds.flatMap((iommu) => [
      `messages by ${iommu}, in both directions, as node:crypto has them`,
      `sessions by ${iommu}, and what is refused`,
      `what is left by ${iommu}`,
    ]),
  )
})

t.test('a device that goes around the IOMMU is refused', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('virtio-crypto', {
    devices: ['crypto=virtio-crypto-pci,cryptodev=c0,iommu_platform=off,disable-legacy=on'],
    qemuArgs: ['-object', 'cryptodev-backend-builtin,id=c0'],
    args: ['around'],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, ['refused before it gets an address'])
})
