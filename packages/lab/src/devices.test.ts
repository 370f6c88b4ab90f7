import { resolve } from 'node:path'
import t from 'tap'
import { devicePresets, formatDevices, parseDevices, placeDevices } from './devices.js'

t.test('presets and -device strings get slots in order', async (t) => {
  const devices = placeDevices(['edu', 'nvme', 'edu,dma_mask=0xffff', '{"driver":"e1000e","id":"x"}'])
  t.strictSame(
    devices.map(({ name, bdf, argument }) => [name, bdf, argument]),
    [
      ['edu', '0000:00:05.0', 'edu,id=device0,addr=0x5'],
      ['nvme', '0000:00:06.0', 'nvme,serial=uaccel,drive=DRIVE,id=device1,addr=0x6'],
      ['edu', '0000:00:07.0', 'edu,dma_mask=0xffff,id=device2,addr=0x7'],
      ['e1000e', '0000:00:08.0', '{"driver":"e1000e","id":"x","addr":"0x8"}'],
    ],
  )
  t.strictSame(
    devices.map(({ id }) => id),
    ['device0', 'device1', 'device2', 'x'],
    'an id of its own is kept',
  )
  t.equal(formatDevices(devices.slice(0, 2)), 'edu=0000:00:05.0,nvme=0000:00:06.0')
  t.strictSame(
    parseDevices(formatDevices(devices)),
    devices.map(({ name, bdf }) => ({ name, bdf })),
  )
  t.strictSame(parseDevices(''), [])
})

t.test('root ports take the slots, their devices a bus each in the order of the ports', async (t) => {
  const devices = placeDevices(['port/nvme', 'edu', 'port/{"driver":"edu"}', 'port/edu,dma_mask=1,id=mine'])
  t.strictSame(devices, [
    {
      name: 'nvme',
      bdf: '0000:01:00.0',
      id: 'device0',
      argument: 'nvme,serial=uaccel,drive=DRIVE,id=device0,bus=port0,addr=0x0',
      portArgument: 'pcie-root-port,id=port0,chassis=1,slot=1,addr=0x5',
      diskBytes: 64 << 20,
    },
    { name: 'edu', bdf: '0000:00:06.0', id: 'device1', argument: 'edu,id=device1,addr=0x6' },
    {
      name: 'edu',
      bdf: '0000:02:00.0',
      id: 'device2',
      argument: '{"driver":"edu","id":"device2","bus":"port2","addr":"0x0"}',
      portArgument: 'pcie-root-port,id=port2,chassis=2,slot=2,addr=0x7',
    },
    {
      name: 'edu',
      bdf: '0000:03:00.0',
      id: 'mine',
      argument: 'edu,dma_mask=1,id=mine,bus=port3,addr=0x0',
      portArgument: 'pcie-root-port,id=port3,chassis=3,slot=3,addr=0x8',
    },
  ])
  t.throws(() => placeDevices(['port/gpu']), { code: 'ERR_ACCEL_NOT_FOUND', message: /'gpu'/ })
})

t.test('a vfio-user server is a device, and any device may have a name', async (t) => {
  const [npu, plain, named] = placeDevices(['npu=port/vfio-user:./a b,c.sock', 'vfio-user:/x', 'n-1=edu'])
  const path = resolve('a b,c.sock')
  t.match(npu, { name: 'npu', bdf: '0000:01:00.0', socketPath: path })
  t.strictSame(JSON.parse(npu!.argument), {
    driver: 'vfio-user-pci',
    socket: { type: 'unix', path },
    id: 'device0',
    bus: 'port0',
    addr: '0x0',
  })
  t.match(plain, { name: 'vfio-user', bdf: '0000:00:06.0', socketPath: '/x' })
  t.match(named, { name: 'n-1', bdf: '0000:00:07.0', argument: 'edu,id=device2,addr=0x7' })
  t.equal(named!.socketPath, undefined)
  const [own] = placeDevices([`{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/y"}}`])
  t.match(own, { name: 'vfio-user-pci', socketPath: '/y' }, 'spelt out')
})

t.test('a disk image is the disk of a controller', async (t) => {
  t.strictSame(placeDevices(['nvme:a,b=c.img', 'disk=nvme:/d']), [
    {
      name: 'nvme',
      bdf: '0000:00:05.0',
      id: 'device0',
      argument: 'nvme,serial=uaccel,drive=DRIVE,id=device0,addr=0x5',
      diskPath: resolve('a,b=c.img'),
    },
    {
      name: 'disk',
      bdf: '0000:00:06.0',
      id: 'device1',
      argument: 'nvme,serial=uaccel,drive=DRIVE,id=device1,addr=0x6',
      diskPath: '/d',
    },
  ])
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
    '{"driver":"edu","id":1}',
    'port/edu,bus=b',
    'port/port/edu,a=b',
    'a b,c=d',
  ]) {
    t.throws(() => placeDevices([text]), { code: 'ERR_ACCEL_INVALID_ARGUMENT' }, text)
  }
  t.throws(() => placeDevices(Array(27).fill('edu')), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.equal(placeDevices(Array(26).fill('edu')).at(-1)!.bdf, '0000:00:1e.0')
})
