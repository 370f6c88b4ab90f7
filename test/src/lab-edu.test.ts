import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { iommuKinds } from '@uaccel/core'
import { runInLab } from '@uaccel/lab'
import t from 'tap'
import { repeatResults } from './iommufd-lane.js'

const guest = fileURLToPath(new URL('./edu.guest.js', import.meta.url))

t.setTimeout(600_000)

t.test('the edu and transport contracts on kernel VFIO, in the lab', async (t) => {
  const stdout = new PassThrough()
  const output = text(stdout)
  const stderr = new PassThrough()
  const errors = text(stderr)
  const { exitCode } = await runInLab({
    command: [process.execPath, guest],
    devices: ['edu'],
    limitMs: 500_000,
    stdout,
    stderr,
  })
  stdout.end()
  stderr.end()
  const tap = await output
  if (exitCode !== 0) t.comment(`${tap}\n${await errors}`)
  t.equal(exitCode, 0)
  await repeatResults(t, tap, [
    ...iommuKinds.flatMap((iommu) => [
      `kernel VFIO by ${iommu} keeps the contract of transports`,
      `edu over kernel VFIO by ${iommu}, BAR mapped`,
      `edu over kernel VFIO by ${iommu}, every access trapped`,
    ]),
    'left to choose, it takes iommufd where the kernel has it',
  ])
})
