import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { findLab, runInLab } from '@uaccel/lab'
import { buildBaseline } from './baseline.js'
import { type Effort, fullEffort, type Measure, type Row, type Run } from './measure.js'

const limitMs = 900_000
/** Guests are slow to start programs, and their clocks are coarse: fewer rounds, and of fewer reads. */
export const labEfforts = {
  full: { rounds: 7, warmUps: 1, divisor: 1 },
  quick: { rounds: 1, warmUps: 0, divisor: 40 },
} satisfies Record<string, Effort>

/**
 * The reads of `nvmeReads` from QEMU's NVMe controller through kernel VFIO, in the lab. The baseline is built here and runs there, as does
 * what compares the two: `nvme-lab.guest.ts`.
 */
export async function nvmeLab(_: Measure, run: Run): Promise<void> {
  const { missing } = await findLab()
  if (missing.length > 0) {
    run.leaveOut(`NVMe reads in the lab: it lacks ${missing.join('; ')}.`)
    return
  }
  const script = fileURLToPath(new URL('nvme-lab.guest.js', import.meta.url))
  const effort: keyof typeof labEfforts = run.effort.rounds < fullEffort.rounds ? 'quick' : 'full'
  const stdout = new PassThrough()
  const lines: string[] = []
  createInterface(stdout).on('line', (line) => lines.push(line))
  const { NODE_OPTIONS: _loaders, ...env } = process.env // what a test runner loads writes files, where none can be written
  const { exitCode } = await runInLab({
    command: [process.execPath, script, buildBaseline('nvme-reader-vfio'), effort],
    devices: ['nvme'],
    env,
    limitMs,
    stdout,
    stderr: process.stderr,
  })
  stdout.end()
  if (exitCode !== 0)
    throw new Error(`the benchmark in the lab ended with ${exitCode}; what it said is above`)
  run.add(JSON.parse(lines.at(-1)!) as Row[])
}
