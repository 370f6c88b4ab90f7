import type { DmaRegion } from '@uaccel/memory'
import { PAGE_BYTES } from './command.js'

/** Bytes of a PRP entry (NVMe base 1.4, 4.3). */
const PRP_BYTES = 8
const ENTRIES_PER_PAGE = PAGE_BYTES / PRP_BYTES
/**
 * What one command moves at most: 65,536 blocks, all that a command can name (6.9), of 512 bytes. Larger blocks could make it longer, but
 * each command has memory for its list beforehand, 68 KiB for so much.
 */
export const MAX_TRANSFER_BYTES = 0x1_0000 * 512

/**
 * How many bytes the list of PRP entries of a transfer takes. A list of up to a page has a power of two, so that none crosses a page; a longer
 * one has whole pages, the last entry of each the address of the next (4.4).
 */
export function listBytes(maxTransferBytes: number): number {
  // PRP1 is a page of its own, however little of it is used.
  const entries = Math.ceil(maxTransferBytes / PAGE_BYTES)
  if (entries <= ENTRIES_PER_PAGE) return 2 ** Math.ceil(Math.log2(Math.max(8, entries) * PRP_BYTES))
  return Math.ceil((entries - 1) / (ENTRIES_PER_PAGE - 1)) * PAGE_BYTES
}

/** A list of PRP entries for each command of a queue. */
export class PrpLists {
  declare private readonly words: Int32Array
  declare private readonly listWords: number
  declare private readonly lows: Int32Array
  declare private readonly highs: Int32Array

  /** Divides `memory` among so many commands; without memory none has a list. It starts on a page, or is {@link listBytes} of at most a page each. */
  constructor(memory: Pick<DmaRegion, 'i32' | 'iova'> | undefined, commands: number) {
    this.words = memory?.i32 ?? new Int32Array(0)
    this.listWords = Math.floor(this.words.length / commands)
    this.lows = new Int32Array(commands)
    this.highs = new Int32Array(commands)
    for (let i = 0; i < commands && memory !== undefined; i++) {
      const at = memory.iova + BigInt(i * this.listWords * 4)
      this.lows[i] = Number(at & 0xffff_ffffn)
      this.highs[i] = Number(at >> 32n)
    }
  }

  /** Where the list of a command is: the lower half of its address. */
  low(command: number): number {
    return this.lows[command]
  }

  /** The upper half. */
  high(command: number): number {
    return this.highs[command]
  }

  /** Makes the list of a command name `count` pages in a row, from I/O address `low`, `high` on. */
  name(command: number, low: number, high: number, count: number): void {
    const { words } = this
    let at = command * this.listWords
    let pageLow = low
    let pageHigh = high
    let nextLow = this.lows[command]
    let nextHigh = this.highs[command]
    let left = count
    while (true) {
      // The last list page is full of pages; of any other the last entry is the way to the next.
      const here = left <= ENTRIES_PER_PAGE ? left : ENTRIES_PER_PAGE - 1
      for (const end = at + 2 * here; at < end; at += 2) {
        words[at] = pageLow
        words[at + 1] = pageHigh
        pageLow = (pageLow + PAGE_BYTES) | 0
        if (pageLow === 0) pageHigh = (pageHigh + 1) | 0
      }
      left -= here
      if (left === 0) return
      nextLow = (nextLow + PAGE_BYTES) | 0
      if (nextLow === 0) nextHigh = (nextHigh + 1) | 0
      words[at] = nextLow
      words[at + 1] = nextHigh
      at += 2 // the start of the next page, as the lists are in a row
    }
  }
}
