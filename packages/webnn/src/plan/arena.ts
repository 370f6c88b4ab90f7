/** Where values begin: the device's operands are at multiples of 64 bytes, which is a line of the cache, too. */
export const ALIGNMENT = 64
export const aligned = (sizeBytes: number): number => Math.ceil(sizeBytes / ALIGNMENT) * ALIGNMENT

/** What wants memory from one step to another, both included. */
export interface Lifetime {
  readonly sizeBytes: number
  readonly first: number
  readonly last: number
}

/** Steps of a block, as a power of two. */
const BLOCK_SHIFT = 4

interface Placed extends Lifetime {
  readonly offset: number
}

const overlap = (a: Lifetime, b: Lifetime) => a.first <= b.last && b.first <= a.last

/** The lowest offset of the narrowest gap that takes so many bytes beside `busy`, which is sorted by offset; behind all where there is none. */
function gap(busy: readonly Placed[], sizeBytes: number): number {
  let [best, narrowest, end] = [-1, Number.POSITIVE_INFINITY, 0]
  for (const { offset, sizeBytes: taken } of busy) {
    const room = offset - end
    if (room >= sizeBytes && room < narrowest) [best, narrowest] = [end, room]
    end = Math.max(end, offset + aligned(taken))
  }
  return best < 0 ? end : best
}

/** One memory in which values lie for as long as they live. The same lifetimes have the same offsets, always. */
export class Arena {
  /** What lives in each block of steps: who looks for room looks at few of thousands. */
  readonly #blocks: Placed[][] = []
  #sizeBytes = 0

  /** All that is placed, with its alignment. */
  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Finds room beside what lives at the same time, and answers its offset. */
  place(lifetime: Lifetime): number {
    const blocks: Placed[][] = []
    for (let at = lifetime.first >> BLOCK_SHIFT; at <= lifetime.last >> BLOCK_SHIFT; at++) {
      this.#blocks[at] ??= []
      blocks.push(this.#blocks[at])
    }
    const beside = new Set(blocks.flatMap((block) => block.filter((each) => overlap(each, lifetime))))
    const offset = gap(
      [...beside].sort((a, b) => a.offset - b.offset),
      aligned(lifetime.sizeBytes),
    )
    const placed = { ...lifetime, offset }
    for (const block of blocks) block.push(placed)
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + aligned(lifetime.sizeBytes))
    return offset
  }
}

/**
 * Places values that are all known, the largest first: what is small finds gaps between what is large (Pisarchyk and Lee, "Efficient Memory
 * Management for Deep Neural Net Inference", 2020, greedy by size). Answers an offset for each.
 */
export function pack(lifetimes: readonly Lifetime[]): { readonly arena: Arena; readonly offsets: number[] } {
  const order = lifetimes.map((_, at) => at)
  order.sort(
    (a, b) => lifetimes[b].sizeBytes - lifetimes[a].sizeBytes || lifetimes[a].first - lifetimes[b].first,
  )
  const arena = new Arena()
  const offsets = new Array<number>(lifetimes.length)
  for (const at of order) offsets[at] = arena.place(lifetimes[at])
  return { arena, offsets }
}

/** What lives at once, at the most: no arena can be smaller. */
export function peakBytes(lifetimes: readonly Lifetime[]): number {
  const changes = new Map<number, number>()
  const change = (step: number, bytes: number) => changes.set(step, (changes.get(step) ?? 0) + bytes)
  for (const { sizeBytes, first, last } of lifetimes) {
    change(first, aligned(sizeBytes))
    change(last + 1, -aligned(sizeBytes))
  }
  let [alive, peak] = [0, 0]
  for (const [, bytes] of [...changes].sort(([a], [b]) => a - b)) {
    alive += bytes
    peak = Math.max(peak, alive)
  }
  return peak
}
