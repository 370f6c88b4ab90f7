import { memoryOf } from './wasm.js'

/**
 * The memory in which products are made, of one operation at a time, in words of 32 bits: two sides of factors, and sums. What an operation takes
 * of it does not grow with its tensors.
 */
export const ROOM = { rows: 1 << 19, lanes: 1 << 17, sums: 1 << 17, values: 3 << 17 }

/** Addresses in bytes. A tile may go past the end of sums. */
const SLACK = 64
export const LANES_AT = 4 * ROOM.rows
export const SUMS_AT = LANES_AT + 4 * ROOM.lanes
export const VALUES_AT = SUMS_AT + 4 * (ROOM.sums + SLACK)

export const memory = memoryOf(VALUES_AT + 4 * (ROOM.values + SLACK))
const { buffer } = memory

/** Room of `float32`. `values` are arguments of stages. */
export const floats = {
  rows: new Float32Array(buffer, 0, ROOM.rows),
  lanes: new Float32Array(buffer, LANES_AT, ROOM.lanes),
  sums: new Float32Array(buffer, SUMS_AT, ROOM.sums),
  values: new Float32Array(buffer, VALUES_AT, ROOM.values),
}
/** The same room, of integers. */
export const words = {
  lanes: new Int32Array(buffer, LANES_AT, ROOM.lanes),
  sums: new Int32Array(buffer, SUMS_AT, ROOM.sums),
  values: new Int32Array(buffer, VALUES_AT, ROOM.values),
}
export const halves = {
  rows: new Int16Array(buffer, 0, 2 * ROOM.rows),
  lanes: new Int16Array(buffer, LANES_AT, 2 * ROOM.lanes),
}
export const bytes = new Uint8Array(buffer)
