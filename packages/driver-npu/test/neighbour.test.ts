import { openDevice } from '@uaccel/core'
import { AutoClock, loopback } from '@uaccel/model'
import t from 'tap'
import { npuModel } from '../model/index.js'
import { Npu } from '../src/driver.js'

/** Work of this long ends when the test says so. */
const LONG_NS = 1e6

class HeldClock extends AutoClock {
  readonly held: (() => void)[] = []

  override after(delayNs: number, work: () => void): () => void {
    if (delayNs < LONG_NS) return super.after(delayNs, work)
    this.held.push(work)
    return () => {}
  }
}

t.test('a queue is looked at while the work of another takes long', async (t) => {
  const clock = new HeldClock()
  const transport = loopback(npuModel, { clock })
  const device = openDevice(transport)
  t.teardown(async () => {
    await device.release()
    await transport.close()
  })
  const npu = await Npu.start(device)
  const [one, other] = await Promise.all([npu.createContext(), npu.createContext()])
  // 16 bytes read or written a cycle, of 1 ns.
  const sizeBytes = 1 << 24
  const [from, to, small] = [one.allocate(sizeBytes), one.allocate(sizeBytes), other.allocate(64)]
  const long = one.run(
    one.encode([{ op: 'copy', x: { buffer: from }, y: { buffer: to }, length: sizeBytes }]),
  )
  while (clock.held.length === 0) await new Promise(setImmediate)
  const short = other.encode([{ op: 'fill', y: { buffer: small }, length: 64, pattern: 0 }])
  for (let run = 0; run < 5; run++) await other.run(short, { timeoutMs: 1000 })
  t.equal(clock.held.length, 1, 'the long one is still under way')
  clock.held[0]!()
  await long
  transport.assertClean()
})
