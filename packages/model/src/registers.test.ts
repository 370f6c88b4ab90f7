import t from 'tap'
import { registerBank } from './registers.js'

t.test('access kinds', async (t) => {
  const bank = registerBank([
    { name: 'RO', offset: 0x00, width: 4, access: 'ro', reset: 0xcafe },
    { name: 'RW', offset: 0x04, width: 4, access: 'rw', reset: 7 },
    { name: 'WO', offset: 0x08, width: 4, access: 'wo' },
    { name: 'W1C', offset: 0x0c, width: 4, access: 'w1c', reset: 0xff },
    { name: 'RC', offset: 0x10, width: 4, access: 'rc', reset: 0x80000001 },
    { name: 'BYTE', offset: 0x14, width: 1, access: 'rw' },
    { name: 'WIDE', offset: 0x18, width: 8, access: 'rw', reset: 5n },
  ])
  t.equal(bank.read(0x00, 4), 0xcafe)
  t.equal(bank.write(0x00, 4, 1), false)
  t.equal(bank.write(0x04, 4, -1), true)
  t.equal(bank.read(0x04, 4), 0xffffffff)
  t.equal(bank.read(0x08, 4), undefined)
  t.equal(bank.write(0x08, 4, 3), true)
  t.equal(bank.get('WO'), 3)
  t.equal(bank.write(0x0c, 4, 0x0f), true)
  t.equal(bank.read(0x0c, 4), 0xf0)
  t.equal(bank.read(0x10, 4), 0x80000001)
  t.equal(bank.read(0x10, 4), 0, 'reading cleared it')
  t.equal(bank.write(0x10, 4, 1), false)
  t.equal(bank.write(0x14, 1, 0x1ff), true)
  t.equal(bank.read(0x14, 1), 0xff)
  t.equal(bank.write(0x18, 8, (1n << 64n) + 9n), true)
  t.equal(bank.read(0x18, 8), 9n)
  t.equal(bank.get64('WIDE'), 9n)
  bank.set('RO', 0x1_0000_0002)
  t.equal(bank.read(0x00, 4), 2)
  bank.reset()
  t.same(
    [bank.get('RO'), bank.get('RW'), bank.get('WO'), bank.get('W1C'), bank.get('RC'), bank.get64('WIDE')],
    [0xcafe, 7, 0, 0xff, 0x80000001, 5n],
  )
})

t.test('what is not declared, or not so wide, is refused', async (t) => {
  const bank = registerBank([
    { name: 'A', offset: 0, width: 4, access: 'rw' },
    { name: 'B', offset: 8, width: 8, widths: [4, 8], access: 'rw' },
  ])
  for (const [offset, width] of [
    [0, 1],
    [0, 2],
    [0, 8],
    [1, 1],
    [2, 2],
    [4, 4],
    [8, 2],
    [12, 4],
    [16, 4],
  ] as const) {
    t.equal(bank.read(offset, width), undefined, `read ${width} at ${offset}`)
    t.equal(bank.write(offset, width, width === 8 ? 0n : 0), false, `write ${width} at ${offset}`)
  }
  t.equal(bank.write(8, 8, 0x1_0000_0001n), true)
  t.equal(bank.read(8, 4), 1)
  t.equal(bank.write(8, 4, 0xffffffff), true)
  t.equal(bank.read(8, 8), 0xffffffffn, 'a narrow write is zero-extended')
  t.equal(bank.describe(2), 'A at 0x0 (rw, 4 bytes)')
  t.equal(bank.describe(12), 'B at 0x8 (rw, 4 or 8 bytes)')
  t.equal(bank.describe(4), 'no register at 0x4')
})

t.test('handlers and arrays', async (t) => {
  const seen: unknown[] = []
  const bank = registerBank([
    {
      name: 'DOORBELL',
      offset: 0x100,
      width: 4,
      access: 'rw',
      count: 3,
      strideBytes: 8,
      read: (index) => index * 10,
      write: (value, index) => seen.push([index, value]),
    },
    { name: 'BASE', offset: 0x200, width: 8, access: 'wo', write: (value) => seen.push(value) },
  ])
  t.equal(bank.read(0x110, 4), 20)
  t.equal(bank.read(0x118, 4), undefined)
  t.equal(bank.write(0x108, 4, -1), true)
  t.equal(bank.write(0x200, 8, 5n), true)
  t.same(seen, [[1, 0xffffffff], 5n])
  t.equal(bank.describe(0x108), 'DOORBELL[1] at 0x108 (rw, 4 bytes)')
})

t.test('a bank that contradicts itself', async (t) => {
  const code = 'ERR_ACCEL_INVALID_ARGUMENT'
  const at = (name: string, offset: number) => ({ name, offset, width: 4, access: 'rw' }) as const
  t.throws(() => registerBank([at('A', 0), at('A', 4)]), { code, message: /A is declared twice/ })
  t.throws(() => registerBank([at('A', 0), at('B', 0)]), { code, message: /overlap/ })
  t.throws(() => registerBank([at('A', 2), at('B', 0)]), { code, message: /B and A overlap/ })
  t.throws(() => registerBank([{ ...at('A', 0), count: 2, strideBytes: 2 }]), { code, message: /overlap/ })
  const bank = registerBank([at('A', 0)])
  t.throws(() => bank.get('A', 1), { code })
})
