import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AccelDriver } from '@uaccel/accel'
import type { ModelDefinition } from '@uaccel/model'
import { accelError, type CommandDefinitions, type Uapi } from '@uaccel/uapi'
import { MATRIX, matricesOf } from './find.js'
import { planRow } from './plan.js'
import { FaultReport } from './report.js'
import { Runner } from './runner.js'
import {
  type AnyMatrix,
  type CellRequest,
  type FaultCell,
  type FaultMatrixOptions,
  type FaultRunOptions,
  faultNames,
  lifeRows,
  type Moment,
} from './types.js'

const DEFAULT_JOBS = 2
const DEFAULT_BLOCKED_MS = 3000

/**
 * A driver, its model, and what is to be tried. A module exports it, and the processes that run the cells import that module: it
 * makes the matrix and does nothing else.
 */
export class FaultMatrix implements AnyMatrix {
  readonly [MATRIX] = true
  readonly driver: AnyMatrix['driver']
  readonly definition: AnyMatrix['definition']
  readonly options: AnyMatrix['options']

  /** @internal See {@link faultMatrix}. */
  constructor({ driver, definition, options }: AnyMatrix) {
    this.driver = driver
    this.definition = definition
    this.options = options
  }

  /**
   * Runs each operation, and probe, reset, recovery and removal, under each fault at each of its moments, each in a process that can be given
   * up. What is wrong is in the report; this throws only where nothing could be run.
   *
   * @throws ERR_ACCEL_NOT_FOUND the module does not export this matrix; ERR_ACCEL_INVALID_ARGUMENT a row or a fault that there is not;
   *   ERR_ACCEL_OUT_OF_RANGE a number of which nothing would be run
   */
  async run(options: FaultRunOptions = {}): Promise<FaultReport> {
    const { module, operations } = this.options
    const exported = [...(await matricesOf(module))].find(([, matrix]) => matrix === this)
    if (exported === undefined)
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `${module} does not export this fault matrix. Export it, by any name.`,
      )
    const names = Object.keys(operations)
    const taken = names.find((name) => lifeRows.includes(name as 'probe'))
    if (taken !== undefined)
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `Every matrix has a row ${taken}: give the operation another name.`,
      )
    const {
      rows = [...names, ...lifeRows],
      jobs = DEFAULT_JOBS,
      blockedMs = DEFAULT_BLOCKED_MS,
      onCell,
    } = options
    const unknown = rows.find((row) => !names.includes(row) && !lifeRows.includes(row as 'probe'))
    if (unknown !== undefined || names.length === 0) {
      const there = [...names, ...lifeRows].join(', ')
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `There is no row ${unknown ?? 'of an operation'}; there are ${there}.`,
      )
    }
    checkOptions(options, jobs, blockedMs)
    const folder = mkdtempSync(join(tmpdir(), 'uaccel-faults-'))
    const runners = Array.from({ length: jobs }, () => new Runner([module, exported[0], folder], blockedMs))
    const cells: FaultCell[] = []
    const moments = new Map<CellRequest, readonly Moment[]>()
    const runAll = async (requests: readonly CellRequest[]) => {
      const left = [...requests]
      const work = async (runner: Runner) => {
        for (let request = left.shift(); request !== undefined; request = left.shift()) {
          let answer = await runner.run(request)
          // A process may have ended for another reason, such as too little memory: a driver's crash comes again.
          if (answer.findings.some(({ verdict }) => verdict === 'crashed')) answer = await runner.run(request)
          const { moments: kept, spent: _, ...result } = answer
          if (kept !== undefined) moments.set(request, kept)
          const { works: _works, ...asked } = request
          const cell: FaultCell = { ...asked, ...result }
          cells.push(cell)
          onCell?.(cell)
        }
      }
      await Promise.all(runners.map(work))
    }
    try {
      const without = (transport: FaultCell['transport']) =>
        rows.map((row): CellRequest => ({ row, transport, moment: { index: 0, what: 'no fault' } }))
      const healthy = without('loopback')
      await runAll([...healthy, ...without('vfio-user').filter(({ row }) => names.includes(row))])
      const sick = new Set(cells.filter(({ outcome }) => outcome !== 'done').map(({ row }) => row))
      await runAll(
        healthy
          .filter(({ row }) => !sick.has(row))
          .flatMap((request) => planRow(request.row, moments.get(request) ?? [], options)),
      )
      return new FaultReport(this.driver.name, this.definition.identity.name, rows, cells, [...sick])
    } finally {
      for (const runner of runners) runner.end()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** What runs nothing finds nothing: it is not to look like a driver that is well. */
function checkOptions({ rows, faults, moments = 1 }: FaultRunOptions, jobs: number, blockedMs: number): void {
  const unknown = faults?.find((fault) => !faultNames.includes(fault))
  if (unknown !== undefined)
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `There is no fault ${unknown}; there are ${faultNames.join(', ')}.`,
    )
  if (rows?.length === 0 || faults?.length === 0)
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'Without a row and a fault there is nothing to run.')
  for (const [name, value, least] of [
    ['moments', moments, 1],
    ['jobs', jobs, 1],
    ['blockedMs', blockedMs, 1],
  ] as const)
    if (!(value >= least))
      throw accelError('ERR_ACCEL_OUT_OF_RANGE', `${name} is ${value}; wanted is ${least} or more.`)
}

/**
 * Defines how a driver is tried against the faults of its model. The module that does so exports what it gets.
 *
 * ```ts
 * export const adderFaults = faultMatrix(adder, adderModel, {
 *   module: import.meta.url,
 *   operations: { add: async (dev) => (await dev.call('add', { a: 2, b: 3 })).sum === 5 },
 * })
 * ```
 */
export function faultMatrix<C extends CommandDefinitions, Model extends object>(
  driver: AccelDriver<Uapi<C>>,
  model: ModelDefinition<Model>,
  options: FaultMatrixOptions<Uapi<C>, Model>,
): FaultMatrix {
  return new FaultMatrix({ driver, definition: model, options } as unknown as AnyMatrix)
}
