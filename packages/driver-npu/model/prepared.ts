import { Address, addressOf, type Descriptor } from './descriptor.js'
import type { Execution, Memory } from './memory.js'

/** Executions that are kept: a power of two. */
const KEPT = 256

interface Kept {
  readonly words: Uint32Array
  readonly block: Int32Array
  readonly at: bigint
  readonly epoch: number
  readonly execution: Execution
}

/**
 * Executions by their descriptor and its parameter block. The same job is often run again and again: where each word is what it was, so is
 * what the checks found, and the execution. The block itself is read each time.
 */
export class Prepared {
  readonly #kept: (Kept | undefined)[] = new Array(KEPT).fill(undefined)

  /** The execution that was made of the same descriptor, but for its CID and flags, and the same block, with the same permissions. */
  find({ words }: Descriptor, memory: Memory): Execution | undefined {
    const kept = this.#kept[slotOf(words)]
    if (kept === undefined || kept.epoch !== memory.epoch || (words[0] & 0xff) !== (kept.words[0] & 0xff))
      return undefined
    for (let i = 1; i < TAG; i++) if (words[i] !== kept.words[i]) return undefined
    const { block } = kept
    const found = wordsAt(kept.at, block.length, memory)
    if (found === undefined) return undefined
    for (let i = 0; i < block.length; i++) if (found[i] !== block[i]) return undefined
    memory.count('read', block.byteLength)
    return kept.execution
  }

  /** Keeps an execution whose checks were passed. */
  keep(descriptor: Descriptor, block: Uint8Array, execution: Execution, { epoch }: Memory): void {
    const { words } = descriptor
    this.#kept[slotOf(words)] = {
      words,
      block: new Int32Array(block.slice().buffer),
      at: addressOf(descriptor, Address.P),
      epoch,
      execution,
    }
  }

  clear(): void {
    this.#kept.fill(undefined)
  }
}

/** TAG is what a driver likes (7.1). */
const TAG = 15

/** By the block's address, which is a multiple of 16 and for most drivers of more. */
const slotOf = (words: Uint32Array) => {
  const low = words[2 * Address.P]
  return ((low >>> 6) ^ (low >>> 14)) & (KEPT - 1)
}

/** The words in memory, where the device has them all at one place; what it cannot read is found out elsewhere. */
function wordsAt(at: bigint, count: number, memory: Memory): Int32Array | undefined {
  try {
    const bytes = memory.view(at, 4 * count, 'read')
    if (bytes === undefined || bytes.byteOffset % 4 !== 0) return undefined
    return new Int32Array(bytes.buffer, bytes.byteOffset, count)
  } catch {
    return undefined
  }
}
