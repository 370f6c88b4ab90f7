import type { ModelContext } from '@uaccel/model'

const PAGE = 4096n
const fence = new Int32Array(new SharedArrayBuffer(4))

/**
 * Doorbells in memory (base specification 1.4, 5.7 and 7.13): in one page the driver writes what it would write to the registers, in the
 * other the controller says from which value on it wants the register written. Each doorbell is where its register is, from the first on.
 */
export class ShadowDoorbells {
  readonly #context: ModelContext
  readonly #doorbells: bigint
  readonly #events: bigint
  readonly #strideBytes: number

  constructor(context: ModelContext, doorbells: bigint, events: bigint, strideBytes: number) {
    this.#context = context
    this.#doorbells = doorbells
    this.#events = events
    this.#strideBytes = strideBytes
  }

  /** True where both are pages. */
  static areValid(doorbells: bigint, events: bigint): boolean {
    return doorbells % PAGE === 0n && events % PAGE === 0n && doorbells !== 0n && events !== 0n
  }

  /** Doorbell `index`, as the driver wrote it. */
  read(index: number): number {
    const bytes = new Uint8Array(4)
    this.#context.dma.read(this.#at(this.#doorbells, index), bytes)
    return new DataView(bytes.buffer).getUint32(0, true)
  }

  /** Wants the register written when doorbell `index` passes `value`. */
  want(index: number, value: number): void {
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setUint32(0, value, true)
    this.#context.dma.write(this.#at(this.#events, index), bytes)
    // The driver does the reverse: of the two stores and the loads after them, one side sees the other's.
    Atomics.add(fence, 0, 1)
  }

  #at(page: bigint, index: number): bigint {
    return page + BigInt(index * this.#strideBytes)
  }
}
