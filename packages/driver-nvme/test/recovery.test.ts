import { setTimeout as sleep } from 'node:timers/promises'
import { loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { NvmeFaults, nvmeModel } from '../model/index.js'
import { withController } from './workers.js'

const IDENTIFY = 0x106
const why = accelError('ERR_ACCEL_AGAIN', 'a reset of the test')
const codeOf = (work: Promise<void>) =>
  work.then(
    () => 'up',
    (error: { code?: string }) => error.code,
  )

t.test('a controller that is released in mid-reset is not enabled again', async (t) => {
  const faults = new NvmeFaults()
  const transport = loopback(nvmeModel, { model: { faults } })
  await withController(transport, {}, async (nvme, device) => {
    const identified = faults.received.get(IDENTIFY)
    const reset = codeOf(nvme.reset(why))
    await device.release()
    t.equal(await reset, 'ERR_ACCEL_NO_DEVICE')
    t.throws(() => nvme.checkUp(), { code: 'ERR_ACCEL_NO_DEVICE' })
    t.equal(faults.received.get(IDENTIFY), identified, 'nobody spoke to it any more')
  })
  transport.assertClean()
})

t.test('a reset of the whole device takes over from one of the driver', async (t) => {
  const faults = new NvmeFaults()
  const transport = loopback(nvmeModel, { model: { faults } })
  await withController(transport, {}, async (nvme, device) => {
    for (const delayMs of [0, 1, 2]) {
      const reset = codeOf(nvme.reset(why))
      await sleep(delayMs)
      await nvme.beforeReset()
      await device.reset()
      t.equal(await codeOf(nvme.reset(why)), 'ERR_ACCEL_AGAIN', 'whoever has the device brings it up')
      await nvme.afterReset()
      t.match(await reset, /^(up|ERR_ACCEL_AGAIN)$/)
      nvme.checkUp()
      t.equal(nvme.broken, undefined)
      t.equal((await nvme.admin.health()).temperatureKelvin, 310)
    }
  })
  transport.assertClean()
})
