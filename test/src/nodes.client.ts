import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import { sys } from '@uaccel/sys'
import { contractUapi } from '@uaccel/testkit'
import type { AccelError } from '@uaccel/uapi'

/*
 * A client in a process of its own: argv[2] is what it does, argv[3] the folder of the nodes. It loads no driver, but for the
 * uAPI of one.
 */

const folder = process.argv[3]!

const say = (word: object) => process.send?.(word)

const programs: Record<string, () => Promise<void>> = {
  /** Everything that leaves something at the server, until somebody kills it. */
  async session() {
    say({ running: true })
    for (;;) {
      const dev = await openAccel(contractUapi, 'accel0', { folder })
      const file = sys.memfdCreate('uaccel-client')
      sys.pwrite(file, new Uint8Array(5000).fill(1), 0)
      const calls: Promise<unknown>[] = [dev.call('hang', {}), dev.call('hang', {}, { timeoutMs: 5 })]
      for (let i = 0; i < 8; i++) {
        calls.push(
          dev.call('keep', { count: 2 }),
          dev.call('fill', { sizeBytes: 60_000 }),
          dev.call('late', { file }, { timeoutMs: 3 }),
          dev.call('swap', { file }).then(({ file: answer }) => sys.close(answer!)),
        )
      }
      const all = Promise.allSettled(calls)
      await dev.call('add', { a: 1, b: 2 })
      await dev.close()
      await all
      sys.close(file)
    }
  },
  /** Calls pending, to see how they end. */
  async waiting() {
    const dev = await openAccel(contractUapi, 'accel0', { folder })
    const ended = Promise.allSettled([dev.call('hang', {}), dev.call('hang', {})])
    await dev.call('add', { a: 1, b: 2 })
    say({ waiting: true })
    const outcomes = await ended
    const lost = await dev.lost
    const later: AccelError = await dev.call('add', { a: 1, b: 2 }).then(
      () => 'none' as never,
      (error) => error,
    )
    say({
      codes: outcomes.map((outcome) => (outcome as { reason: AccelError }).reason.code),
      lost: lost.code,
      later: later.code,
    })
  },
  async edu() {
    const dev = await openAccel(eduUapi, 'accel0', { folder })
    let wrong = 0
    for (let round = 0; round < 30; round++) {
      const { value } = await dev.call('factorial', { n: 10 })
      const data = Uint8Array.from({ length: 100 }, (_, i) => i * round)
      const back = await dev.call('echo', { data })
      if (value !== 3_628_800 || !Buffer.from(back.data).equals(data)) wrong++
    }
    await dev.close()
    say({ wrong })
  },
  async npu() {
    const dev = await openAccel(npuUapi, 'accel1', { folder })
    const first = await dev.call('identify', {})
    await dev.call('reset', {})
    const { descriptors } = await dev.call('counters', { clear: true })
    const again = await dev.call('identify', {})
    await dev.close()
    say({ wrong: first.maxMacs === again.maxMacs && descriptors === 0n ? 0 : 1, queues: first.queues })
  },
}

await programs[process.argv[2]!]!()
process.disconnect?.()
