import { isAccelError } from '@uaccel/uapi'
import type { Faults } from './faults.js'
import type { ModelClock } from './types.js'

interface Work {
  readonly run: () => void
  unschedule: () => void
}

/** The work that one function has scheduled: held back while it hangs, cancelled by its reset. */
export class WorkSet {
  readonly #clock: ModelClock
  readonly #faults: Faults
  readonly #scheduled = new Set<Work>()
  readonly #held = new Set<Work>()
  #running = false
  #awaiting: (() => void)[] = []

  constructor(clock: ModelClock, faults: Faults) {
    this.#clock = clock
    this.#faults = faults
  }

  after(delayNs: number, run: () => void): () => void {
    const work: Work = { run, unschedule: () => {} }
    this.#schedule(work, delayNs)
    return () => this.#forget(work)
  }

  /** See `ModelClock.poll`, where the clock has it. A device that hangs sees nothing. */
  poll(forNs: number, look: () => boolean, run: () => void): () => void {
    const work: Work = { run, unschedule: () => {} }
    this.#scheduled.add(work)
    work.unschedule = this.#clock.poll!(
      forNs,
      () => !this.#faults.isHanging && look(),
      () => this.#due(work),
    )
    return () => this.#forget(work)
  }

  #forget(work: Work): void {
    work.unschedule()
    this.#scheduled.delete(work)
    this.#held.delete(work)
  }

  /** Something waits for the running work to end; it should not start more. */
  get isAwaited(): boolean {
    return this.#awaiting.length > 0
  }

  /**
   * Runs `action` now, or once the running work has ended: then it was asked for from inside a transfer that waits for an answer,
   * and that work would go on with a device that was reset under it.
   */
  atRest(action: () => void): void {
    if (this.#running) this.#awaiting.push(action)
    else action()
  }

  /** Goes on with what came due during a hang. */
  resume(): void {
    const held = [...this.#held]
    this.#held.clear()
    for (const work of held) this.#schedule(work, 0)
  }

  cancel(): void {
    for (const { unschedule } of this.#scheduled) unschedule()
    this.#scheduled.clear()
    this.#held.clear()
  }

  #schedule(work: Work, delayNs: number): void {
    this.#scheduled.add(work)
    work.unschedule = this.#clock.after(delayNs, () => this.#due(work))
  }

  #due(work: Work): void {
    this.#scheduled.delete(work)
    if (this.#faults.isHanging) this.#held.add(work)
    else this.#run(work)
  }

  /** A transfer that failed ends the work that asked for it, unless the model handles it; it was recorded where the driver is to blame. */
  #run({ run }: Work): void {
    this.#running = true
    try {
      run()
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_DMA_FAULT')) throw error
    } finally {
      this.#running = false
      if (this.#awaiting.length > 0) for (const action of this.#awaiting.splice(0)) action()
    }
  }
}
