import { LANES_AT, memory, ROOM, SUMS_AT } from './room.js'
import {
  ADD,
  assemble,
  BR_IF,
  type Code,
  END,
  F32X4_ADD,
  F32X4_MUL,
  get,
  I32X4_ADD,
  I32X4_DOT_I16X8,
  i32,
  instantiate,
  LOOP,
  load,
  loadSplat32,
  MUL,
  NOT_EQUAL,
  SUB,
  set,
  store,
  tee,
} from './wasm.js'

/**
 * The matrix product under convolution, matmul and contraction, in WebAssembly SIMD: `sums[row, lane] += sum over k of rows[row, k] *
 * lanes[lane, k]`, of float32, or of pairs of 16-bit numbers with sums that wrap in 32 bits (docs/devices/npu.md, 8.1).
 *
 * Factors are packed in panels, k going slower than what is in a panel: `LANES` lanes, `ROWS` rows (the last panel of rows has as many as are
 * left). A tile of `ROWS` by `LANES` sums stays in registers while k goes on.
 */
export const LANES = 8
export const ROWS = 4

const VECTOR_BYTES = 16
const VECTORS = LANES / 4

/** The product of one panel of `rows` rows with panels of lanes. */
function kernel(rows: number, multiply: readonly number[], add: readonly number[]): Code {
  // Parameters: addresses of the two panels and of the sums, bytes between rows of sums, counts of k and of panels of lanes. Then locals.
  const [A, B, OUT, ROW_BYTES, K, PANELS, AT, A_END, OUTS] = [0, 1, 2, 3, 4, 5, 6, 7, 8]
  const i32s = 2 + rows
  const [SPLAT, FACTORS, SUMS] = [6 + i32s, 7 + i32s, 7 + i32s + VECTORS]
  const each = <T>(count: number, code: (at: number) => T[]) =>
    Array.from({ length: count }, (_, i) => code(i)).flat()
  const eachSum = (code: (row: number, vector: number, sum: number) => number[]) =>
    each(rows, (row) => each(VECTORS, (vector) => code(row, vector, SUMS + row * VECTORS + vector)))
  const body = [
    ...[...get(A), ...get(K), ...i32(4 * rows), ...MUL, ...ADD, ...set(A_END)],
    ...each(rows, (row) => [...get(OUT), ...get(ROW_BYTES), ...i32(row), ...MUL, ...ADD, ...set(OUTS + row)]),
    ...LOOP, // for each panel of lanes
    ...[...get(A), ...set(AT)],
    ...eachSum((row, vector, sum) => [...get(OUTS + row), ...load(VECTOR_BYTES * vector), ...set(sum)]),
    ...LOOP, // for each k
    ...each(VECTORS, (vector) => [...get(B), ...load(VECTOR_BYTES * vector), ...set(FACTORS + vector)]),
    ...eachSum((row, vector, sum) => [
      ...(vector === 0 ? [...get(AT), ...loadSplat32(4 * row), ...tee(SPLAT)] : get(SPLAT)),
      ...[...get(FACTORS + vector), ...multiply, ...get(sum), ...add, ...set(sum)],
    ]),
    ...[...get(B), ...i32(VECTOR_BYTES * VECTORS), ...ADD, ...set(B)],
    ...[...get(AT), ...i32(4 * rows), ...ADD, ...tee(AT), ...get(A_END), ...NOT_EQUAL, ...BR_IF, ...END],
    ...eachSum((row, vector, sum) => [...get(OUTS + row), ...get(sum), ...store(VECTOR_BYTES * vector)]),
    ...each(rows, (row) => [...get(OUTS + row), ...i32(VECTOR_BYTES * VECTORS), ...ADD, ...set(OUTS + row)]),
    ...[...get(PANELS), ...i32(1), ...SUB, ...tee(PANELS), ...BR_IF, ...END],
  ]
  return { parameters: 6, i32s, v128s: 1 + VECTORS + rows * VECTORS, body }
}

type Kernel = (a: number, b: number, out: number, rowBytes: number, k: number, panels: number) => void

// Lanes are gone over for each panel of rows, so a second-level cache should hold them; rows only once.
/** The most k at once: a panel of each side then fits into a first-level cache. */
const MOST_K = 1024
const MOST_ROWS = 512

const kinds = { float: [F32X4_MUL, F32X4_ADD], integer: [I32X4_DOT_I16X8, I32X4_ADD] }
const codes = Object.entries(kinds).flatMap(([kind, [product, sum]]) =>
  Array.from({ length: ROWS }, (_, at) => [kind + at, kernel(at + 1, product, sum)] as const),
)
const functions = instantiate<Record<string, Kernel>>(assemble(Object.fromEntries(codes)), memory)
const kernelsOf = (kind: keyof typeof kinds) => Array.from({ length: ROWS }, (_, at) => functions[kind + at])

/** How much of a product is made at once. */
export interface Blocks {
  readonly rows: number
  /** A multiple of `LANES`. */
  readonly lanes: number
  /** In words of 32 bits: numbers of float32, or pairs. */
  readonly k: number
}

/** Lanes of whole panels. */
export const panelled = (lanes: number) => upTo(lanes, LANES)
const upTo = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple

/** Blocks of a product, of about one size each: their factors and sums have room. */
export function blocksOf(rows: number, lanes: number, k: number): Blocks {
  const even = (size: number, most: number) => Math.ceil(size / Math.ceil(size / most))
  const ks = even(k, MOST_K)
  const some = Math.min(
    rows,
    upTo(even(rows, Math.min(MOST_ROWS, Math.floor(ROOM.rows / ks / ROWS) * ROWS)), ROWS),
  )
  const most = Math.floor(Math.min(ROOM.lanes / ks, ROOM.sums / some) / LANES) * LANES
  return { rows: some, lanes: upTo(even(lanes, most), LANES), k: ks }
}

/** Of numbers of float32, in `floats`. */
export const multiplyFloats = multiplier(kernelsOf('float'))
/** Of 16-bit numbers, in `halves`: two, of one panel and following k, are a word. Sums are of 32 bits. */
export const multiplyHalves = multiplier(kernelsOf('integer'))

/** Multiplies what is packed, and adds it to `sums`, where a row has as many as the panels of lanes. `k` is in words. */
function multiplier(kernels: readonly Kernel[]): (rows: number, lanes: number, k: number) => void {
  return (rows, lanes, k) => {
    const panels = Math.ceil(lanes / LANES)
    const rowBytes = 4 * LANES * panels
    for (let row = 0; row < rows; row += ROWS) {
      const tile = kernels[Math.min(ROWS, rows - row) - 1]
      tile(4 * row * k, LANES_AT, SUMS_AT + row * rowBytes, rowBytes, k, panels)
    }
  }
}
