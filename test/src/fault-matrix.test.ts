import type { AccelDriver } from '@uaccel/accel'
import {
  type FaultMatrix,
  faultContract,
  faultMatrix,
  faultNames,
  type Verdict,
} from '@uaccel/testkit/faults'
import t, { type Test } from 'tap'
import { type Bug, brokenDrivers } from './fault-matrix/broken.js'
import { eduFaults } from './fault-matrix/edu.js'
import { npuFaults } from './fault-matrix/npu.js'
import { nvmeFaults } from './fault-matrix/nvme.js'
import { virtioCryptoFaults } from './fault-matrix/virtio-crypto.js'

/** Moments of each row and fault: UACCEL_FAULT_MOMENTS for more, `Infinity` for each one. */
const moments = Number(process.env.UACCEL_FAULT_MOMENTS ?? 1)
/** Each peer that is killed is a process to be started: by default few rows see that. */
const peers = faultNames.filter((fault) => fault.startsWith('peer'))
const others = faultNames.filter((fault) => !peers.includes(fault))

t.setTimeout(0)

async function wholeMatrix(t: Test, matrix: FaultMatrix): Promise<void> {
  const rows = process.env.UACCEL_FAULT_MOMENTS === undefined ? { rows: ['probe', 'recovery'] } : {}
  for (const options of [{ faults: others }, { faults: peers, ...rows }]) {
    const report = await faultContract(t, matrix, { moments, ...options })
    const struck = report.cells.filter((cell) => cell.fault !== undefined && cell.struck)
    t.ok(struck.length > report.cells.length / 2, 'the faults came to pass')
  }
}

for (const matrix of [eduFaults, npuFaults, nvmeFaults, virtioCryptoFaults])
  t.test(`${matrix.driver.name} under each fault`, (t) => wholeMatrix(t, matrix))

/** What a small driver with one bug is found guilty of. */
const guilty: Readonly<Record<Exclude<Bug, 'none'>, Verdict>> = {
  lostUnmap: 'leaked',
  waitWithoutLimit: 'hung',
  ignoresSignal: 'hung',
  busyWaitWithoutLimit: 'hung',
  ignoresStatus: 'lied',
  swallowsInterrupt: 'doesNotRecover',
  doubleCompletion: 'wrongError',
  forgetsToQuiesce: 'brokeRules',
  listenerLeak: 'leaked',
  timerLeak: 'leaked',
  descriptorLeak: 'leaked',
  wrongError: 'wrongError',
  probeWithoutLimit: 'hung',
}
/** Each shows in one row, under one of these. */
const suspects = {
  rows: ['increment'],
  faults: ['lostInterrupt', 'spuriousInterrupt', 'dmaError', 'hang'],
  moments: 3,
  blockedMs: 500,
  jobs: 1,
} as const

t.test('a small driver without a bug', async (t) => {
  await faultContract(t, brokenDrivers.none, suspects)
})

for (const [bug, verdict] of Object.entries(guilty) as [keyof typeof guilty, Verdict][]) {
  t.test(`the same driver with a bug: ${bug}`, async (t) => {
    const rows = bug === 'probeWithoutLimit' ? ['probe'] : suspects.rows
    const report = await brokenDrivers[bug].run({ ...suspects, rows })
    const found = new Set(
      report.failures.flatMap(({ findings }) => findings.map((finding) => finding.verdict)),
    )
    t.ok(found.has(verdict), `found ${[...found].join(', ')}; wanted ${verdict}`)
    t.notOk(report.ok)
    if (bug === 'busyWaitWithoutLimit') {
      const [hung] = report.failures.flatMap(({ findings }) => findings)
      t.match(hung?.message, /at add .*broken\.[jt]s/, 'with the place where it waits')
    }
    if (bug === 'forgetsToQuiesce') t.match(String(report), /increment under hang.*\n.*nothing is mapped/)
  })
}

t.test('what a matrix does not take', async (t) => {
  const { driver, definition, options } = brokenDrivers.none
  const other = (operations: typeof options.operations) =>
    faultMatrix(driver as AccelDriver, definition, { ...options, operations })
  await t.rejects(other(options.operations).run(), { code: 'ERR_ACCEL_NOT_FOUND', message: /Export it/ })
  // Each of these ran nothing, and nothing was found.
  for (const [wrong, code] of [
    [{ rows: ['decrement'] }, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [{ rows: [] }, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [{ faults: [] }, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [{ faults: ['hangs' as 'hang'] }, 'ERR_ACCEL_INVALID_ARGUMENT'],
    [{ moments: Number.NaN }, 'ERR_ACCEL_OUT_OF_RANGE'],
    [{ moments: 0 }, 'ERR_ACCEL_OUT_OF_RANGE'],
    [{ jobs: 0 }, 'ERR_ACCEL_OUT_OF_RANGE'],
    [{ blockedMs: 0 }, 'ERR_ACCEL_OUT_OF_RANGE'],
  ] as const)
    await t.rejects(brokenDrivers.none.run(wrong), { code }, JSON.stringify(wrong))
})
