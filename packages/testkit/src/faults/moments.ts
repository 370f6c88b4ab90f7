import type { ModelBehaviour, ModelContext, ModelDefinition } from '@uaccel/model'
import { Faults } from '@uaccel/model'
import type { FaultName, Moment } from './types.js'

/** Faults that the driver is told of by its event loop, and never in the middle of a register access. */
const told: ReadonlySet<FaultName> = new Set(['vanish', 'request', 'error'])
/** What is kept for a report of what went before. */
const LAST = 6
const HEX = 16
/** Vectors that fire for no reason, where they are armed. */
const VECTORS = 32

/** What a device saw since a fault was armed. */
export interface Witness {
  readonly struck: boolean
  /** All moments, where it was armed without a fault. */
  readonly kept: readonly Moment[]
  /** The last moments, for a report. */
  readonly last: readonly string[]
}

/** What passes between a driver and its device, counted, and the fault that strikes at one of these moments. */
export class Moments {
  /** Of the function that is being made next, or was made last. */
  faults = new Faults()
  #fault: FaultName | undefined
  #left = 0
  #struck = false
  #kept: Moment[] | undefined
  readonly #last: string[] = []

  /** From now on the fault strikes at the `index`-th moment; 0: at once. */
  arm(fault: FaultName | undefined, index: number): void {
    this.#struck = false
    this.#fault = fault
    this.#left = index
    this.#kept = fault === undefined ? [] : undefined
    if (fault !== undefined && index === 0) this.#strike(fault)
  }

  /** Forgets what has not struck, and takes back what goes on. Answers what came to pass since it was armed. */
  lift(): Witness {
    const witness = { struck: this.#struck, kept: this.#kept ?? [], last: [...this.#last] }
    this.#fault = undefined
    this.#kept = undefined
    this.faults.lostInterrupt(0)
    this.faults.dmaError(0)
    if (this.faults.isHanging) this.faults.hang(false)
    return witness
  }

  /** The same device, of which each moment is counted here. */
  instrument<Options>(definition: ModelDefinition<Options>): ModelDefinition<Options> {
    return {
      ...definition,
      create: (context, options) => this.#watched(definition.create(this.#context(context), options)),
    }
  }

  #context(context: ModelContext): ModelContext {
    const { dma } = context
    const moved = (what: 'read' | 'write' | 'view', iova: bigint, sizeBytes: number) =>
      this.#pass('dma', () => `DMA ${what} of ${sizeBytes} bytes at IOVA 0x${iova.toString(HEX)}`)
    return {
      ...context,
      dma: {
        read(iova, into) {
          moved('read', iova, into.length)
          dma.read(iova, into)
        },
        write(iova, from) {
          moved('write', iova, from.length)
          dma.write(iova, from)
        },
        view(iova, sizeBytes, access) {
          moved('view', iova, sizeBytes)
          return dma.view(iova, sizeBytes, access)
        },
      },
      raise: (vector) => {
        this.#pass('interrupt', () => `interrupt vector ${vector}`)
        context.raise(vector)
      },
      setIntx: (asserted) => {
        if (asserted && context.irqMode === 'intx') this.#pass('interrupt', () => 'the INTx line')
        context.setIntx(asserted)
      },
      // Not copied by the spread: they change.
      get busMaster() {
        return context.busMaster
      },
      get irqMode() {
        return context.irqMode
      },
    }
  }

  #watched(behaviour: ModelBehaviour): ModelBehaviour {
    const at = (what: string, bar: number, offset: number) => () =>
      `${what} of BAR${bar} ${behaviour.describe?.(bar, offset) ?? `at 0x${offset.toString(HEX)}`}`
    return {
      read: (bar, offset, width) => {
        this.#pass('read', at('read', bar, offset))
        if (!this.faults.isAllOnes) return behaviour.read(bar, offset, width)
        return width === 8 ? 2n ** 64n - 1n : 2 ** (8 * width) - 1
      },
      write: (bar, offset, width, value) => {
        this.#pass('write', at('write', bar, offset))
        return this.faults.isAllOnes || behaviour.write(bar, offset, width, value)
      },
      ...(behaviour.describe === undefined
        ? {}
        : { describe: (bar: number, offset: number) => behaviour.describe!(bar, offset) }),
      reset: () => {
        this.#pass('reset', () => 'reset')
        behaviour.reset()
      },
    }
  }

  #pass(kind: Moment['kind'], what: () => string): void {
    const words = what()
    this.#last.push(words)
    if (this.#last.length > LAST) this.#last.shift()
    this.#kept?.push({ kind, what: words })
    if (this.#fault !== undefined && !this.#struck && --this.#left === 0) this.#strike(this.#fault)
  }

  #strike(fault: FaultName): void {
    this.#struck = true
    const { faults } = this
    if (fault === 'peerKilled') process.kill(process.pid, 'SIGKILL')
    else if (fault === 'peerSilent') process.kill(process.pid, 'SIGSTOP')
    else if (told.has(fault)) setImmediate(() => faults[fault as 'vanish' | 'request' | 'error']())
    else if (fault === 'spuriousInterrupt') for (let i = 0; i < VECTORS; i++) faults.spuriousInterrupt(i)
    else faults[fault as 'lostInterrupt' | 'dmaError' | 'hang' | 'allOnes']()
  }
}
