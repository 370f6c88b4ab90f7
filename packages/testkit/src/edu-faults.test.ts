import { Accel } from '@uaccel/accel'
import edu from '@uaccel/driver-edu'
import { eduModel } from '@uaccel/driver-edu/model'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { type Loopback, loopback } from '@uaccel/model'
import t from 'tap'

// What the fault matrix found: success, and a result that the device never gave.

async function bringUp(transport: Loopback) {
  const accel = new Accel()
  accel.register(edu)
  await accel.add(transport)
  return { accel, dev: accel.open(eduUapi, 'accel0') }
}

t.test('the inverse of a device that is gone is none', async (t) => {
  const transport = loopback(eduModel)
  const { accel, dev } = await bringUp(transport)
  t.same(await dev.call('liveness', { value: 0 }), { inverse: 0xffff_ffff }, 'all ones can be right')
  transport.faults.allOnes()
  await t.rejects(dev.call('liveness', { value: 5 }), { code: 'ERR_ACCEL_NO_DEVICE' })
  await accel.close()
})

t.test('nor is the factorial of one that goes once it was computed', async (t) => {
  const transport = loopback(eduModel)
  const { readBar } = transport.function
  const device = transport.function as { readBar: typeof readBar }
  const FACTORIAL = 0x08 // QEMU docs/specs/edu.rst
  device.readBar = (bar, offset, width) => {
    if (offset === FACTORIAL) transport.faults.allOnes()
    return readBar.call(transport.function, bar, offset, width)
  }
  const { accel, dev } = await bringUp(transport)
  await t.rejects(dev.call('factorial', { n: 5 }), { code: 'ERR_ACCEL_NO_DEVICE' })
  await accel.close()
})

t.test('an echo of which a transfer failed is an error: the device does not tell', async (t) => {
  const transport = loopback(eduModel)
  const { accel, dev } = await bringUp(transport)
  const data = new Uint8Array(100).fill(7)
  t.same(await dev.call('echo', { data }), { data })
  transport.faults.dmaError()
  await t.rejects(dev.call('echo', { data: data.fill(8) }), { code: 'ERR_ACCEL_IO' })
  t.same(await dev.call('echo', { data }), { data })
  await accel.close()
})
