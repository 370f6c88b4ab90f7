import { type Bar, poll } from '@uaccel/core'
import type { DmaDomain, DmaRegion } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'
import { queueLayout } from './queue.js'
import type { NpuRegisters } from './registers.js'
import type { Window } from './store.js'

export type NpuBar = Bar<typeof NpuRegisters>

/** Limit for a queue to start or stop. */
const STATE_TIMEOUT_MS = 2000

/** What the thread that opened the NPU does for a queue: its registers and the memory of its rings. */
export class QueueControl {
  readonly index: number
  readonly entriesLog2: number
  /** Both rings and the status block, as `queueLayout` says. */
  readonly memory: DmaRegion
  readonly #bar: NpuBar['QUEUE'][number]
  #off = true
  /** What the windows are set to; absent where that is not known. */
  readonly #windows = new Map<number, Window | undefined>()

  /** @param separate Whether another thread is to use the rings. */
  constructor(index: number, bar: NpuBar, dma: DmaDomain, entriesLog2: number, separate: boolean) {
    this.index = index
    this.entriesLog2 = entriesLog2
    this.#bar = bar.QUEUE[index]
    const { sizeBytes } = queueLayout(entriesLog2)
    this.memory = dma.alloc(sizeBytes, { name: `rings of NPU queue ${index}`, separate })
  }

  /** True where the device touches nothing of the queue: it was not started, or stopped, or reset. */
  get off(): boolean {
    return this.#off
  }

  /** The controller was reset. */
  wasReset(): void {
    this.#off = true
    this.#windows.clear()
  }

  /** Clears the rings, programs the queue and starts it. `ERR_ACCEL_IO` with the device's cause where it refuses, `ERR_ACCEL_TIMEOUT`. */
  async start(vector: number | undefined, signal?: AbortSignal): Promise<void> {
    const { cq, status } = queueLayout(this.entriesLog2)
    this.memory.u8.fill(0)
    const bar = this.#bar
    const at = (offset: number) => this.memory.iova + BigInt(offset)
    const low = (offset: number) => Number(at(offset) & 0xffff_ffffn)
    const high = (offset: number) => Number(at(offset) >> 32n)
    this.#off = false
    bar.SQ_BASE_LO.write(low(0))
    bar.SQ_BASE_HI.write(high(0))
    bar.CQ_BASE_LO.write(low(cq))
    bar.CQ_BASE_HI.write(high(cq))
    bar.STATUS_BASE_LO.write(low(status))
    bar.STATUS_BASE_HI.write(high(status))
    bar.QSIZE.write({ entriesLog2: this.entriesLog2 })
    bar.QVECTOR.write(vector === undefined ? {} : { vector, enable: true })
    bar.QCTL.write({ enable: true })
    const { state, cause } = await poll(
      () => bar.QSTS.get(),
      (found) => found.state === 'running' || found.state === 'error',
      { timeoutMs: STATE_TIMEOUT_MS, signal, what: `start of NPU queue ${this.index}` },
    )
    if (state === 'error') {
      bar.QCTL.write({}) // back to disabled, for whoever gets the queue next
      this.#off = true
      throw accelError('ERR_ACCEL_IO', `NPU queue ${this.index} refused to start: ${cause}`, {
        details: { cause },
      })
    }
  }

  /** Lets the queue touch the memory of `window`; without one, takes window `at` back. */
  allow(at: number, window?: Window): void {
    if (this.#windows.has(at) && sameWindow(this.#windows.get(at), window)) return
    openWindow(this.#bar.WINDOW[at], window)
    this.#windows.set(at, window)
  }

  /** The device's word on the queue. */
  get state() {
    return this.#bar.QSTS.get()
  }

  /** A queue that went idle looks at its doorbells again (5.4). */
  wake(): void {
    this.#bar.WAKE.write(1)
  }

  /**
   * Asks the device to finish what it began and to abort the rest, and waits for it, with `meanwhile` at each look. `ERR_ACCEL_TIMEOUT`.
   */
  async stop(meanwhile: () => void): Promise<void> {
    this.#bar.QCTL.write({})
    await poll(
      () => {
        meanwhile()
        return this.#bar.QSTS.get().state
      },
      (state) => state === 'disabled',
      { timeoutMs: STATE_TIMEOUT_MS, what: `stop of NPU queue ${this.index}` },
    )
    this.#off = true
    meanwhile()
  }

  /** Gives the rings back. The queue is {@link off}. */
  destroy(): void {
    this.memory.free()
  }
}

function sameWindow(a: Window | undefined, b: Window | undefined): boolean {
  return a?.first === b?.first && a?.last === b?.last && a?.access === b?.access
}

/** Sets a window of a queue (5.5), or closes it. */
export function openWindow(bar: NpuBar['QUEUE'][number]['WINDOW'][number], window?: Window): void {
  bar.PERM.write({})
  if (window === undefined) return
  bar.BASE_LO.write(Number(window.first & 0xffff_ffffn))
  bar.BASE_HI.write(Number(window.first >> 32n))
  bar.LIMIT_LO.write(Number(window.last & 0xffff_ffffn))
  bar.LIMIT_HI.write(Number(window.last >> 32n))
  const { access = 'readwrite' } = window
  bar.PERM.write({ read: access !== 'write', write: access !== 'read' })
}
