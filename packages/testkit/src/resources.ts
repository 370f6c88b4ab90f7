import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/** What this process holds, as the kernel counts it: our own counters would not know what they forgot. */
export interface Resources {
  /** What each open descriptor refers to. */
  readonly fds: readonly string[]
  /** Shared writable mappings: BARs, DMA memory, rings. Private ones belong to V8 and the allocator. */
  readonly mappings: readonly string[]
}

/** Counts descriptors and mappings from /proc/self. */
export function resources(): Resources {
  const fds: string[] = []
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      fds.push(readlinkSync(`/proc/self/fd/${fd}`))
    } catch {
      // The descriptor of the listing itself.
    }
  }
  const mappings = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([, permissions]) => permissions?.includes('w') && permissions.endsWith('s'))
    .map(([range, , , , , ...name]) => `${name.join(' ')} ${range}`)
  return { fds: fds.sort(), mappings: mappings.sort() }
}

/** What is in `after` more often than in `before`. */
function gained(before: readonly string[], after: readonly string[]): string[] {
  const counts = new Map<string, number>()
  for (const item of before) counts.set(item, (counts.get(item) ?? 0) + 1)
  return after.filter((item) => {
    const count = counts.get(item) ?? 0
    counts.set(item, count - 1)
    return count <= 0
  })
}

/** What the process holds now and did not before. Sockets and pipes count by number, since each has its own name. */
export function leaks(before: Resources, after: Resources): string[] {
  const kind = (name: string) => name.replace(/^(socket|pipe):\[\d+\]$/, '$1')
  return [
    ...gained(before.fds.map(kind), after.fds.map(kind)).map((name) => `descriptor of ${name}`),
    ...gained(before.mappings, after.mappings).map((name) => `mapping of ${name}`),
  ]
}

/** A thread that was told to end, such as a helper that watches descriptors, holds some until it has: over 5 s in a guest on a busy machine. */
const SETTLE_MS = 20_000

/** What leaks in each run shows in one. The lab's processor is emulated, and a run takes ten times as long there. */
const defaultTimes = Number(process.env.UACCEL_LEAK_ROUNDS ?? (process.env.UACCEL_LAB ? 1 : 3))

/** Runs `work` once to warm up, then `times` more, and asserts that nothing is held afterwards that was not before. */
export async function leavesNothing(t: Test, work: () => Promise<void>, times = defaultTimes): Promise<void> {
  await work()
  const before = resources()
  for (let i = 0; i < times; i++) await work()
  const start = performance.now()
  let left = leaks(before, resources())
  while (left.length > 0 && performance.now() - start < SETTLE_MS) {
    await sleep(20)
    left = leaks(before, resources())
  }
  t.same(left, [], 'no descriptor and no mapping is left')
}
