import type { Bug } from './arithmetic.js'
import { Refusal } from './blocks.js'
import type { Controller } from './controller.js'
import { Opcode, Status } from './descriptor.js'
import { prepare } from './execute.js'
import { type Entry, Fatal, type Queue } from './queue.js'

/** How the model behaves where the specification leaves it open. */
export interface NpuOptions {
  /** Descriptors executed at the same time. Default 4. */
  readonly units?: number
  /** Executes the test operations of 9.18. Default false. */
  readonly testMode?: boolean
  /** Hidden: a seeded error, for tests of test suites. */
  readonly bug?: Bug
}

/** Time of one look at the queues, and the least time of a descriptor. */
const TICK_NS = 50
const BASE_CYCLES = 100
const MACS_A_CYCLE = 256
const BYTES_A_CYCLE = 16
/** How long queues with nothing to do look at their doorbells before they go idle (5.4), where there is a clock to wait by; and the least of it. */
const LINGER_NS = 400_000
/** Lingering that was in vain is halved, down to that part; one in so many is done in full, to see whether it has become worth it. */
const LEAST_PART = 32
const PROBE = 32

/** Gives descriptors to execution units when the clock steps, in the order that 5.2 allows, queues taking turns. */
export class Scheduler {
  readonly #controller: Controller
  readonly #units: number
  readonly #testMode: boolean
  readonly #bug: Bug | undefined
  /** Queues that may have work, as of the last register that was written. */
  #on: readonly Queue[] = []
  #busy = 0
  #busySince = 0
  #turn = 0
  #scheduled = false
  #hung = false
  #lingerNs = LINGER_NS
  #vain = 0
  #lingering: (() => void) | undefined
  readonly #rung = () => {
    const on = this.#on
    for (let at = 0; at < on.length; at++) if (on[at].hasRung) return true
    return false
  }
  // Work of an earlier epoch was dropped by a reset or a fatal error.
  #epoch = 0

  constructor(controller: Controller, options: NpuOptions) {
    this.#controller = controller
    this.#units = options.units ?? 4
    this.#testMode = options.testMode ?? false
    this.#bug = options.bug
  }

  get hung(): boolean {
    return this.#hung
  }

  hang(): void {
    this.#hung = true
  }

  /** Forgets all work: nothing of it touches memory any more. */
  drop(): void {
    this.#epoch++
    this.#lingering?.()
    this.#lingering = undefined
    this.#setBusy(0, this.#controller.context.clock.now())
    this.#hung = false
    this.#scheduled = false
  }

  /** Asks for a look at the queues. */
  schedule(): void {
    this.#on = this.#controller.queues.filter(({ on }) => on)
    if (this.#scheduled || this.#hung || !this.#controller.running) return
    this.#scheduled = true
    this.#later(TICK_NS, () => {
      this.#scheduled = false
      this.#tick()
    })
  }

  #later(delayNs: number, work: () => void): void {
    const epoch = this.#epoch
    this.#controller.context.clock.after(delayNs, () => {
      if (epoch === this.#epoch && !this.#hung) work()
    })
  }

  #tick(mayIdle = false): void {
    const on = this.#on
    const { poll } = this.#controller.context.clock
    for (const queue of on) {
      if (queue.awake && this.#controller.running) queue.service(mayIdle || poll === undefined)
    }
    this.#dispatch()
    // Also while others work: a queue that nobody looks at would have to wait for their end.
    if (poll === undefined || this.#lingering !== undefined || !on.some(waits)) return
    this.#lingering = poll(this.#lingerNs, this.#rung, this.#lingered)
  }

  readonly #lingered = () => {
    this.#lingering = undefined
    const rung = this.#rung()
    if (rung) this.#lingerNs = LINGER_NS
    else {
      this.#vain++
      this.#lingerNs =
        this.#vain % PROBE === 0 ? LINGER_NS : Math.max(this.#lingerNs / 2, LINGER_NS / LEAST_PART)
    }
    if (!this.#hung) this.#tick(!rung)
  }

  #dispatch(): void {
    const on = this.#on
    for (let empty = 0; empty < on.length && this.#busy < this.#units && this.#controller.running; ) {
      this.#turn = (this.#turn + 1) % on.length
      const queue = on[this.#turn]
      const entry = queue.next()
      if (entry === undefined) empty++
      else {
        empty = 0
        this.#begin(queue, entry)
      }
    }
  }

  #begin(queue: Queue, entry: Entry): void {
    entry.started = true
    const since = this.#controller.context.clock.now()
    this.#setBusy(this.#busy + 1, since)
    let refusal: Refusal | undefined
    let cycles = BASE_CYCLES
    try {
      entry.execution = prepare(entry.descriptor, queue, this.#testMode, this.#bug)
      const { macs, readBytes, writtenBytes } = entry.execution
      cycles += Math.ceil(macs / MACS_A_CYCLE + (readBytes + writtenBytes) / BYTES_A_CYCLE)
    } catch (error) {
      refusal = asRefusal(error)
    }
    this.#later(cycles, () => this.#finish(queue, entry, refusal, since))
  }

  #finish(queue: Queue, entry: Entry, refusal: Refusal | undefined, since: number): void {
    const { opcode, pattern } = entry.descriptor
    if (refusal === undefined && opcode === Opcode.TEST_HANG) {
      this.#controller.hang(pattern === 1)
      return
    }
    if (refusal === undefined && opcode === Opcode.TEST_FATAL) {
      this.#controller.fail(Fatal.MACHINE_CHECK, queue)
      return
    }
    // A queue that went to ERROR meanwhile has forgotten its descriptors.
    const wanted = queue.entries.includes(entry)
    if (wanted && refusal === undefined) {
      try {
        entry.execution!.run()
        this.#controller.counters.add('macs', entry.execution!.macs)
      } catch (error) {
        refusal = asRefusal(error)
      }
    }
    const now = this.#controller.context.clock.now()
    this.#setBusy(this.#busy - 1, now)
    if (!wanted) {
      this.schedule()
      return
    }
    const cycles = Math.min(0xffff_ffff, Math.round(now - since))
    queue.complete(entry, refusal?.status ?? Status.SUCCESS, refusal?.detail ?? cycles)
    if (this.#controller.running) this.#tick()
  }

  #setBusy(busy: number, now: number): void {
    if (this.#busy === 0) this.#busySince = now
    else if (busy === 0) this.#controller.counters.add('cycles', now - this.#busySince)
    this.#busy = busy
  }
}

const waits = (queue: Queue) => queue.waits

/** What a check refused; anything else, such as memory that this process does not have, is an internal error (10.1). */
function asRefusal(error: unknown): Refusal {
  return error instanceof Refusal ? error : new Refusal(Status.INTERNAL, 0)
}
