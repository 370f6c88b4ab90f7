import t from 'tap'
import { devicePresets, formatDevices, parseDevices, placeDevices } from './devices.js'

t.test('presets and -device strings get slots in order', async (t) => {
  const devices = placeDevices(['edu', 'nvme', 'edu,dma_mask=0xffff', '{"driver":"e1000e","id":"x"}'])
  t.strictSame(
    devices.map(({ name, bdf, argument }) => [name, bdf, argument]),
    [
      ['edu', '0000:00:05.0', 'edu,addr=0x5'],
      ['nvme', '0000:00:06.0', 'nvme,serial=uaccel,drive=DRIVE,addr=0x6'],
      ['edu', '0000:00:07.0', 'edu,dma_mask=0xffff,addr=0x7'],
      ['e1000e', '0000:00:08.0', '{"driver":"e1000e","id":"x","addr":"0x8"}'],
    ],
  )
  t.equal(formatDevices(devices.slice(0, 2)), 'edu=0000:00:05.0,nvme=0000:00:06.0')
  t.strictSame(
    parseDevices(formatDevices(devices)),
    devices.map(({ name, bdf }) => ({ name, bdf })),
  )
  t.strictSame(parseDevices(''), [])
})

t.test('an unknown name is refused with the known ones', async (t) => {
  for (const name of ['gpu', 'toString', '']) {
    t.throws(() => placeDevices([name]), {
      code: 'ERR_ACCEL_NOT_FOUND',
      details: { device: name, known: Object.keys(devicePresets) },
      message: /edu, nvme/,
    })
  }
})

t.test('bad -device strings are refused', async (t) => {
  for (const text of [
    'edu,addr=0x9',
    'edu,bus=b',
    '{"driver":"edu","bus":"b"}',
    '{,}',
    '{"id":"a","b":1}',
    'a b,c=d',
  ]) {
    t.throws(() => placeDevices([text]), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, text)
  }
  t.throws(() => placeDevices(Array(27).fill('edu')), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.equal(placeDevices(Array(26).fill('edu')).at(-1)!.bdf, '0000:00:1e.0')
})
