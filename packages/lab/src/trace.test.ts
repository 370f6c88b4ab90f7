import t from 'tap'
import { memoryAccesses } from './trace.js'

const trace = `memory_region_ops_write cpu 0 mr 0x5581 addr 0x3f8 value 0x41 size 1 name 'serial'
memory_region_ops_read cpu 0 mr 0x5582 addr 0xfea00004 value 0xffffffff size 4 name 'edu-mmio'
12@1700000000.000001:memory_region_ops_write cpu 1 mr 0x5582 addr 0xfea00080 value 0x123456789abcdef0 size 8 name 'edu-mmio'
memory_region_subpage_read cpu 0 mr 0x1 offset 0x4 value 0x1 size 4
memory_region_ops_read cpu -1 mr 0x5582 addr 0xfea00000 value 0x10000ed size 4
`

t.test('reads the rows of the memory events, of all regions or of one', async (t) => {
  t.equal(memoryAccesses(trace).length, 4)
  t.strictSame(memoryAccesses(trace, 'edu-mmio'), [
    { kind: 'read', region: 'edu-mmio', address: 0xfea00004n, value: 0xffffffffn, size: 4 },
    { kind: 'write', region: 'edu-mmio', address: 0xfea00080n, value: 0x123456789abcdef0n, size: 8 },
  ])
  t.equal(memoryAccesses(trace).at(-1)!.region, '', 'a QEMU that does not print names')
})
