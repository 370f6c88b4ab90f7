/** Indices that are worked on at once: their numbers stay in the cache. */
export const CHUNK = 4096

/**
 * Goes through all indices of some dimensions, the last one fastest, in blocks of at most `CHUNK`. Each of its vectors of strides has for a block a base, and
 * for each index of the block an offset from there.
 */
export class Walk {
  /** Indices in a whole block. */
  readonly size: number
  /** For each vector: offsets within a block. Those of a block that is not whole are the first ones. */
  readonly offsets: readonly Int32Array[]
  /** For each vector: whether offset i is i, or 0. */
  readonly dense: readonly boolean[]
  readonly constant: readonly boolean[]
  /** For each vector, of the block that `next` went to. */
  readonly bases: Float64Array
  readonly #dims: readonly number[]
  readonly #strides: readonly (readonly number[])[]
  readonly #place: number[]
  /** The dimension that a block has a part of, and how much of it. */
  readonly #split: number
  readonly #part: number
  /** Indices of a block for each place in the split dimension. */
  readonly #rest: number
  #begun = false

  /** With `rows`, no block goes beyond the last dimension, which stays apart from the others. */
  constructor(dims: readonly number[], vectors: readonly (readonly number[])[], rows = false) {
    const [merged, strides] = coalesced(dims, vectors, rows)
    this.#dims = merged
    this.#strides = strides
    let split = merged.length - 1
    let rest = 1
    while (!rows && split > 0 && rest * merged[split] <= CHUNK) rest *= merged[split--]
    this.#split = split
    this.#rest = rest
    this.#part = Math.min(merged[split], Math.max(1, Math.floor(CHUNK / rest)))
    this.size = this.#part * rest
    this.#place = merged.map(() => 0)
    this.bases = new Float64Array(vectors.length)
    const box = [this.#part, ...merged.slice(split + 1)]
    this.offsets = strides.map((vector) => offsetsOf(box, vector.slice(split)))
    this.dense = this.offsets.map((offsets) => offsets.every((offset, i) => offset === i))
    this.constant = this.offsets.map((offsets) => offsets.every((offset) => offset === 0))
  }

  /** Goes back before the first block. */
  rewind(): void {
    this.#begun = false
    this.#place.fill(0)
  }

  /** Goes to the next block, the first one at first. Answers how many indices it has: 0 after the last one. */
  next(): number {
    const place = this.#place
    if (!this.#begun) this.#begun = true
    else {
      let r = this.#split
      place[r] += this.#part
      while (r >= 0 && place[r] >= this.#dims[r]) {
        place[r--] = 0
        if (r >= 0) place[r]++
      }
      if (r < 0) return 0
    }
    for (let v = 0; v < this.bases.length; v++) {
      const strides = this.#strides[v]
      let base = 0
      for (let r = 0; r <= this.#split; r++) base += place[r] * strides[r]
      this.bases[v] = base
    }
    return Math.min(this.#part, this.#dims[this.#split] - place[this.#split]) * this.#rest
  }

  /** True at a block where the split dimension begins: with `rows`, the last one. */
  get atRow(): boolean {
    return this.#place[this.#split] === 0
  }
}

/** The same indices in the same order, with as few dimensions as the strides allow; at least one. With `rows` the last one stays. */
export function coalesced(
  dims: readonly number[],
  vectors: readonly (readonly number[])[],
  rows = false,
): [number[], number[][]] {
  const merged: number[] = []
  const strides: number[][] = vectors.map(() => [])
  for (let r = dims.length - 1; r >= 0; r--) {
    const kept = rows && r === dims.length - 1
    if (dims[r] === 1 && !kept) continue
    const joins =
      merged.length > (rows ? 1 : 0) && vectors.every((vector, v) => vector[r] === strides[v][0] * merged[0])
    if (joins) merged[0] *= dims[r]
    else {
      merged.unshift(dims[r])
      for (const [v, vector] of vectors.entries()) strides[v].unshift(vector[r])
    }
  }
  if (merged.length === 0) {
    merged.push(1)
    for (const vector of strides) vector.push(0)
  }
  return [merged, strides]
}

function offsetsOf(dims: readonly number[], strides: readonly number[]): Int32Array {
  let offsets = new Int32Array(1)
  for (let r = dims.length - 1; r >= 0; r--) {
    const { length } = offsets
    const next = new Int32Array(dims[r] * length)
    for (let i = 0; i < dims[r]; i++) {
      for (let k = 0; k < length; k++) next[i * length + k] = i * strides[r] + offsets[k]
    }
    offsets = next
  }
  return offsets
}
