import { leavesNothing } from '@uaccel/testkit'
import t from 'tap'
import { type Bench, endOf, inOwnProcess, inProcess, withBench } from './faults/bench.js'
import { faultCases } from './faults/cases.js'
import type { DeviceName } from './faults/models.js'

/** Rounds of each case: UACCEL_FAULT_ROUNDS for more. */
const rounds = Number(process.env.UACCEL_FAULT_ROUNDS ?? 3)
/** What a loaded machine may add to a limit; the limit itself is told in the message. */
const PATIENCE_MS = Number(process.env.UACCEL_FAULT_PATIENCE_MS ?? 1000)

t.setTimeout(60_000 + rounds * 60_000)

async function works(name: DeviceName, bench: Bench): Promise<string> {
  if (name === 'edu') return (await endOf(bench.edu.call('factorial', { n: 5 }))).code
  const context = await bench.npu.createContext()
  const buffer = context.allocate(64)
  const job = context.encode([{ op: 'fill', y: { buffer }, length: 64, pattern: 0x02020202 }])
  const { code } = await endOf(context.run(job))
  const filled = buffer.u8.every((byte) => byte === 2)
  await context.close()
  return filled ? code : 'done, with wrong data'
}

/** What a user of a device that is gone is told. */
function gone(name: DeviceName, bench: Bench) {
  return endOf(name === 'edu' ? bench.edu.call('identify', {}) : bench.npu.createContext())
}

for (const [where, makeVictim] of [
  ['loopback', inProcess],
  ['vfio-user', inOwnProcess],
] as const) {
  for (const { device, fault, ends, withinMs, suffer, afterwards } of faultCases) {
    t.test(`${fault}: ${device} over ${where}`, { timeout: 20_000 + rounds * 3000 }, async (t) => {
      const delays: number[] = []
      const round = async () => {
        const victim = await makeVictim(device)
        try {
          await withBench(device, victim, async (bench) => {
            const { codes, afterMs } = await suffer(bench)
            delays.push(afterMs)
            const wrong = codes.filter((code) => !ends.includes(code))
            if (wrong.length > 0) t.fail(`ended with ${wrong.join(', ')}; wanted ${ends.join(' or ')}`)
            if (afterMs > withinMs + PATIENCE_MS) t.fail(`ended ${afterMs} ms after the fault`)
            if (afterwards === 'works') {
              const end = await works(device, bench)
              if (end !== 'done') t.fail(`afterwards a command ended with ${end}`)
            } else {
              await bench.removed
              const { code } = await gone(device, bench)
              if (code !== 'ERR_ACCEL_NO_DEVICE') t.fail(`afterwards a command ended with ${code}`)
            }
          })
        } finally {
          await victim.end()
        }
      }
      await leavesNothing(t, round, rounds)
      delays.sort((a, b) => a - b)
      const median = delays[delays.length >> 1]!
      t.ok(median <= withinMs, `ends after ${median.toFixed(1)} ms (median), limit ${withinMs}`)
      t.comment(`${rounds} rounds, ${median.toFixed(1)} ms median, ${delays.at(-1)!.toFixed(1)} ms most`)
    })
  }
}
