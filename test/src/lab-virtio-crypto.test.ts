import { iommuKinds } from '@uaccel/core'
import t from 'tap'
import { keepPrinted } from './contracts/cells.js'
import { columns, suites } from './contracts/matrix.js'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'
import { cryptoBackend, cryptoDevice } from './qemu-crypto.js'

/** Random messages, by each of the kernel's interfaces. */
const MESSAGES = Number(process.env.UACCEL_CRYPTO_MESSAGES ?? 500)
/** Of the guest. A message took 10 ms by each interface on an emulated processor that nobody else wanted. */
const LIMIT_MS = 900_000 + 2 * 60 * MESSAGES

t.setTimeout(2 * LIMIT_MS)

t.test("QEMU's virtio-crypto device through kernel VFIO, in the lab", async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('virtio-crypto', {
    devices: [cryptoDevice(true)],
    qemuArgs: cryptoBackend,
    args: [String(MESSAGES)],
    limitMs: LIMIT_MS,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  keepPrinted(stdout)
  for (const [, line] of stdout.matchAll(/# (AES-CBC .* s)$/gm)) t.comment(line)
  await repeatResults(t, stdout, [
    ...iommuKinds.flatMap((iommu) => [
      `messages by ${iommu}, in both directions, as node:crypto has them`,
      `sessions by ${iommu}, and what is refused`,
      `what is left by ${iommu}`,
    ]),
    ...iommuKinds.map((iommu) => `${suites.crypto}: ${columns[iommu]}`),
  ])
})

t.test('a device that goes around the IOMMU is refused', async (t) => {
  const { exitCode, stdout, stderr } = await runGuest('virtio-crypto', {
    devices: [cryptoDevice(false)],
    qemuArgs: cryptoBackend,
    args: ['around'],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, ['refused before it gets an address'])
})
