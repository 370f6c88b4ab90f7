import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { runInLab } from '@uaccel/lab'
import t from 'tap'

const guest = fileURLToPath(new URL('./errors.guest.js', import.meta.url))

t.setTimeout(600_000)

t.test('what the kernel answers where something is in the way, in the lab', async (t) => {
  const stdout = new PassThrough()
  const output = text(stdout)
  const stderr = new PassThrough()
  const errors = text(stderr)
  const { exitCode } = await runInLab({
    command: [process.execPath, guest],
    devices: ['edu'],
    // What stands behind a conventional bridge has one requester id, and so one IOMMU group.
    qemuArgs: [
      ...['-device', 'pcie-pci-bridge,id=bridge,addr=0x10'],
      ...['-device', 'edu,bus=bridge,addr=1'],
      ...['-device', 'virtio-rng-pci,bus=bridge,addr=2'],
    ],
    limitMs: 500_000,
    stdout,
    stderr,
  })
  stdout.end()
  stderr.end()
  const tap = await output
  if (exitCode !== 0) t.comment(`${tap}\n${await errors}`)
  t.equal(exitCode, 0)
  const results = [...tap.matchAll(/^(ok|not ok) \d+ - (.*?)(?: # time=.*)?$/gm)].map(([, end, name]) => [
    end,
    name,
  ])
  t.strictSame(results, [
    ['ok', 'a device that does not exist'],
    ['ok', 'a device that belongs to a kernel driver'],
    ['ok', 'a device of no driver is bound with the commands that the error gives'],
    ['ok', 'a group of which the kernel uses another device'],
    ['ok', 'a user without the right to the group'],
    ['ok', 'memory that the user may not lock'],
    ['ok', 'a group that is open already, here and in another process'],
    ['ok', 'the kernel takes a device back that is in use'],
  ])
})
