import type { Device, IrqVectors } from '@uaccel/core'
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
  #spin: NodeJS.Immediate | undefined
  readonly #spinOnce = () => {
    this.#spin = undefined
    if (!this.#listeners.up()) return
    try {
      if (this.#queues.poll() > 0) this.#listeners.served()
    } catch (error) {
      this.#listeners.broke(error)
      return
    }
    if (this.#queues.busy) this.spin()
  }

  constructor(irqs: IrqVectors | undefined, queues: NvmeQueues, listeners: InterruptListeners) {
    this.#irqs = irqs
    this.mode = irqs?.type ?? 'poll'
    this.#queues = queues
    this.#listeners = listeners
  }

  /** The vector of a queue pair. */
  vectorOf(queue: number): number | undefined {
    return this.#irqs === undefined ? undefined : queue % this.#irqs.count
  }

  /** Takes completions from now on. */
  start(): void {
    const irqs = this.#irqs
    if (irqs === undefined) return
    // INTx goes away when the completions are taken: there is nothing to acknowledge (7.5).
    for (let vector = 0; vector < irqs.count; vector++) irqs.handle(vector, () => this.#serve(vector))
  }

  /** Where nothing interrupts: polls, once in each turn of the event loop, until all has ended. */
  spin(): void {
    if (this.#irqs === undefined) this.#spin ??= setImmediate(this.#spinOnce)
  }

  stop(): void {
    clearImmediate(this.#spin)
  }

  #serve(vector: number): void {
    let count = 0
    try {
      for (const queue of this.#queues.all) if (this.vectorOf(queue.id) === vector) count += queue.poll()
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
