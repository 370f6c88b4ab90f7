import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { twoCores } from './affinity.js'
import { buildBaseline } from './baseline.js'
import { Child } from './child.js'
import type { Contest, Measure, Run, Unit } from './measure.js'

/** Reads under way. */
export const depths = [1, 4, 16, 32, 64, 128] as const
/** Those that have a target of their own. */
export const targetDepths = [1, 32, 128] as const
/**
 * What both readers wait for before they poll: half of what is under way, so many at most, which comes unless the controller is stuck; then they
 * have looked so often.
 */
const LOOK_AHEAD = 16
const LOOK_LIMIT = 1_000_000
/** Of one depth; a deeper one has up to eight times as many. */
const READS = 100_000
/**
 * What a read takes the slower of our targets, in nanoseconds: 2.9 million a second, which is the order of fast drives, and what SPDK's
 * `spdk_nvme_perf` reached at depth 128 on SPDK's own vfio-user target with a null block device (24.01, a machine of the kind that these
 * benchmarks were written on: 2.8 million).
 */
const PACE_NS = 350

/** FIGURES of `c/nvme-reads.h`, for one depth: names and units. */
const figures: readonly (readonly [name: string, unit: Unit])[] = [
  ['reads', 'k/s'],
  ['time of the host', 'ns'],
  ['latency p50', 'us'],
  ['latency p99', 'us'],
  ['latency p99.99', 'us'],
  ['latency p99.99 / p50', 'x'],
]

/** Where reads are made, as the rows call it. */
export const places = {
  null: 'NVMe, null target',
  paced: `NVMe, target of ${PACE_NS} ns a read`,
  lab: "NVMe, QEMU's in the lab",
} as const

/** The name of a row. */
export const readRow = (place: string, depth: number, figure: string) => `${place}, depth ${depth}: ${figure}`

/** A contest of two readers, which answer all figures for each depth. */
export function readContest(
  place: string,
  depths: readonly number[],
  operations: number,
  typescript: Contest['c'],
  c: Contest['c'],
): Contest {
  const unit = depths.flatMap(() => figures.map(([, unit]) => unit))
  const rows = depths.flatMap((depth) => figures.map(([name]) => readRow(place, depth, name)))
  return { rows, unit, operations, typescript, c }
}

/** What both readers are told besides where the controller is. */
export const readerArguments = (depths: readonly number[]) => [LOOK_AHEAD, LOOK_LIMIT, ...depths].map(String)
/** The reader in TypeScript. */
export const readerScript = fileURLToPath(new URL('nvme-reader.js', import.meta.url))

/**
 * Random reads of 4 KiB from a controller on another core, over vfio-user: by the driver's queue pair, and by C. Each reader brings the
 * controller up for each of its turns, since a server has one client.
 */
export async function nvmeReads(measure: Measure, run: Run): Promise<void> {
  const cores = twoCores()
  if (cores === undefined) {
    run.leaveOut('NVMe reads over vfio-user: target and reader poll, and want a core each; there is one.')
    return
  }
  const [targetCore, readerCore] = cores
  const pinned = (core: number, command: string, ...args: string[]) =>
    new Child('taskset', ['-c', String(core), command, ...args])
  const contest = async (place: string, depths: readonly number[], reads: number, socket: string) => {
    const args = readerArguments(depths)
    const ours = pinned(readerCore, process.execPath, readerScript, 'vfio-user', socket, ...args)
    const theirs = pinned(readerCore, buildBaseline('nvme-reader'), socket, ...args)
    try {
      await measure(
        readContest(
          place,
          depths,
          reads,
          (n) => ours.run(n),
          (n) => theirs.run(n),
        ),
      )
    } finally {
      await ours.close()
      await theirs.close()
    }
  }
  if (run.nvmeSocket !== undefined) {
    await contest(`NVMe, ${run.nvmeSocket}`, depths, READS, run.nvmeSocket)
    return
  }
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-'))
  try {
    for (const [place, which, reads, paceNs] of [
      [places.null, depths, READS, 0],
      [places.paced, targetDepths, READS / 4, PACE_NS],
    ] as const) {
      const socket = join(folder, `${paceNs}.sock`)
      const target = pinned(targetCore, buildBaseline('nvme-target'), socket, String(paceNs))
      try {
        await target.line()
        await contest(place, which, reads, socket)
      } finally {
        await target.close()
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
