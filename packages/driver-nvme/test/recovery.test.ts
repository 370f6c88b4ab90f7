import { setTimeout as sleep } from 'node:timers/promises'
import type { Device } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import { accelError } from '@uaccel/uapi'
import t from 'tap'
import { NvmeFaults, nvmeModel } from '../model/index.js'
import type { Controller } from '../src/controller.js'
import type { NvmeQueues } from '../src/queues.js'
import { Recovery } from '../src/recovery.js'
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

t.test('a controller whose shutdown does not end is disabled all the same', async (t) => {
  const did: string[] = []
  const controller = {
    enable: async () => void did.push('enable'),
    shutDown: () => Promise.reject(accelError('ERR_ACCEL_TIMEOUT', 'CSTS.SHST stays 1')),
    disable: async () => void did.push('disable'),
  } as unknown as Controller
  const queues = { pollLast() {}, failAll: () => void did.push('failAll') } as unknown as NvmeQueues
  const host = { configure: async () => {}, settled() {}, broke() {}, timeoutMs: 100 }
  const recovery = new Recovery({} as Device, controller, queues, host)
  await recovery.bringUp()
  await t.rejects(recovery.shutDown(), { code: 'ERR_ACCEL_TIMEOUT' })
  t.same(did, ['enable', 'disable', 'failAll'])
})
