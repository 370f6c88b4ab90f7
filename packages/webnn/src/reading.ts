import { type BufferSource, bytesOf } from './buffer.js'
import { byteLength } from './data-type.js'
import type { TensorState } from './tensor.js'
import type { Task } from './timeline.js'

/** A reading of a tensor: ends in its turn, or when the tensor is destroyed. */
export class Reading implements Task {
  readonly #state: TensorState
  readonly #into: BufferSource | undefined
  /** What is behind it goes on. */
  #next: (() => void) | undefined
  #allowed = false
  #settled = false
  #failed = false
  /** What was read, or why nothing was. */
  #outcome: unknown
  #tell: (() => void) | undefined

  constructor(state: TensorState, into: BufferSource | undefined) {
    this.#state = state
    this.#into = into
  }

  get settled(): boolean {
    return this.#settled
  }

  begin(ended: () => void): void {
    this.#next = ended
    if (this.#allowed) this.#end(ended)
  }

  /** It may end from now on: not within the call that asks for it, as what the caller does next counts. */
  allow(): void {
    this.#allowed = true
    if (this.#next !== undefined) this.#end(this.#next)
  }

  /** Ends it before its turn. */
  fail(reason: unknown): void {
    if (this.#settled) return
    this.#failed = true
    this.#settle(reason)
  }

  /** Resolves when it has ended. */
  whenSettled(): Promise<void> {
    return new Promise((resolve) => {
      this.#tell = resolve
    })
  }

  /** What was read, once it has settled. Throws what it failed with. */
  take(): ArrayBuffer | undefined {
    if (this.#failed) throw this.#outcome
    return this.#outcome as ArrayBuffer | undefined
  }

  #end(next: () => void): void {
    if (!this.#settled) {
      try {
        this.#settle(this.#read())
      } catch (error) {
        this.fail(error)
      }
    }
    next()
  }

  #read(): ArrayBuffer | undefined {
    const { descriptor, failure, memory } = this.#state
    const into = this.#into
    if (into !== undefined && into.byteLength !== byteLength(descriptor))
      throw new TypeError('readTensor: outputData was detached or resized meanwhile')
    if (failure !== undefined) throw failure
    // In use it has memory: that is taken back on the timeline, behind this.
    if (into === undefined) return memory!.bytes.slice().buffer as ArrayBuffer
    bytesOf(into).set(memory!.bytes)
    return undefined
  }

  #settle(outcome: unknown): void {
    this.#settled = true
    this.#outcome = outcome
    this.#tell?.()
  }
}
