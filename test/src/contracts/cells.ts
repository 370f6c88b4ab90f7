import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { GuestRun } from '../guest.js'
import { type Column, columns, impossible, type Suite, suites } from './matrix.js'

/** What became of one suite on one way to a device. */
export interface Cell {
  readonly suite: Suite
  readonly column: Column
  readonly passed: boolean
}

/** Beside the compiled tests: made by each run, and in nobody's way. */
const folder = fileURLToPath(new URL('../cells/', import.meta.url))
const mark = '# cell '

/**
 * Runs a suite on one way to a device and keeps how it ended, for the table. `also` are columns that this way is an instance of as
 * well.
 */
export async function runCell(
  t: Test,
  suite: Suite,
  column: Column,
  work: (t: Test) => void | Promise<void>,
  also: readonly Column[] = [],
): Promise<void> {
  const result = await t.test(`${suites[suite]}: ${columns[column]}`, async (t) => {
    await work(t)
  })
  for (const each of [column, ...also]) {
    const why = impossible[suite]?.[each]
    if (why !== undefined) throw new Error(`${suite} on ${each} is said to be impossible: ${why}`)
    const cell: Cell = { suite, column: each, passed: result?.ok === true }
    // The files of the host are read-only in the lab: there the host reads it from the output.
    if (process.env.UACCEL_LAB) t.comment(`cell ${JSON.stringify(cell)}`)
    else keep(cell)
  }
}

/** On the host: keeps the cells that a guest printed, and answers them. */
export function keepPrinted(output: string): Cell[] {
  const cells = output
    .split('\n')
    .filter((line) => line.startsWith(mark))
    .map((line) => JSON.parse(line.slice(mark.length)) as Cell)
  for (const cell of cells) keep(cell)
  return cells
}

/** On the host: keeps the cells of a guest, all of which have to have passed, and wants some of each column. */
export function keepGuest(t: Test, { exitCode, stdout, stderr }: GuestRun, wanted: readonly Column[]): void {
  const cells = keepPrinted(stdout)
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  for (const { suite, column, passed } of cells) t.ok(passed, `${suite} on ${column}`)
  t.strictSame(
    wanted.filter((column) => !cells.some((cell) => cell.column === column)),
    [],
    'ways that were not run',
  )
}

/** What the runs since the last build kept. */
export function keptCells(): Cell[] {
  mkdirSync(folder, { recursive: true })
  return readdirSync(folder).map((name) => JSON.parse(readFileSync(`${folder}${name}`, 'utf8')) as Cell)
}

function keep(cell: Cell): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}${cell.suite}--${cell.column}.json`, `${JSON.stringify(cell)}\n`)
}
