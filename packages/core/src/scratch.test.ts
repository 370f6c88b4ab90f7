import t from 'tap'
import { scratchMmio } from './index.js'

t.test('memory behind the accessors of a mapped BAR', async (t) => {
  const memory = scratchMmio(12)
  t.ok(memory.mapped)
  t.equal(memory.sizeBytes, 12)
  memory.write32(4, 0x8765_4321)
  t.equal(memory.read32(4), 0x8765_4321)
  t.equal(memory.read16(6), 0x8765)
  t.throws(() => memory.write32(12, 0), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.equal(scratchMmio(8).read32(4), 0, 'each its own')
})
