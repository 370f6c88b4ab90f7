import { type Device, type IrqVectors, Spin } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import type { NvmeQueues } from './queues.js'

/** How completions are learnt of. */
export type IrqMode = 'msix' | 'msi' | 'intx' | 'poll'

/** Who is told of what interrupts bring. */
export interface InterruptListeners {
  /** Whether the controller takes commands. */
  up(): boolean
  /** Completions were taken. */
  served(): void
  /** Something that only a reset helps against. */
  broke(error: unknown): void
}

/** How completions are noticed: by vectors, each of one queue pair or of several, or, where there is none, by polling while there is work. */
export class NvmeInterrupts {
  readonly mode: IrqMode
  readonly #irqs: IrqVectors | undefined
  readonly #queues: NvmeQueues
  readonly #listeners: InterruptListeners
  /** Whether each queue pair has a vector of its own. */
  readonly #own: boolean
  readonly #spin: Spin

  /** @param pairs Queue pairs that there may be. @param spinUs How long to look before an interrupt is waited for. */
  constructor(
    irqs: IrqVectors | undefined,
    pairs: number,
    spinUs: number,
    queues: NvmeQueues,
    listeners: InterruptListeners,
  ) {
    this.#spin = new Spin({
      forUs: irqs === undefined ? Infinity : spinUs,
      look: () => this.#look(),
      busy: () => this.#listeners.up() && this.#queues.busy,
    })
    this.#irqs = irqs
    this.#own = irqs !== undefined && irqs.type !== 'intx' && irqs.count >= pairs
    this.mode = irqs?.type ?? 'poll'
    this.#queues = queues
    this.#listeners = listeners
  }

  /** The vector of a queue pair. */
  vectorOf(queue: number): number | undefined {
    return this.#irqs === undefined ? undefined : queue % this.#irqs.count
  }

  /** The vector of a queue pair that shares it with none. */
  ownOf(queue: number): { readonly irqs: IrqVectors; readonly vector: number } | undefined {
    return this.#own ? { irqs: this.#irqs!, vector: queue } : undefined
  }

  /** Takes completions from now on. */
  start(): void {
    const irqs = this.#irqs
    if (irqs === undefined) return
    // INTx goes away when the completions are taken: there is nothing to acknowledge (7.5).
    for (let vector = 0; vector < irqs.count; vector++) irqs.handle(vector, () => this.#serve(vector))
  }

  /** After submissions: polls, once in each turn of the event loop, as long as is wished; where nothing interrupts until all has ended. */
  spin(): void {
    this.#spin.start()
  }

  stop(): void {
    this.#spin.stop()
  }

  #look(): number {
    if (!this.#listeners.up()) return 0
    try {
      const count = this.#queues.poll()
      if (count > 0) this.#listeners.served()
      return count
    } catch (error) {
      this.#listeners.broke(error)
      return 0
    }
  }

  #serve(vector: number): void {
    let count = 0
    try {
      for (const queue of this.#queues.all) if (this.vectorOf(queue.id) === vector) count += queue.poll()
      for (const lease of this.#queues.lent.values()) if (this.vectorOf(lease.id) === vector) lease.signal()
    } catch (error) {
      this.#listeners.broke(error)
    }
    if (count > 0) this.#listeners.served()
  }
}

/** A vector for each queue pair, or as many as there are. */
export async function allocVectors(
  dev: Device,
  mode: IrqMode | 'auto',
  pairs: number,
): Promise<IrqVectors | undefined> {
  if (mode === 'poll') return undefined
  try {
    return mode === 'auto'
      ? await dev.allocIrqVectors({ min: 1, max: pairs })
      : await dev.allocIrqVectors({ min: 1, max: mode === 'intx' ? 1 : pairs, types: [mode] })
  } catch (error) {
    if (mode !== 'auto' || !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
    return undefined
  }
}
