import { loopback } from '@uaccel/model'
import t from 'tap'
import { NvmeFaults, nvmeModel, nvmePolledModel } from '../model/index.js'
import { Hand, nvmeWorkersContract, withController } from './workers.js'

t.setTimeout(120_000)

nvmeWorkersContract(t, async () => loopback(nvmePolledModel, { model: { queues: 8 } }), {
  verify: (transport) => transport.assertClean(),
})

t.test('a command of a worker that is late is aborted; one that is lost ends in a reset', async (t) => {
  const faults = new NvmeFaults()
  const transport = loopback(nvmePolledModel, { model: { queues: 4, faults } })
  const hand = new Hand()
  t.teardown(() => hand.worker.terminate())
  await withController(transport, { queues: 1, workerQueues: 1, timeoutMs: 200 }, async (nvme) => {
    const lease = await nvme.shareQueue({ entries: 16, memoryBytes: 64 * 1024 })
    await hand.attach(lease)
    const filter = { queue: lease.id, opcode: 2 }
    faults.stick(filter)
    t.equal(await hand.ask('read'), 'ERR_ACCEL_TIMEOUT')
    t.equal(faults.received.get(0x108), 1, 'one abort')
    t.equal(nvme.resets, 0)
    faults.lose(filter)
    t.equal(await hand.ask('read'), 'ERR_ACCEL_TIMEOUT')
    t.equal(nvme.resets, 1)
    await hand.ask('revived')
    faults.wrongCid(filter)
    t.equal(await hand.ask('read'), 'ERR_ACCEL_AGAIN', 'not believed, and to be repeated')
    t.equal(nvme.resets, 2)
    await hand.ask('revived')
    t.equal(await hand.ask('read'), 'done')
    t.equal((await nvme.admin.health()).temperatureKelvin, 310)
  })
  transport.assertClean()
})

t.test('the queue of a worker that does not answer is nobody else’s before it has let go', async (t) => {
  const transport = loopback(nvmePolledModel, { model: { queues: 4 } })
  const [late, next] = [new Hand(), new Hand()]
  t.teardown(() => Promise.all([late, next].map((hand) => hand.worker.terminate())))
  await withController(transport, { queues: 1, workerQueues: 2 }, async (nvme) => {
    const options = { entries: 16, memoryBytes: 64 * 1024 }
    const lease = await nvme.shareQueue(options)
    await late.attach(lease)
    t.equal(await late.ask('read'), 'done')
    const halted = late.ask('halt', 5000)
    await lease.close()
    const other = await nvme.shareQueue(options)
    t.not(other.id, lease.id)
    await next.attach(other)
    t.equal(await next.ask('read'), 'done')
    await t.rejects(nvme.shareQueue(options), { code: 'ERR_ACCEL_BUSY' }, 'there are two')
    await halted
    await lease.detached
    const again = await nvme.shareQueue(options)
    t.equal(again.id, lease.id)
    await again.close()
  })
  transport.assertClean()
})

t.test('what is refused', async (t) => {
  const mapped = () => loopback(nvmePolledModel)
  await withController(mapped(), { queues: 1 }, async (nvme) => {
    await t.rejects(nvme.shareQueue(), { code: 'ERR_ACCEL_BUSY' }, 'no queues were kept for workers')
  })
  await withController(mapped(), { queues: 1, workerQueues: 1 }, async (nvme, device) => {
    const { mappings } = device.dma
    for (const options of [{ entries: 3 }, { entries: 1 }, { memoryBytes: 0 }, { memoryBytes: 1.5 }])
      await t.rejects(nvme.shareQueue(options), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
    t.equal(device.dma.mappings, mappings)
  })
  await withController(loopback(nvmeModel), { queues: 1, workerQueues: 1 }, async (nvme, device) => {
    const { mappings } = device.dma
    await t.rejects(nvme.shareQueue(), { code: 'ERR_ACCEL_UNSUPPORTED' }, 'doorbells that are not mapped')
    t.equal(device.dma.mappings, mappings, 'nothing was taken')
  })
})

t.test('a queue that the controller refuses costs the others nothing', async (t) => {
  const faults = new NvmeFaults()
  const transport = loopback(nvmePolledModel, { model: { faults } })
  await withController(transport, { queues: 1, workerQueues: 1 }, async (nvme, device) => {
    const { mappings } = device.dma
    for (const opcode of [0x05, 0x01]) {
      faults.status(0x102, { queue: 0, opcode })
      await t.rejects(nvme.shareQueue(), { code: 'ERR_ACCEL_OUT_OF_RANGE', message: /INVALID_QUEUE_SIZE/ })
      t.equal(device.dma.mappings, mappings, 'its memory was given back')
      t.equal(nvme.resets, 0)
    }
    await (await nvme.shareQueue()).close()
    t.equal(nvme.resets, 0)
  })
  transport.assertClean()
})
