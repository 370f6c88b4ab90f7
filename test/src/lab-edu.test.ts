import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { runInLab } from '@uaccel/lab'
import t from 'tap'

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
  t.match(tap, /^ok 1 - kernel VFIO keeps the contract of transports/m)
  t.match(tap, /^ok 2 - edu over kernel VFIO, BAR mapped/m)
  t.match(tap, /^ok 3 - edu over kernel VFIO, every access trapped/m)
})
