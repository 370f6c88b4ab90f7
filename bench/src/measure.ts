/** Of a figure. Of most less is better; of `k/s`, thousands of operations a second, more is; `x` is a ratio of two figures. */
export type Unit = 'ns' | 'us' | 'k/s' | 'x'

/** The same work in TypeScript and in C. Each side runs that many operations and answers one figure for each row. */
export interface Contest {
  readonly rows: readonly string[]
  /** Of all rows, or of each. */
  readonly unit: Unit | readonly Unit[]
  /** Operations of one run: enough that reading the clock twice does not count. */
  readonly operations: number
  typescript(operations: number): readonly number[] | Promise<readonly number[]>
  c(operations: number): Promise<readonly number[]>
}

/** Measures a contest, while everything that it needs is up. */
export type Measure = (contest: Contest) => Promise<void>

/** One run of the benchmarks. */
export interface Run {
  readonly effort: Effort
  /** The socket of an NVMe controller to be measured in place of ours. */
  readonly nvmeSocket?: string | undefined
  /** Adds rows that were measured elsewhere. */
  add(rows: readonly Row[]): void
  /** Says what was not measured, and why, in a sentence. */
  leaveOut(sentence: string): void
}

/** Sets contests up, has them measured, and takes everything down. */
export type Benchmark = (measure: Measure, run: Run) => Promise<void>

/** One line of the result. */
export interface Row {
  readonly name: string
  readonly unit: string
  /** Medians over the rounds. */
  readonly typescript: number
  readonly c: number
  /** The medians' ratio, TypeScript / C. Above 1 C is faster, but for `k/s`. */
  readonly ratio: number
  /** The least and the greatest ratio that one round had. */
  readonly spread: { readonly min: number; readonly max: number }
  readonly rounds: number
}

/** How much is run. */
export interface Effort {
  readonly rounds: number
  readonly warmUps: number
  /** What the operations of a run are divided by. */
  readonly divisor: number
}

export const fullEffort: Effort = { rounds: 9, warmUps: 3, divisor: 1 }
export const quickEffort: Effort = { rounds: 3, warmUps: 1, divisor: 100 }

/** Runs both sides in turns, so that whatever else the machine does meets both. */
export async function measureContest(contest: Contest, effort: Effort): Promise<Row[]> {
  const operations = Math.max(1, Math.round(contest.operations / effort.divisor))
  const typescript: (readonly number[])[] = []
  const c: (readonly number[])[] = []
  for (let round = -effort.warmUps; round < effort.rounds; round++) {
    const first = round % 2 === 0 ? 'typescript' : 'c'
    const figures = { [first]: await contest[first](operations) }
    const second = first === 'c' ? 'typescript' : 'c'
    figures[second] = await contest[second](operations)
    if (round < 0) continue
    typescript.push(figures.typescript!)
    c.push(figures.c!)
  }
  return contest.rows.map((name, at) => {
    const ratios = typescript.map((figures, round) => figures[at] / c[round][at])
    const medians = { typescript: median(typescript.map((f) => f[at])), c: median(c.map((f) => f[at])) }
    return {
      name,
      unit: typeof contest.unit === 'string' ? contest.unit : contest.unit[at]!,
      ...medians,
      ratio: medians.typescript / medians.c,
      spread: { min: Math.min(...ratios), max: Math.max(...ratios) },
      rounds: effort.rounds,
    }
  })
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Nanoseconds per operation of a loop. */
export function timed(operations: number, loop: (operations: number) => void): [number] {
  const start = performance.now()
  loop(operations)
  return [((performance.now() - start) * 1e6) / operations]
}

/** Ends the run where a loop did not do what it should: its figure would mean nothing. */
export function expect(found: number, wanted: number, what: string): void {
  if (found !== wanted) throw new Error(`${what}: found ${found}, wanted ${wanted}`)
}
