import fc from 'fast-check'
import t from 'tap'
import { decodeConfigSpace } from './decode.js'

/** QEMU's nvme as the lab's guest showed it, cut to what is not zero: offset and bytes. */
function nvme(): Uint8Array {
  const bytes = new Uint8Array(4096)
  const put = (offset: number, ...values: number[]) => bytes.set(values, offset)
  put(0x00, 0x36, 0x1b, 0x10, 0x00, 0x07, 0x05, 0x18, 0x00, 0x02, 0x02, 0x08, 0x01)
  put(0x10, 0x04, 0x00, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x00)
  put(0x2c, 0xf4, 0x1a, 0x00, 0x11)
  put(0x34, 0x40)
  put(0x3c, 0x0b, 0x01)
  put(0x40, 0x11, 0x80, 0x40, 0x80, 0x00, 0x20, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00)
  put(0x60, 0x01, 0x00, 0x03, 0x00, 0x08, 0x00)
  put(0x80, 0x10, 0x60, 0x92, 0x00, 0x01, 0x80, 0x00, 0x10, 0x20, 0x00)
  put(0x92, 0x11, 0x00)
  put(0x100, 0x01, 0x00, 0x02, 0x14)
  put(0x140, 0x0e, 0x00, 0x01, 0x00)
  return bytes
}

t.test('header, BARs, capabilities', async (t) => {
  const info = decodeConfigSpace(nvme())
  t.match(info, {
    vendor: 0x1b36,
    device: 0x10,
    subsystemVendor: 0x1af4,
    subsystem: 0x1100,
    revision: 2,
    classCode: 0x010802,
    headerType: 0,
    multiFunction: false,
    command: { raw: 0x507, io: true, memory: true, busMaster: true, intxDisable: true },
    status: { intxPending: true, capabilities: true },
    interruptPin: 'A',
    problems: [],
  })
  t.same(info.bars, [
    { index: 0, kind: 'memory', address: 0x1_c000_0000n, is64Bit: true, prefetchable: false },
  ])
  t.same(
    info.capabilities.map(({ id, offset, name }) => [id, offset, name]),
    [
      [0x11, 0x40, 'MSI-X'],
      [0x10, 0x80, 'PCI Express'],
      [0x01, 0x60, 'Power Management'],
    ],
  )
  t.same(info.capabilities[0].fields, {
    enabled: true,
    masked: false,
    vectors: 65,
    table: { bar: 0, offset: 0x2000 },
    pendingBits: { bar: 0, offset: 0x3000 },
  })
  t.match(info.capabilities[1].fields, {
    type: 'root complex endpoint',
    functionLevelReset: true,
    maxPayloadBytes: 256,
    maxPayloadSupportedBytes: 256,
    linkSpeed: 1,
    linkWidth: 1,
  })
  t.same(info.capabilities[2].fields, { version: 3, state: 'D0', noSoftReset: true })
  t.same(info.extendedCapabilities, [
    { id: 1, name: 'Advanced Error Reporting', version: 2, offset: 0x100 },
    { id: 14, name: 'Alternative Routing-ID', version: 1, offset: 0x140 },
  ])
})

t.test('MSI, vendor specific, I/O BARs', async (t) => {
  const bytes = new Uint8Array(256)
  bytes[0x06] = 0x10
  bytes.set([0x01, 0xc0, 0, 0], 0x14)
  bytes[0x34] = 0x43 // the low bits are reserved
  bytes.set([0x05, 0x50, 0x8b, 0x01], 0x40)
  bytes.set([0x09, 0x60, 0x14], 0x50)
  bytes.set([0x77, 0x00], 0x60)
  const info = decodeConfigSpace(bytes)
  t.same(info.bars, [{ index: 1, kind: 'io', address: 0xc000n, is64Bit: false, prefetchable: false }])
  t.same(info.capabilities[0].fields, {
    enabled: true,
    vectors: 32,
    enabledVectors: 1,
    is64Bit: true,
    maskable: true,
  })
  t.same(info.capabilities[1].fields, { lengthBytes: 0x14 })
  t.same(info.capabilities[2], { id: 0x77, name: '0x77', offset: 0x60 })
  t.notOk('interruptPin' in info)
})

t.test('chains that loop, leave the space, or cannot be read', async (t) => {
  const loop = nvme()
  loop[0x61] = 0x40
  t.same(decodeConfigSpace(loop).problems, ['the capability chain loops at offset 0x40'])
  t.equal(decodeConfigSpace(loop).capabilities.length, 3)
  const low = nvme()
  low[0x61] = 0x10
  t.same(decodeConfigSpace(low).problems, ['the capability chain points to offset 0x10'])
  const extended = nvme()
  extended.set([0x0e, 0x00, 0x01, 0x10], 0x140)
  t.same(decodeConfigSpace(extended).problems, ['the extended capability chain loops at offset 0x100'])
  extended.set([0x0e, 0x00, 0x01, 0x08], 0x140)
  t.match(decodeConfigSpace(extended).problems, [/points to offset 0x80/])
  const user = decodeConfigSpace(nvme().subarray(0, 64))
  t.same(user.capabilities, [])
  t.match(user.problems, [/as root/])
  t.match(decodeConfigSpace(nvme().subarray(0, 10)).problems, [/only 10 bytes/])
  t.match(decodeConfigSpace(new Uint8Array(0)).vendor, 0)
})

t.test('property: no bytes break the decoder', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096, size: 'max' }), fc.boolean(), (bytes, list) => {
      if (list && bytes.length > 6) bytes[6] |= 0x10
      const info = decodeConfigSpace(bytes)
      if (info.capabilities.length > 64 || info.extendedCapabilities.length > 1024)
        throw new Error('unbounded')
    }),
  )
})
