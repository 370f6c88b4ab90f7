import t from 'tap'
import { openDevice } from './device.js'
import { FakeTransport } from './fake-transport.test.support.js'
import { interpose, interposed } from './interpose.js'
import { type RegisterMap, reg32, registers } from './registers.js'
import type { Transport } from './transport.js'

const Bar0 = registers({ ID: reg32(0, 'ro') })

/** A transport that counts the reads that pass, and keeps what it is told. */
function counting(transport: Transport) {
  const seen = { reads: 0, maps: [] as [number, RegisterMap][] }
  const wrapped = new Proxy(transport, {
    get(target, key) {
      if (key === 'describe') return (region: number, map: RegisterMap) => seen.maps.push([region, map])
      const member: unknown = Reflect.get(target, key, target)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        if (key === 'read') seen.reads++
        return (member as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })
  return { seen, wrapped }
}

t.test(
  'a device stands on what was made of its transport, and tells it the names of its registers',
  async (t) => {
    const transport = new FakeTransport()
    const { seen, wrapped } = counting(transport)
    let made = 0
    const end = interpose((opened) => {
      t.equal(opened, transport)
      made++
      return wrapped
    })
    t.teardown(end)
    const device = openDevice(transport)
    await device.mapBar(0, Bar0)
    t.ok(seen.reads > 0, 'its ids were read')
    t.same(seen.maps, [[0, Bar0]])
    await device.release()

    t.equal(interposed(transport), wrapped)
    t.equal(interposed(wrapped), wrapped, 'once is enough')
    await openDevice(transport).release()
    t.equal(made, 1, 'several devices of one transport have it in common')

    end()
    const other = new FakeTransport()
    t.equal(interposed(other), other)
  },
)
