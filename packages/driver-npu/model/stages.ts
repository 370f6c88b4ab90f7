import { memory, VALUES_AT } from './room.js'
import {
  ADD,
  assemble,
  BR_IF,
  type Code,
  END,
  F32X4_ADD,
  F32X4_DIV,
  F32X4_MAX,
  F32X4_MIN,
  F32X4_MUL,
  F32X4_SUB,
  get,
  i32,
  instantiate,
  LOOP,
  load,
  NOT_EQUAL,
  set,
  store,
  tee,
} from './wasm.js'

const VECTOR_BYTES = 16

/** x = x op y, in place, up to the address `END_AT`. `STEP` between vectors of y is 0 where one goes with all. */
function combine(op: readonly number[]): Code {
  const [X, END_AT, Y, STEP] = [0, 1, 2, 3]
  const body = [
    ...LOOP,
    ...[...get(X), ...get(X), ...load(0), ...get(Y), ...load(0), ...op, ...store(0)],
    ...[...get(Y), ...get(STEP), ...ADD, ...set(Y)],
    ...[...get(X), ...i32(VECTOR_BYTES), ...ADD, ...tee(X), ...get(END_AT), ...NOT_EQUAL, ...BR_IF, ...END],
  ]
  return { parameters: 4, i32s: 0, v128s: 0, body }
}

const codes = {
  add: combine(F32X4_ADD),
  sub: combine(F32X4_SUB),
  mul: combine(F32X4_MUL),
  div: combine(F32X4_DIV),
  min: combine(F32X4_MIN),
  max: combine(F32X4_MAX),
}
export type Combination = keyof typeof codes
const functions = instantiate<Record<Combination, (x: number, end: number, y: number, step: number) => void>>(
  assemble(codes),
  memory,
)

/**
 * Combines `count` numbers of `float32` at the address `at` of the room with those of `values` from element `first` on, or each with the four
 * from there on. Up to three more are changed.
 */
export function combineFloats(
  op: Combination,
  at: number,
  count: number,
  first: number,
  each: boolean,
): void {
  const end = at + VECTOR_BYTES * Math.ceil(count / 4)
  functions[op](at, end, VALUES_AT + 4 * first, each ? VECTOR_BYTES : 0)
}
