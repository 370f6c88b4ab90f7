import { Accel } from '@uaccel/accel'
import { loopback } from '@uaccel/model'
import { driverContract } from '@uaccel/testkit'
import fc from 'fast-check'
import t from 'tap'
import { myNpuModel } from '../model/index.js'
import driver from '../src/driver.js'
import { MAX_BYTES, myNpuUapi } from '../src/uapi.js'
import { device } from './device.js'

// Driver and model in this process: a debugger stops in both.
t.test('my-npu on loopback', async (t) =>
  driverContract(t, {
    ...device,
    open: async () => loopback(myNpuModel),
    lose: (transport) => transport.vanish(),
    verify: (transport) => transport.assertClean(),
  }),
)

t.test('the sum of any bytes', async (t) => {
  const accel = new Accel()
  t.teardown(() => accel.close())
  accel.register(driver)
  const transport = loopback(myNpuModel, { model: { nsPerByte: 1 } })
  await accel.add(transport)
  const dev = accel.open(myNpuUapi, 'accel0')
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: MAX_BYTES, size: 'max' }), async (data) => {
      const { sum } = await dev.call('sum', { data })
      return sum === data.reduce((a, b) => a + b, 0)
    }),
  )
  await t.rejects(dev.call('sum', { data: new Uint8Array(MAX_BYTES + 1) }), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
  })
  transport.faults.dmaError()
  await t.rejects(
    dev.call('sum', { data: Uint8Array.of(1) }),
    { code: 'ERR_ACCEL_IO' },
    'what the device cannot read',
  )
  t.match(await dev.common('attrShow', { path: 'revision' }), { value: '1' })
  transport.assertClean()
})
