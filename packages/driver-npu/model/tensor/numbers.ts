import { type Numbers, Type } from './params.js'

/** Bytes as elements of a type; 64 bits are two of 32. */
export function numbers(bytes: Uint8Array, type: number): Numbers {
  const { buffer, byteOffset, length } = bytes
  switch (type) {
    case Type.uint8:
      return bytes
    case Type.int8:
      return new Int8Array(buffer, byteOffset, length)
    case Type.float32:
      return new Float32Array(buffer, byteOffset, length / 4)
    case Type.uint32:
      return new Uint32Array(buffer, byteOffset, length / 4)
    default:
      return new Int32Array(buffer, byteOffset, length / 4)
  }
}

/** Numbers in which an operation computes; `Type.none` moves words of 32 bits. */
export type Chunk = Float32Array | Int32Array | Uint32Array

export function chunk(compute: number, length: number): Chunk {
  if (compute === Type.float32) return new Float32Array(length)
  return compute === Type.uint32 ? new Uint32Array(length) : new Int32Array(length)
}

const limitsOf: Readonly<Record<number, readonly [number, number]>> = {
  [Type.uint8]: [0, 0xff],
  [Type.int8]: [-0x80, 0x7f],
  [Type.int32]: [-(2 ** 31), 2 ** 31 - 1],
  [Type.uint32]: [0, 2 ** 32 - 1],
}

/** Range of a type of integers. */
export const rangeOf = (type: number): readonly [number, number] => limitsOf[type]

const typeOf = (of: Numbers) =>
  of instanceof Uint8Array
    ? Type.uint8
    : of instanceof Int8Array
      ? Type.int8
      : of instanceof Int32Array
        ? Type.int32
        : Type.uint32

/** Whether numbers of one kind get saturated on their way to the other (8.4): other conversions are those of typed arrays. */
const saturates = (from: Numbers, to: Numbers) =>
  from instanceof Float32Array && !(to instanceof Float32Array)

/** to[at + i] = from[base + offsets[i]], converted (8.4). */
export function gatherNumbers(
  from: Numbers,
  base: number,
  offsets: Int32Array,
  to: Numbers,
  count: number,
): void {
  if (!saturates(from, to)) for (let i = 0; i < count; i++) to[i] = from[base + offsets[i]]
  else {
    const [low, high] = rangeOf(typeOf(to))
    for (let i = 0; i < count; i++) to[i] = saturated(from[base + offsets[i]], low, high)
  }
}

/** to[base + offsets[i]] = from[i], converted (8.4). */
export function scatterNumbers(
  from: Numbers,
  to: Numbers,
  base: number,
  offsets: Int32Array,
  count: number,
): void {
  if (!saturates(from, to)) for (let i = 0; i < count; i++) to[base + offsets[i]] = from[i]
  else {
    const [low, high] = rangeOf(typeOf(to))
    for (let i = 0; i < count; i++) to[base + offsets[i]] = saturated(from[i], low, high)
  }
}

/** to[base + i] = from[i], converted (8.4). */
export function storeNumbers(from: Numbers, to: Numbers, base: number, count: number): void {
  if (from.constructor === to.constructor) to.set(from.subarray(0, count), base)
  else if (!saturates(from, to)) for (let i = 0; i < count; i++) to[base + i] = from[i]
  else {
    const [low, high] = rangeOf(typeOf(to))
    for (let i = 0; i < count; i++) to[base + i] = saturated(from[i], low, high)
  }
}

/** Cut towards 0 by the typed array that takes it; not a number is 0 there as well. */
const saturated = (value: number, low: number, high: number) =>
  value <= low ? low : value >= high ? high : value
