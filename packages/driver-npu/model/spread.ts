import { memory } from './room.js'
import {
  ADD,
  assemble,
  BR_IF,
  type Code,
  END,
  F32X4_CONVERT_I32X4_S,
  get,
  I16X8_EXTEND_LOW_I8X16_S,
  I16X8_EXTEND_LOW_I8X16_U,
  I32X4_EXTEND_LOW_I16X8_S,
  I32X4_SPLAT,
  I32X4_SUB,
  i32,
  instantiate,
  LESS,
  LOOP,
  load,
  load32Zero,
  load64Zero,
  MUL,
  NOT_EQUAL,
  SUB,
  set,
  shuffle,
  store,
  tee,
} from './wasm.js'

const VECTOR_BYTES = 16
const ZERO = 5

/** Bytes that were widened to 16 bits, less the parameter `ZERO`, as `float32`. */
const toFloats = [
  ...I32X4_EXTEND_LOW_I16X8_S,
  ...[...get(ZERO), ...I32X4_SPLAT, ...I32X4_SUB],
  ...F32X4_CONVERT_I32X4_S,
]
/** Two vectors on the stack to every other number of them, and every other byte of one. */
const EVEN_WORDS = shuffle(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
const EVEN_BYTES = shuffle(0, 2, 4, 6, ...new Array<number>(12).fill(31))

/** Loads four numbers, every first or every second one from the address that `from` puts on the stack. */
type Source = { readonly sizeBytes: number; readonly loads: readonly ((from: number[]) => number[])[] }
const bytesAs = (extend: readonly number[]): Source => ({
  sizeBytes: 1,
  loads: [
    (from) => [...from, ...load32Zero(0), ...extend, ...toFloats],
    (from) => [...from, ...load64Zero(0), ...from, ...load64Zero(0), ...EVEN_BYTES, ...extend, ...toFloats],
  ],
})
const sources = {
  float32: {
    sizeBytes: 4,
    loads: [
      (from) => [...from, ...load(0)],
      (from) => [...from, ...load(0), ...from, ...load(VECTOR_BYTES), ...EVEN_WORDS],
    ],
  },
  uint8: bytesAs(I16X8_EXTEND_LOW_I8X16_U),
  int8: bytesAs(I16X8_EXTEND_LOW_I8X16_S),
} satisfies Readonly<Record<string, Source>>
export type SourceType = keyof typeof sources

/** Copies `ROWS` rows, of `COUNT_BYTES` at their destination each, 16 or more: vectors, of which the last one ends with the row. */
function copy({ sizeBytes, loads }: Source, stride: number): Code {
  // Parameters: addresses, rows, bytes of a row at its destination, from row to row of the source, and the zero point; from row to row of the destination.
  const [FROM, TO, ROWS, COUNT_BYTES, FROM_ROW, , TO_ROW] = [0, 1, 2, 3, 4, ZERO, 6]
  const [AT, INTO, LAST] = [7, 8, 9]
  const step = (local: number, by: readonly number[]) => [...get(local), ...by, ...ADD, ...set(local)]
  const move = [...get(INTO), ...loads[stride - 1](get(AT)), ...store(0)]
  const body = [
    ...LOOP, // for each row
    ...[...get(FROM), ...set(AT), ...get(TO), ...set(INTO)],
    ...[...get(TO), ...get(COUNT_BYTES), ...ADD, ...i32(VECTOR_BYTES), ...SUB, ...set(LAST)],
    ...LOOP, // for each vector
    ...[...move, ...step(AT, i32(4 * sizeBytes * stride)), ...step(INTO, i32(VECTOR_BYTES))],
    ...[...get(INTO), ...get(LAST), ...LESS, ...BR_IF, ...END],
    // The last one: its place in the source is as many elements away from the row's begin as that of its destination.
    ...[...get(LAST), ...set(INTO)],
    ...[...get(LAST), ...get(TO), ...SUB, ...i32(2), 0x76, ...i32(sizeBytes * stride), ...MUL],
    ...[...get(FROM), ...ADD, ...set(AT)],
    ...move,
    ...[...step(FROM, get(FROM_ROW)), ...step(TO, get(TO_ROW))],
    ...[...get(ROWS), ...i32(1), ...SUB, ...tee(ROWS), ...i32(0), ...NOT_EQUAL, ...BR_IF, ...END],
  ]
  return { parameters: 7, i32s: 3, v128s: 0, body }
}

type Copy = (
  from: number,
  to: number,
  rows: number,
  countBytes: number,
  fromRow: number,
  zero: number,
  toRow: number,
) => void

const STRIDES = [1, 2] as const
const nameOf = (type: SourceType, stride: number) => `${type}/${stride}`
const functions = instantiate<Record<string, Copy>>(
  assemble(
    Object.fromEntries(
      (Object.keys(sources) as SourceType[]).flatMap((type) =>
        STRIDES.map((stride) => [nameOf(type, stride), copy(sources[type], stride)]),
      ),
    ),
  ),
  memory,
)

/** The least elements of a row that are copied as vectors. */
export const LEAST_COUNT = 4

/** What copies rows of such elements, `stride` apart, as `float32`; undefined where there is none. Elements of 8 bits are taken less their zero point. */
export const spreadOf = (type: SourceType, stride: number): Copy | undefined =>
  functions[nameOf(type, stride)]
