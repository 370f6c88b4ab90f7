import type { Device, IrqCounts, IrqVectors } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import type { NpuBar } from './queue-control.js'

/** Bits of INTX_ENABLE: one for each vector. */
const ALL_VECTORS = 0x1ffff

/** How the device says that work is done. `auto` takes the first of the others that there is. */
export type IrqMode = 'auto' | 'msix' | 'intx' | 'poll'

/** What interrupts are about. */
export interface InterruptHandlers {
  /** A bit of EVENTS was set; it is cleared already. */
  events(): void
  /** A queue may have completions. */
  completions(queue: number): void
}

/** Which vector is whose, and what happens when it fires: vector 0 is that of events, the others are those of queues. */
export class NpuInterrupts {
  readonly mode: Exclude<IrqMode, 'auto'>
  readonly #bar: NpuBar
  readonly #irqs: IrqVectors | undefined
  readonly #queues: number
  #handlers: InterruptHandlers | undefined

  constructor(bar: NpuBar, irqs: IrqVectors | undefined, queues: number) {
    this.#bar = bar
    this.#irqs = irqs
    this.#queues = queues
    this.mode = irqs === undefined ? 'poll' : irqs.type === 'intx' ? 'intx' : 'msix'
  }

  /** Calls these from now on. */
  listen(handlers: InterruptHandlers): void {
    const irqs = this.#irqs
    this.#handlers = handlers
    if (irqs === undefined) return
    if (irqs.type === 'intx') {
      irqs.handle(0, () => {
        const fired = this.#bar.INTX_STATUS.read()
        this.#bar.INTX_ACK.write(fired)
        for (let vector = 0; fired >>> vector !== 0; vector++) {
          if (((fired >>> vector) & 1) !== 0) this.#fired(vector)
        }
      })
      return
    }
    this.#handleVector(0)
  }

  /** Has the controller raise interrupts. */
  enable(): void {
    if (this.#irqs === undefined) return
    this.#bar.EVENTS.clear({ fatal: true, queue: true })
    this.#bar.EVENTS_ENABLE.write({ fatal: true, queue: true })
    if (this.mode === 'intx') this.#bar.INTX_ENABLE.write(ALL_VECTORS)
  }

  disable(): void {
    this.#bar.EVENTS_ENABLE.write({})
    this.#bar.INTX_ENABLE.write(0)
  }

  /** The vector of a queue, which others may share; undefined where there are no interrupts. */
  vectorOf(queue: number): number | undefined {
    if (this.#irqs === undefined) return undefined
    // With fewer vectors than queues, queues share; INTx has a bit for each.
    const vectors = this.mode === 'intx' ? this.#queues + 1 : this.#irqs.count
    return 1 + (queue % (vectors - 1))
  }

  /** The vector of a queue that shares it with none. */
  ownOf(queue: number): { readonly irqs: IrqVectors; readonly vector: number } | undefined {
    return this.#ownsVector ? { irqs: this.#irqs!, vector: this.vectorOf(queue)! } : undefined
  }

  /** What the vector of a queue has seen, where it is that queue's alone. */
  countsOf(queue: number): IrqCounts | undefined {
    return this.#ownsVector ? this.#irqs!.counts(this.vectorOf(queue)!) : undefined
  }

  /** Has the queue's vector fire in this thread, where it has one. */
  handleQueue(queue: number): void {
    if (this.mode === 'msix') this.#handleVector(this.vectorOf(queue)!)
  }

  /** Whether each queue has a vector of its own. */
  get #ownsVector(): boolean {
    return this.mode === 'msix' && this.#irqs!.count > this.#queues
  }

  #handleVector(vector: number): void {
    this.#irqs!.handle(vector, () => this.#fired(vector))
  }

  #fired(vector: number): void {
    if (vector === 0) {
      const events = this.#bar.EVENTS.read()
      this.#bar.EVENTS.clear(events)
      this.#bar.QUEUE_EVENTS.read()
      this.#handlers!.events()
      return
    }
    for (let queue = 0; queue < this.#queues; queue++) {
      if (this.vectorOf(queue) === vector) this.#handlers!.completions(queue)
    }
  }
}

/** Takes the interrupts that `mode` asks for; undefined where there are to be none. */
export async function allocVectors(dev: Device, mode: IrqMode): Promise<IrqVectors | undefined> {
  if (mode === 'poll') return undefined
  if (mode !== 'intx') {
    try {
      return await dev.allocIrqVectors({ min: 2, max: 17, types: ['msix'] })
    } catch (error) {
      if (mode === 'msix' || !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
    }
  }
  try {
    return await dev.allocIrqVectors({ min: 1, max: 1, types: ['intx'] })
  } catch (error) {
    if (mode === 'intx' || !isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
    return undefined
  }
}
