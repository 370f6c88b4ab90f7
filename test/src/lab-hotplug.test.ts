import { once } from 'node:events'
import { iommuKinds } from '@uaccel/core'
import type { Monitor } from '@uaccel/lab'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('a busy device is unplugged and plugged in again, in the lab', async (t) => {
  let monitor: Monitor | undefined
  let doing: Promise<unknown> = Promise.resolve()
  const stop = new AbortController()
  const hand: Record<string, () => Promise<unknown>> = {
    unplug: async () => {
      const gone = once(monitor!, 'DEVICE_DELETED')
      await monitor!.execute('device_del', { id: 'device0' })
      await gone
    },
    plug: () => monitor!.execute('device_add', { driver: 'edu', id: 'device0', bus: 'port0', addr: '0x0' }),
  }
  const { exitCode, stdout, stderr } = await runGuest('hotplug', {
    devices: ['port/edu'],
    onMonitor: (opened) => {
      monitor = opened
    },
    onCue: (cue) => {
      const act = hand[cue]
      // Where QEMU refuses, the guest would wait in vain: the run ends, with QEMU's words as the cause.
      if (act) doing = doing.then(act).catch((error) => stop.abort(error))
    },
    signal: stop.signal,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [line] of stdout.matchAll(/calls ended within \d.*/g)) t.comment(line)
  await repeatResults(
    t,
    stdout,
    iommuKinds.map((iommu) => `a busy device is unplugged and plugged in again, by ${iommu}`),
  )
})
