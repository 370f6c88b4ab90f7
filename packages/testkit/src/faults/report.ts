import { type FaultCell, type FaultName, faultNames, verdicts } from './types.js'

/** What a matrix found. */
export class FaultReport {
  readonly driver: string
  readonly model: string
  readonly rows: readonly string[]
  readonly cells: readonly FaultCell[]
  /** Rows that failed without a fault, and were not tried with one. */
  readonly untried: readonly string[]

  constructor(
    driver: string,
    model: string,
    rows: readonly string[],
    cells: readonly FaultCell[],
    untried: readonly string[],
  ) {
    this.driver = driver
    this.model = model
    this.rows = rows
    this.cells = cells
    this.untried = untried
  }

  /** Cells in which something was wrong. */
  get failures(): readonly FaultCell[] {
    return this.cells.filter(({ findings }) => findings.length > 0)
  }

  get ok(): boolean {
    return this.failures.length === 0 && this.untried.length === 0
  }

  /** The matrix for people: rows by faults, how many cells were well, and the verdicts of those that were not, which follow in words. */
  toString(): string {
    const columns = [undefined, ...faultNames].filter((fault) =>
      this.cells.some((cell) => cell.fault === fault),
    )
    const lines = [
      ['', ...columns.map((fault) => fault ?? 'no fault')],
      ...this.rows.map((row) => [row, ...columns.map((fault) => this.#summary(row, fault))]),
    ]
    const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)))
    const table = lines.map((line) =>
      line
        .map((word, i) => word.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    const { failures, cells, untried } = this
    const missed = cells.filter(({ fault, struck }) => fault !== undefined && !struck).length
    return [
      `${this.driver} on ${this.model}: ${cells.length} cells, ${failures.length} with findings${missed === 0 ? '' : `; in ${missed} the work ended before its moment`}`,
      '',
      ...table,
      ...(untried.length === 0
        ? []
        : ['', `Not tried, since they fail without a fault: ${untried.join(', ')}`]),
      ...failures.flatMap((cell) => ['', ...describeFailure(cell)]),
      '',
    ].join('\n')
  }

  toJSON(): object {
    const { driver, model, rows, cells, untried, ok } = this
    return { driver, model, ok, rows, untried, cells }
  }

  #summary(row: string, fault: FaultName | undefined): string {
    const here = this.cells.filter((cell) => cell.row === row && cell.fault === fault)
    if (here.length === 0) return '-'
    const bad = here.filter(({ findings }) => findings.length > 0)
    if (bad.length === 0) return `${here.length} ok`
    const found = new Set(bad.flatMap(({ findings }) => findings.map(({ verdict }) => verdict)))
    return `${bad.length}/${here.length} ${verdicts.filter((verdict) => found.has(verdict)).join(', ')}`
  }
}

/** A cell in words: what was under way, which fault, when. */
export function cellName({ row, fault, transport, moment }: FaultCell): string {
  if (fault === undefined) return `${row} without a fault, ${transport}`
  const when = moment.index === 0 ? 'before it' : `at moment ${moment.index}, ${moment.what}`
  return `${row} under ${fault}, ${transport}, ${when}`
}

function describeFailure(cell: FaultCell): string[] {
  const findings = cell.findings.map(
    ({ verdict, message }) => `  ${verdict}: ${message.replaceAll('\n', '\n    ')}`,
  )
  return [`${cellName(cell)}: ended with ${cell.outcome}`, ...findings]
}
