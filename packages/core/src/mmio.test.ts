import type { Window } from '@uaccel/sys'
import t from 'tap'
import { BarWindow, MappedMmio } from './mmio.js'

t.test(
  'a window of more than 4 GiB, which newer runtimes can view: each access is where it was asked for',
  async (t) => {
    const touched: [string, number][] = []
    const array = (name: string, value: number | bigint) =>
      new Proxy([], {
        get(_, index) {
          touched.push([name, Number(index)])
          return value
        },
        set: (_, index) => touched.push([name, Number(index)]) > 0,
      })
    const window = { u8: array('u8', 0), u16: array('u16', 0), u32: array('u32', 0), u64: array('u64', 0n) }
    const sizeBytes = 2 ** 34
    const bar = new BarWindow(0, { offset: 0, sizeBytes }, 'BAR 0', {
      window: window as unknown as Window,
      revoke() {},
    })
    const base = 2 ** 33
    const memory = new MappedMmio(bar, base, sizeBytes - base)
    const at = 2 ** 32 + 8
    memory.read8(at)
    memory.read16(at)
    memory.read32(at)
    memory.read64(at)
    memory.write8(at, 1)
    memory.write16(at, 1)
    memory.write32(at, 1)
    memory.write64(at, 1n)
    const each = [1, 2, 4, 8].map((width) => [`u${8 * width}`, (base + at) / width])
    t.same(touched, [...each, ...each])
  },
)
