import { floats, SUMS_AT } from '../room.js'
import { type Combination, combineFloats } from '../stages.js'
import { Stage } from './functions.js'
import { type Chunk, chunk, gatherNumbers, scatterNumbers, storeNumbers } from './numbers.js'
import type { Elements, TensorParams } from './params.js'
import { isRun, type Side } from './side.js'
import { kernels } from './stages.js'

/** Where arguments of stages come from (7.6). */
const Source = { RESULT: 0, C: 3, ALPHA: 4, BETA: 5, INDEX: 8 } as const

/** Functions of two numbers that are there as vectors. */
const combinations: Readonly<Record<number, Combination>> = {
  [Stage.ADD]: 'add',
  [Stage.SUB]: 'sub',
  [Stage.MUL]: 'mul',
  [Stage.DIV]: 'div',
  [Stage.MIN]: 'min',
  [Stage.MAX]: 'max',
}

/** The result combined with C, or with a constant: four of the same at element `at` of `values`. */
interface Combined {
  readonly op: Combination
  readonly at: number | 'c'
}

/** Where C is in `values`, after the constants: two for each of 8 stages. */
const C_AT = 64

/** Stages as such functions; undefined where one is another. */
function combinedOf(p: TensorParams): readonly Combined[] | undefined {
  const found: Combined[] = []
  for (const [s, { fn, x, y }] of p.stages.entries()) {
    const [alpha, beta] = [8 * s, 8 * s + 4]
    const op = combinations[fn]
    if (x !== Source.RESULT) return undefined
    if (fn === Stage.CLAMP) found.push({ op: 'max', at: alpha }, { op: 'min', at: beta })
    else if (op === undefined) return undefined
    else if (y === Source.C) found.push({ op, at: 'c' })
    else if (y === Source.ALPHA || y === Source.BETA)
      found.push({ op, at: y === Source.ALPHA ? alpha : beta })
    else return undefined
  }
  return found
}

/** Takes sums through the stages to D: those of one row of a block at a time, of the indices that the sides stand at. */
export class Finish {
  readonly #p: TensorParams
  #c: Elements | undefined
  #d: Elements | undefined
  readonly #batch: Side
  readonly #rows: Side
  readonly #lanes: Side
  /** Arguments by their code, for those of C and the indices, and `ALPHA` and `BETA` of each stage. */
  readonly #arguments = new Map<number, Chunk>()
  readonly #constants: readonly (readonly [Chunk, Chunk])[]
  readonly #work: Chunk
  readonly #combined: readonly Combined[] | undefined

