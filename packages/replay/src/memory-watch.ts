import { abi, Mapping, sys } from '@uaccel/sys'

/** A part of memory that is not as it was. */
export interface Change {
  readonly mapping: number
  readonly offset: number
  /** What is there now. Valid until the next look. */
  readonly bytes: Uint8Array
  /** Who is taken to have changed it. */
  readonly by: 'device' | 'driver' | 'either'
}

/** Memory is compared a page at a time, then by words. */
const PAGE_BYTES = abi.PAGE_SIZE_BYTES
const WORD_BYTES = 8
/** Unchanged bytes between two changes that are cheaper to repeat than to begin another record for. */
const GAP_BYTES = 32
/** Most bytes of one change, so that a reader needs no more than that at once. */
export const MAX_CHANGE_BYTES = 64 << 10

interface Watched {
  readonly mapping: Mapping
  readonly now: Uint8Array
  readonly before: Buffer
  /** A byte for each page: who was seen to write there. */
  readonly writers: Uint8Array
}

const DEVICE = 1
const DRIVER = 2

/** Sees what has changed in the memory that a device reaches, by a copy of it. */
export class MemoryWatch {
  readonly #watched = new Map<number, Watched>()
  readonly #maxBytes: number
  #bytes = 0

  /** @param maxBytes Of memory that is watched, in all: each look compares all of it. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Begins to watch memory, by a view of its file. False where that would be more than the limit. */
  add(id: number, fd: number, fdOffset: number, sizeBytes: number): boolean {
    if (this.#bytes + sizeBytes > this.#maxBytes) return false
    const { blockBytes } = sys.identify(fd)
    const mapping = Mapping.map({
      fd,
      offset: fdOffset,
      sizeBytes,
      prot: abi.PROT_READ,
      dontFork: true,
      // a file of huge pages can be mapped at no other address
      alignBytes: Number.isInteger(Math.log2(blockBytes)) ? Math.max(blockBytes, PAGE_BYTES) : PAGE_BYTES,
      label: `DMA mapping ${id}`,
    })
    this.#bytes += sizeBytes
    const now = mapping.window.u8
    const writers = new Uint8Array(Math.ceil(sizeBytes / PAGE_BYTES))
    this.#watched.set(id, { mapping, now, before: Buffer.alloc(sizeBytes), writers })
    return true
  }

  remove(id: number): void {
    const watched = this.#watched.get(id)
    if (watched === undefined) return
    this.#watched.delete(id)
    this.#bytes -= watched.before.length
    watched.mapping.revoke()
  }

  clear(): void {
    for (const id of [...this.#watched.keys()]) this.remove(id)
  }

  /**
   * Calls `found` for what has changed since the last look, which is the device's or the driver's by when that is. But what has changed before
   * the driver acts, in a page where nobody but the device ever wrote, such as a completion ring, is the device's; and where both did, it may be.
   */
  look(byDevice: boolean, found: (change: Change) => void): void {
    for (const [mapping, watched] of this.#watched) {
      const { now, before, writers } = watched
      for (let page = 0; page < before.length; page += PAGE_BYTES) {
        if (before.compare(now, page, page + PAGE_BYTES, page, page + PAGE_BYTES) === 0) continue
        const number = page / PAGE_BYTES
        const was = writers[number]!
        const by = byDevice || was === DEVICE ? 'device' : was === DRIVER || was === 0 ? 'driver' : 'either'
        if (by !== 'either') writers[number] = was | (by === 'device' ? DEVICE : DRIVER)
        for (let from = page, end = page + PAGE_BYTES; from < end; ) {
          const change = nextChange(now, before, from, end)
          if (change === undefined) break
          const [start, stop] = change
          const bytes = Buffer.from(now.subarray(start, stop))
          bytes.copy(before, start)
          found({ mapping, offset: start, bytes, by })
          from = stop
        }
      }
    }
  }
}

/** The first range of whole words that differ, with small gaps in it. */
function nextChange(
  now: Uint8Array,
  before: Uint8Array,
  from: number,
  end: number,
): [number, number] | undefined {
  const differs = (at: number) => {
    for (let i = at; i < at + WORD_BYTES; i++) if (now[i] !== before[i]) return true
    return false
  }
  let start = from
  while (start < end && !differs(start)) start += WORD_BYTES
  if (start >= end) return undefined
  let stop = start + WORD_BYTES
  for (let at = stop; at < end && at < stop + GAP_BYTES; at += WORD_BYTES)
    if (differs(at)) stop = at + WORD_BYTES
  return [start, stop]
}
