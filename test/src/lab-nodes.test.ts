import { iommuKinds } from '@uaccel/core'
import type { Monitor } from '@uaccel/lab'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

t.test('nodes on QEMU’s edu, in the lab', async (t) => {
  let monitor: Monitor | undefined
  const stop = new AbortController()
  const { exitCode, stdout, stderr } = await runGuest('nodes', {
    devices: ['port/edu'],
    onMonitor: (opened) => {
      monitor = opened
    },
    onCue: (cue) => {
      // Where QEMU refuses, the guest would wait in vain: the run ends, with QEMU's words as the cause.
      if (cue === 'unplug')
        monitor!.execute('device_del', { id: 'device0' }).catch((error) => stop.abort(error))
    },
    signal: stop.signal,
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const [line] of stdout.matchAll(/the client knew .*/g)) t.comment(line)
  await repeatResults(t, stdout, [
    ...iommuKinds.map((iommu) => `edu under kernel VFIO by ${iommu}, used by a client without rights`),
    'clients that are killed during a transfer leave nothing',
    'a server that is killed, an exclusive one on the same node, and a device that goes',
  ])
})
