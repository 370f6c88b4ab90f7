import type { ModelContext } from '@uaccel/model'

const SUBMISSION = 64
const COMPLETION = 16

/** A submission queue as the controller keeps it. */
export class SubmissionQueue {
  readonly id: number
  readonly completions: CompletionQueue
  readonly #base: bigint
  readonly #entries: number
  head = 0
  tail = 0
  /** Commands that were fetched and not yet looked at. */
  scheduled = 0

  constructor(id: number, base: bigint, entries: number, completions: CompletionQueue) {
    this.id = id
    this.#base = base
    this.#entries = entries
    this.completions = completions
  }

  /** Takes a doorbell; the reason where it cannot be. */
  ring(tail: number): string | undefined {
    if (tail >= this.#entries) return `tail ${tail} of ${this.#entries} entries`
    if (tail === this.tail) return `tail ${tail}, which it had already`
    this.tail = tail
    return undefined
  }

  /** Takes a doorbell of which a copy in memory may have been seen before; the reason where it cannot be. */
  follow(tail: number): string | undefined {
    return tail === this.tail ? undefined : this.ring(tail)
  }

  /** The next command that was not taken. */
  fetch({ dma }: ModelContext): DataView | undefined {
    if (this.head === this.tail) return undefined
    const bytes = new Uint8Array(SUBMISSION)
    dma.read(this.#base + BigInt(this.head * SUBMISSION), bytes)
    this.head = (this.head + 1) % this.#entries
    return new DataView(bytes.buffer)
  }
}

/** A completion queue as the controller keeps it. */
export class CompletionQueue {
  readonly id: number
  readonly vector: number | undefined
  readonly #base: bigint
  readonly #entries: number
  #head = 0
  #tail = 0
  #phase = 1

  constructor(id: number, base: bigint, entries: number, vector: number | undefined) {
    this.id = id
    this.#base = base
    this.#entries = entries
    this.vector = vector
  }

  get empty(): boolean {
    return this.#head === this.#tail
  }

  /** Takes a doorbell; the reason where it cannot be. */
  ring(head: number): string | undefined {
    const posted = (this.#tail - this.#head + this.#entries) % this.#entries
    const taken = (head - this.#head + this.#entries) % this.#entries
    if (head >= this.#entries || taken === 0 || taken > posted)
      return `head ${head} where it was ${this.#head} and ${posted} completions are posted`
    this.#head = head
    return undefined
  }

  /** Takes a doorbell of which a copy in memory may have been seen before; the reason where it cannot be. */
  follow(head: number): string | undefined {
    return head === this.#head ? undefined : this.ring(head)
  }

  get head(): number {
    return this.#head
  }

  /** Writes a completion; false where the queue is full. */
  post(
    { dma }: ModelContext,
    result: number,
    submission: SubmissionQueue,
    cid: number,
    status: number,
    head = submission.head,
  ): boolean {
    const next = (this.#tail + 1) % this.#entries
    if (next === this.#head) return false
    const view = new DataView(new ArrayBuffer(COMPLETION))
    view.setUint32(0, result, true)
    view.setUint16(8, head, true)
    view.setUint16(10, submission.id, true)
    view.setUint16(12, cid, true)
    view.setUint16(14, (status << 1) | this.#phase, true)
    dma.write(this.#base + BigInt(this.#tail * COMPLETION), new Uint8Array(view.buffer))
    this.#tail = next
    if (next === 0) this.#phase ^= 1
    return true
  }
}
