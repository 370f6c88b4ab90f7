import type { ChannelTable, Output, Quantised } from './arithmetic.js'
import { bytes, floats, memory, ROOM, SUMS_AT, VALUES_AT, words } from './room.js'
import {
  ADD,
  assemble,
  BR_IF,
  type Code,
  END,
  F32X4_CONVERT_I32X4_S,
  F32X4_MAX,
  F32X4_MIN,
  F32X4_MUL,
  F32X4_NEAREST,
  get,
  I8X16_NARROW_I16X8_S,
  I8X16_NARROW_I16X8_U,
  I16X8_NARROW_I32X4_S,
  I32X4_ADD,
  I32X4_SPLAT,
  I32X4_TRUNC_SAT_F32X4_S,
  i32,
  instantiate,
  LESS,
  LOOP,
  load,
  set,
  store32,
  tee,
  ZEROS,
} from './wasm.js'

const VECTOR_BYTES = 16

/** Where `values` have bias, multiplier and limits: four of the same, or a bias and a multiplier for each sum. In words. */
const AT = { bias: 0, multiplier: 4, low: 8, high: 12, biases: 16, multipliers: 16 + ROOM.sums }
/** Results, in bytes from the room's begin. */
const RESULTS_AT = VALUES_AT + 4 * (AT.multipliers + ROOM.sums)

/**
 * Requantisation (docs/devices/npu.md, 8.2) of sums, four at a time: to `int32` first where they are `float32`. Limiting before the zero point is added
 * is the same, and a product that is infinite is limited then.
 */
function requantisation(toInteger: readonly number[], narrow: readonly number[]): Code {
  // Parameters: addresses of sums, of their end, and of results; of bias and multiplier, and the step between vectors of these; the zero point.
  const [SUMS, SUMS_END, RESULTS, BIAS, MULTIPLIER, STEP, ZERO] = [0, 1, 2, 3, 4, 5, 6]
  const advance = (local: number, by: readonly number[]) => [...get(local), ...by, ...ADD, ...set(local)]
  const constant = (at: number) => [...i32(VALUES_AT + 4 * at), ...load(0)]
  const body = [
    ...LOOP,
    ...get(RESULTS),
    ...[...get(SUMS), ...load(0), ...toInteger, ...get(BIAS), ...load(0), ...I32X4_ADD],
    ...[...F32X4_CONVERT_I32X4_S, ...get(MULTIPLIER), ...load(0), ...F32X4_MUL],
    ...[...constant(AT.low), ...F32X4_MAX, ...constant(AT.high), ...F32X4_MIN],
    ...[...F32X4_NEAREST, ...I32X4_TRUNC_SAT_F32X4_S, ...get(ZERO), ...I32X4_SPLAT, ...I32X4_ADD],
    ...[...ZEROS, ...I16X8_NARROW_I32X4_S, ...ZEROS, ...narrow, ...store32(0)],
    ...[...advance(BIAS, get(STEP)), ...advance(MULTIPLIER, get(STEP)), ...advance(RESULTS, i32(4))],
    ...[
      ...get(SUMS),
      ...i32(VECTOR_BYTES),
      ...ADD,
      ...tee(SUMS),
      ...get(SUMS_END),
      ...LESS,
      ...BR_IF,
      ...END,
    ],
  ]
  return { parameters: 7, i32s: 0, v128s: 0, body }
}

type Requantise = (
  sums: number,
  end: number,
  results: number,
  bias: number,
  multiplier: number,
  step: number,
  zero: number,
) => void
const functions = instantiate<Record<'uint8' | 'int8' | 'uint8 of float32' | 'int8 of float32', Requantise>>(
  assemble({
    uint8: requantisation([], I8X16_NARROW_I16X8_U),
    int8: requantisation([], I8X16_NARROW_I16X8_S),
    'uint8 of float32': requantisation(I32X4_TRUNC_SAT_F32X4_S, I8X16_NARROW_I16X8_U),
    'int8 of float32': requantisation(I32X4_TRUNC_SAT_F32X4_S, I8X16_NARROW_I16X8_S),
  }),
  memory,
)

/**
 * Takes `count` sums of the room from element `at` on to `y`. All are of one channel, or the next is of the channel `channelStep` on. Sums that are
 * `float32` are whole numbers.
 */
export function requantiseSums(
  at: number,
  kind: 'int32' | 'float32',
  y: Quantised,
  to: number,
  count: number,
  { bias, multiplier }: ChannelTable,
  channel: number,
  channelStep: 0 | 1,
  { min, max, zero }: Output,
): void {
  const [biasAt, multiplierAt] = channelStep === 0 ? [AT.bias, AT.multiplier] : [AT.biases, AT.multipliers]
  if (channelStep === 0) {
    words.values.fill(bias[channel], biasAt, biasAt + 4)
    floats.values.fill(multiplier[channel], multiplierAt, multiplierAt + 4)
  } else {
    words.values.set(bias.subarray(channel, channel + count), biasAt)
    floats.values.set(multiplier.subarray(channel, channel + count), multiplierAt)
  }
  floats.values.fill(min - zero, AT.low, AT.low + 4)
  floats.values.fill(max - zero, AT.high, AT.high + 4)
  const type: 'int8' | 'uint8' = y instanceof Int8Array ? 'int8' : 'uint8'
  functions[kind === 'int32' ? type : (`${type} of float32` as const)](
    SUMS_AT + 4 * at,
    SUMS_AT + 4 * (at + count),
    RESULTS_AT,
    VALUES_AT + 4 * biasAt,
    VALUES_AT + 4 * multiplierAt,
    channelStep * VECTOR_BYTES,
    zero,
  )
  y.set(bytes.subarray(RESULTS_AT, RESULTS_AT + count), to)
}
