import { readFileSync } from 'node:fs'
import { accelError } from '@uaccel/uapi'

/** What clients may hold of a device. */
export interface Quotas {
  /** Buffer objects, fences and fence events of one open. 1024 unless told. */
  readonly openObjects: number
  /** Their memory, in bytes. 1 GiB unless told. */
  readonly openBytes: number
  /** The same of all opens of a device together, and what jobs of closed opens still use. 16,384 unless told; see {@link processAccount}. */
  readonly nodeObjects: number
  /** 4 GiB unless told. */
  readonly nodeBytes: number
  /** Jobs of one open that have not ended; a further one is refused. 64 unless told. */
  readonly openJobs: number
  /**
   * Calls of one open that wait at the same time, for events, attributes, fences or buffers; a further one is refused. 128 unless told:
   * half of the requests that a connection may have under way, so that there is always room for others.
   */
  readonly openWaits: number
}

export const DEFAULT_QUOTAS: Quotas = {
  openObjects: 1024,
  openBytes: 2 ** 30,
  nodeObjects: 16_384,
  nodeBytes: 2 ** 32,
  openJobs: 64,
  openWaits: 128,
}

/** What one holder uses of its quota. All of it counts for its parent, too. */
export class Account {
  readonly #holder: string
  readonly #maxObjects: number
  readonly #maxBytes: number
  readonly #parent: Account | undefined
  readonly #advice: string
  #objects = 0
  #bytes = 0

  /** @param advice What to do where it is used up. */
  constructor(
    holder: string,
    maxObjects: number,
    maxBytes: number,
    parent?: Account,
    advice = 'destroy some, or raise the quota',
  ) {
    this.#advice = advice
    this.#holder = holder
    this.#maxObjects = maxObjects
    this.#maxBytes = maxBytes
    this.#parent = parent
  }

  get objects(): number {
    return this.#objects
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Counts one object. Answers what takes it off again, once. `ERR_ACCEL_NO_MEMORY` naming limit and use: then nothing was counted. */
  take(what: string, sizeBytes = 0): () => void {
    this.#check(what, 'objects', 1, this.#objects, this.#maxObjects)
    this.#check(what, 'bytes', sizeBytes, this.#bytes, this.#maxBytes)
    const giveBack = this.#parent?.take(what, sizeBytes)
    this.#objects++
    this.#bytes += sizeBytes
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      this.#objects--
      this.#bytes -= sizeBytes
      giveBack?.()
    }
  }

  #check(what: string, unit: string, wanted: number, used: number, limit: number): void {
    if (wanted <= limit - used) return
    throw accelError(
      'ERR_ACCEL_NO_MEMORY',
      `${what} wants ${wanted} more ${unit}, and ${this.#holder} uses ${used} of the ${limit} that it may: ${this.#advice}`,
      { details: { unit, wanted, used, limit } },
    )
  }
}

let ofProcess: Account | undefined

/**
 * What all nodes of this process may hold. Each object takes a descriptor, two where it was exported as a dma-buf, and a mapping. A third of
 * either is theirs, so that no client can take from the process what its sockets and its own memory need.
 */
export function processAccount(): Account {
  if (ofProcess === undefined) {
    // "unlimited" is no number, and no limit.
    const files = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Infinity
    const mappings = readFileSync('/proc/sys/vm/max_map_count', 'utf8')
    const maxObjects = Math.floor(Math.min(Number(files), Number(mappings)) / 3)
    const advice = 'destroy some, or raise RLIMIT_NOFILE and vm.max_map_count'
    ofProcess = new Account(`process ${process.pid}`, maxObjects, Infinity, undefined, advice)
  }
  return ofProcess
}
