/** The shortest interval that a utilisation is told of: over a shorter one, the time of asking would count. */
const INTERVAL_NS = 100_000_000n

interface Sample {
  readonly busyNs: bigint
  readonly atNs: bigint
}

/** How busy engines were lately, from how long they were busy in all. */
export class Utilisation {
  /** The start of the interval that is told, and the sample that the next one starts at. */
  readonly #samples = new Map<string, { from: Sample; next: Sample }>()

  /** In thousandths, over the latest interval that has been long enough; `undefined` where there was none, or the count went back. */
  of(engine: string, busyNs: bigint, instances: number, atNs: bigint): number | undefined {
    const sample = { busyNs, atNs }
    const known = this.#samples.get(engine)
    if (!known) {
      this.#samples.set(engine, { from: sample, next: sample })
      return undefined
    }
    if (atNs - known.next.atNs >= INTERVAL_NS) {
      known.from = known.next
      known.next = sample
    }
    const tookNs = (atNs - known.from.atNs) * BigInt(instances)
    const workedNs = busyNs - known.from.busyNs
    if (atNs - known.from.atNs < INTERVAL_NS || workedNs < 0n) return undefined
    return Math.min(1000, Number((workedNs * 1000n) / tookNs))
  }
}
