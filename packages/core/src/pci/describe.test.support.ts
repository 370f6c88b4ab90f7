/** Config spaces made for tests. */

/** Capabilities with these bytes after their headers, by id: each list in the order of its keys. */
export interface ChainOptions {
  readonly capabilities?: Readonly<Record<number, readonly number[]>>
  readonly extended?: Readonly<Record<number, readonly number[]>>
}

/** A PCI Express function's config space with these capabilities. */
export function chain({ capabilities = {}, extended = {} }: ChainOptions): Uint8Array {
  const bytes = new Uint8Array(4096)
  bytes.set([0x34, 0x12, 0xe8, 0x11, 0x06, 0x00, 0x10, 0x00])
  let pointer = 0x34
  let at = 0x40
  for (const [id, body] of Object.entries(capabilities)) {
    bytes[pointer] = at
    bytes.set([Number(id), 0, ...body], at)
    pointer = at + 1
    at += (2 + Math.max(body.length, 14) + 3) & ~3
  }
  at = 0x100
  const entries = Object.entries(extended)
  for (const [i, [id, body]] of entries.entries()) {
    const size = (4 + Math.max(body.length, 12) + 3) & ~3
    const next = i === entries.length - 1 ? 0 : at + size
    new DataView(bytes.buffer).setUint32(at, Number(id) | (1 << 16) | (next << 20), true)
    bytes.set(body, at + 4)
    at += size
  }
  return bytes
}

/** Types of PCI Express functions whose header is that of an endpoint or may be: bridges are left out. */
const types = [0, 1, 4, 5, 6, 9, 10]

/** A config space in which every capability that is decoded holds random bits; the same for the same seed. */
export function random(seed: number): Uint8Array {
  // mulberry32
  let state = seed
  const next = (below: number) => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) % below
  }
  const some = (count: number) => Array.from({ length: count }, () => next(256))
  const flags = [2 | (types[next(types.length)]! << 4), next(2)]
  const bytes = chain({
    capabilities: {
      1: some(6),
      5: [next(256) & 0x8f, next(2), ...some(20)],
      9: [0x10, ...some(13)],
      16: [...flags, ...some(56)],
      17: some(10),
      19: [6, ...some(3)],
    },
    extended: {
      1: some(0x44),
      3: some(8),
      11: [...some(2), 1, 1],
      13: some(8),
      14: some(4),
      15: some(4),
      16: some(0x3c),
      19: some(12),
      21: [...some(4), ...resizable(next(6), next(44)), ...some(4), ...resizable(next(6), next(44))],
      24: some(4),
      27: some(4),
      29: some(12),
      30: some(12),
      31: some(8),
      35: [...some(6), 0, 0],
      37: some(8),
      38: some(28),
    },
  })
  bytes.set(some(2), 4)
  bytes.set([next(256) | 0x10, next(256)], 6)
  bytes.set(some(2), 0x3e)
  return bytes
}

/** Control register of one of two resizable BARs. */
const resizable = (bar: number, size: number): number[] => [bar | (2 << 5), size, 0, 0]
