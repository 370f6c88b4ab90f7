// Measures uaccel beside the same work in C.
import { writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { parseArgs } from 'node:util'
import { isAccelError } from '@uaccel/uapi'
import { arithmetic } from './arithmetic.js'
import { compilerVersion } from './baseline.js'
import { dispatch } from './dispatch.js'
import { eventfd } from './eventfd.js'
import { type Benchmark, type Contest, fullEffort, measureContest, quickEffort, type Row } from './measure.js'
import { nodeCommand, share } from './node.js'
import { nvme } from './nvme.js'
import { nvmeLab } from './nvme-lab.js'
import { nvmeReads } from './nvme-reads.js'
import { drawPlot } from './plot.js'
import { regionRead } from './region-read.js'
import { register } from './register.js'
import { drawPage, drawTable, type Machine } from './report.js'
import { ring } from './ring.js'
import { userQueue } from './user-queue.js'

const benchmarks: Readonly<Record<string, Benchmark>> = {
  register,
  ring,
  nvme,
  'nvme-reads': nvmeReads,
  'nvme-lab': nvmeLab,
  'user-queue': userQueue,
  eventfd,
  'region-read': regionRead,
  node: nodeCommand,
  share,
  arithmetic,
  dispatch,
}

const usage = `Usage: npm run bench [-- OPTIONS]

Measures TypeScript and C doing the same work, in turns, and shows the ratios. Takes some minutes; an idle machine is
needed for figures that mean something.

  --json              one JSON object on stdout, and nothing else there
  --write             writes docs/bench.md and docs/bench-nvme.svg as well
  --quick             few rounds of few operations: shows that it works, not how fast
  --only NAME         one of: ${Object.keys(benchmarks).join(', ')}
  --nvme-socket PATH  nvme-reads alone, from the vfio-user server that listens there, such as SPDK's; it is on another core
  --help              this text

Exit codes: 0 measured, 1 an error, 2 wrong usage
`

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        write: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        'nvme-socket': { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.only !== undefined && !(values.only in benchmarks)) {
      throw new Error(`--only wants one of ${Object.keys(benchmarks).join(', ')}; found ${values.only}`)
    }
    if (values['nvme-socket'] !== undefined) values.only ??= 'nvme-reads'
    if (values['nvme-socket'] !== undefined && values.only !== 'nvme-reads') {
      throw new Error(`--nvme-socket is for nvme-reads; found --only ${values.only}`)
    }
    if (values.write && (values.quick || values.only !== undefined)) {
      throw new Error('--write wants the whole page: leave --quick and --only away')
    }
    return values
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

async function run(options: NonNullable<ReturnType<typeof readOptions>>): Promise<void> {
  const { json, write, quick, only } = options
  const machine: Machine = {
    cpu: `${cpus().length} x ${cpus()[0]?.model.trim()}`,
    node: process.versions.node,
    kernel: release(),
    cc: compilerVersion(),
  }
  const rows: Row[] = []
  const leftOut: string[] = []
  const effort = quick ? quickEffort : fullEffort
  const measure = async (contest: Contest) => {
    if (process.stderr.isTTY) process.stderr.write(`${contest.rows[0]} ...\n`)
    rows.push(...(await measureContest(contest, effort)))
  }
  for (const [name, benchmark] of Object.entries(benchmarks)) {
    if (only !== undefined && only !== name) continue
    await benchmark(measure, {
      effort,
      nvmeSocket: options['nvme-socket'],
      add: (more) => rows.push(...more),
      leaveOut: (sentence) => leftOut.push(sentence),
    })
  }
  if (json) process.stdout.write(`${JSON.stringify({ schema: 1, machine, rows, leftOut })}\n`)
  else process.stdout.write(drawTable(machine, rows, leftOut))
  if (!write) return
  writeFileSync(new URL('../../docs/bench.md', import.meta.url), drawPage(machine, rows, leftOut))
  writeFileSync(new URL('../../docs/bench-nvme.svg', import.meta.url), drawPlot(rows))
}

const options = readOptions()
if (options?.help) process.stdout.write(usage)
else if (options) {
  try {
    await run(options)
  } catch (error) {
    process.stderr.write(
      `${isAccelError(error) ? `${error.code}: ${error.message}` : (error as Error).stack}\n`,
    )
    process.exitCode = 1
  }
}
