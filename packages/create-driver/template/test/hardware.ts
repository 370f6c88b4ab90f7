import { openVfio } from '@uaccel/core'
import { parseDevices } from '@uaccel/lab'
import { driverContract } from '@uaccel/testkit'
import t from 'tap'
import { device } from './device.js'

// On your board: npm run hardware -- 0000:01:00.0, once it is bound to vfio-pci. In the guest of lab.ts the address comes from the lab.
const address = process.argv[2] ?? parseDevices(process.env.UACCEL_LAB_DEVICES ?? '')[0]?.bdf
if (!address) {
  console.error('Which device? For example: npm run hardware -- 0000:01:00.0')
  process.exit(2)
}

t.setTimeout(600_000) // the lab's processor is emulated
t.test(`my-npu at ${address} on kernel VFIO`, async (t) =>
  driverContract(t, { ...device, open: () => openVfio(address) }),
)
