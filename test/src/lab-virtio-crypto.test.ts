import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

/** Random messages, by each of the kernel's interfaces. */
const MESSAGES = process.env.UACCEL_CRYPTO_MESSAGES ?? '500'

t.setTimeout(1_200_000)

t.test("QEMU's virtio-crypto device through kernel VFIO, in the lab", async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('virtio-crypto', {
    devices: ['crypto=virtio-crypto-pci,cryptodev=c0,iommu_platform=on,disable-legacy=on'],
    qemuArgs: ['-object', 'cryptodev-backend-builtin,id=c0'],
    args: [MESSAGES],
    limitMs: 1_100_000,
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
