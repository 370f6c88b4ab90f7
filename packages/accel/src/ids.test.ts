import type { DeviceIdentity } from '@uaccel/core'
import t from 'tap'
import { checkId, describeId, matches, specificity } from './ids.js'

const npu: DeviceIdentity = {
  bus: 'pci',
  vendor: 0x1234,
  device: 0x5678,
  subsystemVendor: 0x1,
  subsystem: 0x2,
  classCode: 0x120001,
  revision: 3,
  transport: { kind: 'loopback', address: 'npu' },
}

t.test('an id matches when all that it names agrees', async (t) => {
  t.ok(matches({ bus: 'pci', vendor: 0x1234 }, npu))
  t.ok(matches({ bus: 'pci', vendor: 0x1234, device: 0x5678, subsystemVendor: 1, subsystem: 2 }, npu))
  t.notOk(matches({ bus: 'pci', vendor: 0x1234, device: 0x5679 }, npu))
  t.notOk(matches({ bus: 'pci', vendor: 0x1235, device: 0x5678 }, npu))
  t.notOk(matches({ bus: 'pci', vendor: 0x1234, subsystem: 3 }, npu))
})

t.test('a class matches under its mask', async (t) => {
  t.ok(matches({ bus: 'pci', classCode: 0x120001 }, npu))
  t.notOk(matches({ bus: 'pci', classCode: 0x120000 }, npu), 'all 24 bits count unless told')
  t.ok(matches({ bus: 'pci', classCode: 0x120000, classMask: 0xffff00 }, npu))
  t.notOk(matches({ bus: 'pci', classCode: 0x130000, classMask: 0xffff00 }, npu))
  t.notOk(matches({ bus: 'pci', vendor: 1, classCode: 0x120000, classMask: 0xffff00 }, npu))
})

t.test('the more an id names, the more specific it is', async (t) => {
  t.ok(specificity({ bus: 'pci', vendor: 1, device: 2 }) > specificity({ bus: 'pci', classCode: 0x120000 }))
})

t.test('ids that match everything or nothing are refused', async (t) => {
  const code = 'ERR_ACCEL_INVALID_ARGUMENT'
  t.throws(() => checkId({ bus: 'pci' }, 'x'), { code })
  t.throws(() => checkId({ bus: 'pci', device: 1 }, 'x'), { code })
  t.throws(() => checkId({ bus: 'pci', vendor: 1, classMask: 0xff0000 }, 'x'), { code })
  t.throws(() => checkId({ bus: 'pci', classCode: 0x120001, classMask: 0xffff00 }, 'x'), { code })
  t.throws(() => checkId({ bus: 'platform', name: '' }, 'x'), { code })
  t.throws(() => checkId({ bus: 'platform' } as never, 'x'), { code })
  checkId({ bus: 'platform', name: 'npu' }, 'x')
  t.throws(() => checkId({ bus: 'usb' } as never, 'x'), { code, message: /usb/ })
  checkId({ bus: 'pci', classCode: 0x120000, classMask: 0xffff00 }, 'x')
})

t.test('ids in words', async (t) => {
  t.equal(describeId(npu), 'pci 1234:5678 class 120001')
  t.equal(describeId({ bus: 'pci', classCode: 0x120000, classMask: 0xffff00 }), 'pci *:* class 120000/ffff00')
})

t.test('a device of another bus is known by its name', async (t) => {
  const fpga = {
    bus: 'platform',
    name: 'npu',
    version: '1.0',
    transport: { kind: 'uio', address: 'uio:npu' },
  } as const
  t.ok(matches({ bus: 'platform', name: 'npu' }, fpga))
  t.notOk(matches({ bus: 'platform', name: 'npu2' }, fpga))
  t.notOk(matches({ bus: 'pci', vendor: 0x1234 }, fpga))
  t.notOk(matches({ bus: 'platform', name: 'npu' }, npu))
  t.equal(describeId({ bus: 'platform', name: 'npu' }), 'platform npu')
  t.equal(specificity({ bus: 'platform', name: 'npu' }), 1)
})
