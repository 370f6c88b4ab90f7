import { memory } from './room.js'
import {
  ADD,
  assemble,
  BR_IF,
  type Code,
  END,
  F32X4_ADD,
  F32X4_MAX,
  F32X4_MIN,
  F32X4_MUL,
  floats4,
  get,
  i32,
  instantiate,
  LOOP,
  load,
  load32,
  loadSplat32,
  MUL,
  NOT_EQUAL,
  SUB,
  set,
  store,
  tee,
} from './wasm.js'

const VECTOR_BYTES = 16
/** Channels of output, and vectors of results side by side, of a tile whose sums stay in registers. */
const TILES = [
  [1, 1],
  [1, 2],
  [1, 4],
  [4, 1],
  [4, 2],
] as const
export const TILE_ROWS = 4

/** What is done with the elements of taps besides multiplying and adding up, and what there is of none. */
const folds = {
  sum: { none: 0, op: F32X4_ADD },
  min: { none: Number.POSITIVE_INFINITY, op: F32X4_MIN },
  max: { none: Number.NEGATIVE_INFINITY, op: F32X4_MAX },
}
export type Fold = keyof typeof folds
export const noneOf = (fold: Fold): number => folds[fold].none

/**
 * A tile goes over all places of `rows` channels. A tap is the offset of its elements in bytes, then a weight for each channel; with a fold, of one channel,
 * the offset alone.
 */
function kernel(rows: number, vectors: number, fold?: Fold): Code {
  // Parameters: addresses of taps, of the end of taps, of elements and of sums; tiles in a row and rows; bytes from row to row of elements, of sums, and from channel to channel of sums.
  const [TAPS, TAPS_END, IMAGE, OUT, TILES, HEIGHT, IMAGE_ROW, OUT_ROW, CHANNEL] = [0, 1, 2, 3, 4, 5, 6, 7, 8]
  const [TAP, X, LEFT, FROM] = [9, 10, 11, 12]
  const OUTS = 13
  const i32s = 4 + rows
  const [SPLAT, FACTORS, SUMS] = [9 + i32s, 10 + i32s, 10 + i32s + vectors]
  const each = <T>(count: number, code: (at: number) => T[]) =>
    Array.from({ length: count }, (_, i) => code(i)).flat()
  const eachSum = (code: (row: number, vector: number, sum: number) => number[]) =>
    each(rows, (row) => each(vectors, (vector) => code(row, vector, SUMS + row * vectors + vector)))
  const entryBytes = fold === undefined ? 4 + 4 * rows : 4
  const none = floats4(fold === undefined ? 0 : folds[fold].none)
  const advance = (local: number, by: readonly number[]) => [...get(local), ...by, ...ADD, ...set(local)]
  const again = (local: number) => [...get(local), ...i32(1), ...SUB, ...tee(local), ...BR_IF, ...END]
  const body = [
    ...LOOP, // for each row of the output
    ...[...get(IMAGE), ...set(X), ...get(TILES), ...set(LEFT)],
    ...each(rows, (row) => [...get(OUT), ...get(CHANNEL), ...i32(row), ...MUL, ...ADD, ...set(OUTS + row)]),
    ...LOOP, // for each tile
    ...eachSum((_row, _vector, sum) => [...none, ...set(sum)]),
    ...[...get(TAPS), ...set(TAP)],
    ...LOOP, // for each tap
    ...[...get(X), ...get(TAP), ...load32(0), ...ADD, ...set(FROM)],
    ...each(vectors, (vector) => [...get(FROM), ...load(VECTOR_BYTES * vector), ...set(FACTORS + vector)]),
    ...eachSum((row, vector, sum) => {
      if (fold !== undefined) return [...get(FACTORS + vector), ...get(sum), ...folds[fold].op, ...set(sum)]
      return [
        ...(vector === 0 ? [...get(TAP), ...loadSplat32(4 + 4 * row), ...tee(SPLAT)] : get(SPLAT)),
        ...[...get(FACTORS + vector), ...F32X4_MUL, ...get(sum), ...F32X4_ADD, ...set(sum)],
      ]
    }),
    ...[
      ...get(TAP),
      ...i32(entryBytes),
      ...ADD,
      ...tee(TAP),
      ...get(TAPS_END),
      ...NOT_EQUAL,
      ...BR_IF,
      ...END,
    ],
    ...eachSum((row, vector, sum) => [...get(OUTS + row), ...get(sum), ...store(VECTOR_BYTES * vector)]),
    ...each(rows, (row) => advance(OUTS + row, i32(VECTOR_BYTES * vectors))),
    ...advance(X, i32(VECTOR_BYTES * vectors)),
    ...again(LEFT),
    ...advance(IMAGE, get(IMAGE_ROW)),
    ...advance(OUT, get(OUT_ROW)),
    ...again(HEIGHT),
  ]
  return { parameters: 9, i32s, v128s: 1 + vectors + rows * vectors, body }
}

type Kernel = (
  taps: number,
  tapsEnd: number,
  image: number,
  out: number,
  tiles: number,
  height: number,
  imageRow: number,
  outRow: number,
  channel: number,
) => void

const nameOf = (rows: number, vectors: number, fold?: Fold) => `${fold ?? rows}x${vectors}`
const functions = instantiate<Record<string, Kernel>>(
  assemble(
    Object.fromEntries([
      ...TILES.map(([rows, vectors]) => [nameOf(rows, vectors), kernel(rows, vectors)]),
      ...(Object.keys(folds) as Fold[]).flatMap((fold) =>
        TILES.filter(([rows]) => rows === 1).map(([, vectors]) => [
          nameOf(1, vectors, fold),
          kernel(1, vectors, fold),
        ]),
      ),
    ]),
  ),
  memory,
)
/** The kernel of a tile of so many channels and vectors. */
export const tileOf = (rows: number, vectors: number, fold?: Fold): Kernel =>
  functions[nameOf(rows, vectors, fold)]
