import type { Test } from 'tap'
import type { FaultMatrix } from './matrix.js'
import { cellName, type FaultReport } from './report.js'
import type { FaultRunOptions } from './types.js'

/** Runs a matrix with an assertion for each cell, and the table as a comment. Answers the report. */
export async function faultContract(
  t: Test,
  matrix: FaultMatrix,
  options: FaultRunOptions = {},
): Promise<FaultReport> {
  const report = await matrix.run({
    ...options,
    onCell(cell) {
      t.same(
        cell.findings.map(({ verdict, message }) => `${verdict}: ${message}`),
        [],
        cellName(cell),
      )
      options.onCell?.(cell)
    },
  })
  t.comment(`${report}`)
  return report
}
