import type { ResultType } from '../src/driver.js'
import * as reference from './reference.js'

/** Random numbers from a seed, so that a case is small to shrink and to print. */
export class Dice {
  #state: number
  constructor(start: number) {
    this.#state = start
  }
  below(limit: number): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return (this.#state >>> 0) % limit
  }
  within([min, max]: readonly [number, number]): number {
    return min + this.below(max - min + 1)
  }
  /** Values of the whole range, or near the zero point: sums that fit the output are where rounding shows. */
  tensor(kind: ResultType, size: number, zero = 0): Int8Array | Uint8Array | Int32Array {
    const [low, high] = kind === 'int32' ? ([-100000, 100000] as const) : reference.range[kind]
    const spread = [2, 12, high - low][this.below(3)]
    const limits = [Math.max(low, zero - spread), Math.min(high, zero + spread)] as const
    const values = Array.from({ length: size }, () => this.within(limits))
    return kind === 'int32'
      ? Int32Array.from(values)
      : kind === 'int8'
        ? Int8Array.from(values)
        : Uint8Array.from(values)
  }
  zero(kind: ResultType): number {
    return kind === 'int32' ? 0 : this.within(reference.range[kind])
  }
  /** The whole range, or a part of it as a folded Relu leaves. */
  clamp(kind: ResultType): readonly [number, number] {
    const [low, high] = reference.range[kind]
    if (this.below(2) === 0) return [low, high]
    const ends = kind === 'int32' ? [-5000, 5000] : [this.within([low, high]), this.within([low, high])]
    return [Math.min(...ends), Math.max(...ends)]
  }
  channels(count: number, kind: ResultType, of: readonly number[]) {
    const reach = [20, 3000][this.below(2)]
    const bias = Array.from({ length: count }, () => this.within([-reach, reach]))
    // One bias near the end of int32: sums wrap.
    if (this.below(8) === 0) bias[0] = 2147483647
    return { bias, multiplier: bias.map((_, i) => (kind === 'int32' ? 0 : of[i % of.length])) }
  }
}