  constructor(
    p: TensorParams,
    sides: { readonly batch: Side; readonly rows: Side; readonly lanes: Side },
    lanes: number,
  ) {
    this.#p = p
    this.#batch = sides.batch
    this.#rows = sides.rows
    this.#lanes = sides.lanes
    this.#combined = combinedOf(p)
    const room = () => chunk(p.compute, this.#combined === undefined ? lanes : 0)
    this.#work = room()
    this.#constants = p.stages.map(({ alpha, beta }) => [room().fill(alpha), room().fill(beta)])
    for (const code of p.stages.flatMap(({ x, y, z }) => [x, y, z])) {
      if (code === Source.C || code >= Source.INDEX) this.#arguments.set(code, room())
    }
  }

  /** Begins with operands. */
  start(c: Elements | undefined, d: Elements): void {
    this.#c = c
    this.#d = d
    const { stages } = this.#p
    for (let s = 0; s < stages.length; s++) {
      floats.values.fill(stages[s].alpha, 8 * s, 8 * s + 4)
      floats.values.fill(stages[s].beta, 8 * s + 4, 8 * s + 8)
    }
  }

  /** Lets go of the operands. */
  release(): void {
    this.#c = undefined
    this.#d = undefined
  }

  /** Finishes the block of sums that have `width` in a row. */
  block(width: number): void {
    const { sums } = floats
    const { length } = this.#lanes
    if (this.#combined === undefined) this.#enterIndices()
    else this.#combine(this.#combined, width)
    const { data, base } = this.#d!
    const run = isRun(this.#lanes.d, 0, length)
    const first = base + this.#batch.d[0]
    if (run && width === length && this.#combined !== undefined && this.#rowsFollow()) {
      // All rows in one go: a small block takes less time than the views of its rows.
      storeNumbers(sums, data, first + this.#rows.d[0] + this.#lanes.d[0], this.#rows.length * length)
      return
    }
    for (let row = 0; row < this.#rows.length; row++) {
      const own = sums.subarray(row * width, row * width + length)
      const result = this.#combined === undefined ? this.#stages(own, row) : own
      const to = first + this.#rows.d[row]
      if (run) storeNumbers(result, data, to + this.#lanes.d[0], length)
      else scatterNumbers(result, data, to, this.#lanes.d, length)
    }
  }

  /** Whether in D each row begins where the one before ends. */
  #rowsFollow(): boolean {
    const { d, length } = this.#rows
    for (let row = 1; row < length; row++) if (d[row] !== d[row - 1] + this.#lanes.length) return false
    return true
  }

  /** Changes the sums themselves. */
  #combine(combined: readonly Combined[], width: number): void {
    const { length } = this.#lanes
    const offsets = this.#lanes.c
    let same = true
    for (let at = 1; same && at < length; at++) same = offsets[at] === offsets[0]
    const count = width * (this.#rows.length - 1) + length
    for (const { op, at } of combined) {
      if (at === 'c') this.#combineWithC(op, width, same)
      else combineFloats(op, SUMS_AT, count, at, false)
    }
  }

  #combineWithC(op: Combination, width: number, same: boolean): void {
    const { length, c: offsets } = this.#lanes
    const { values } = floats
    const { data, base } = this.#c!
    const first = base + this.#batch.c[0]
    let loaded = Number.NaN
    for (let row = 0; row < this.#rows.length; row++) {
      const from = first + this.#rows.c[row]
      if (from !== loaded) {
        if (same) values.fill(Number(data[from + offsets[0]]), C_AT, C_AT + 4)
        else gatherNumbers(data, from, offsets, values.subarray(C_AT), length)
        loaded = from
      }
      combineFloats(op, SUMS_AT + 4 * row * width, length, C_AT, !same)
    }
  }

  #enterIndices(): void {
    const { length } = this.#lanes
    for (const [code, into] of this.#arguments) {
      if (code < Source.INDEX) continue
      for (let at = 0; at < length; at++) into[at] = this.#lanes.index(code - Source.INDEX, at) ?? 0
    }
  }

  #stages(result: Chunk, row: number): Chunk {
    const { stages, compute } = this.#p
    if (stages.length === 0) return result
    for (const [code, into] of this.#arguments) this.#load(code, into, row)
    for (let s = 0; s < stages.length; s++) {
      const { fn, x, y, z, alpha, beta } = stages[s]
      const of = (code: number) => {
        if (code === Source.RESULT) return result
        if (code === Source.ALPHA || code === Source.BETA) return this.#constants[s][code - Source.ALPHA]
        return this.#arguments.get(code)!
      }
      kernels(compute)[fn](this.#work, of(x), of(y), of(z), result.length, alpha, beta)
      result = this.#work.subarray(0, result.length)
    }
    return result
  }

  #load(code: number, into: Chunk, row: number): void {
    if (code >= Source.INDEX) {
      const r = code - Source.INDEX
      const index = this.#batch.index(r, 0) ?? this.#rows.index(r, row)
      if (index !== undefined) into.fill(index)
    } else if (this.#c !== undefined) {
      const from = this.#c.base + this.#batch.c[0] + this.#rows.c[row]
      gatherNumbers(this.#c.data, from, this.#lanes.c, into, this.#lanes.length)
    }
  }
}
