import type { Npu, NpuCapabilities, NpuContext, NpuJob, Place } from '@uaccel/driver-npu'
import type { Value } from './graph/operations.js'
import type { Batch, Plan } from './graph/plan.js'
import { lowerForNpu, npuName, npuRefuses } from './npu-lowering.js'
import type { Accelerator, LoadedPlan } from './runtime/accelerator.js'

/** Room for so many steps in flight: a power of two, one entry of a ring stays free. */
function ringEntriesFor(steps: number, { minRingEntries, maxRingEntries }: NpuCapabilities): number {
  const wanted = 2 ** Math.ceil(Math.log2(steps + 1))
  return Math.min(Math.max(wanted, minRingEntries), maxRingEntries)
}

/** A plan in a context of its own: one job for each batch and slot, encoded once. */
class NpuPlan implements LoadedPlan {
  readonly arenas: LoadedPlan['arenas']
  readonly constants: LoadedPlan['constants']
  readonly #npu: Npu
  readonly #context: NpuContext
  /** By batch, then slot; undefined for what the CPU does. */
  readonly #jobs: readonly (readonly NpuJob[] | undefined)[]
  #flushing = false

  constructor(npu: Npu, context: NpuContext, plan: Plan, slots: number, device: string) {
    this.#npu = npu
    this.#context = context
    const allocate = (sizeBytes: number, name: string) => context.allocate(Math.max(1, sizeBytes), { name })
    const constants = allocate(plan.constantBytes, 'constants')
    const arenas = Array.from({ length: slots }, (_, slot) => allocate(plan.arenaBytes, `arena ${slot}`))
    const kept = new Map<string, Place>()
    const keep = (bytes: Uint8Array): Place => {
      const key = Buffer.from(bytes).toString('latin1')
      const place = kept.get(key) ?? { buffer: context.allocateFrom(bytes, { name: 'weights' }) }
      kept.set(key, place)
      return place
    }
    const encode = ({ steps }: Batch) =>
      arenas.map((arena) => {
        const at = (value: Value): Place => {
          const constant = plan.constants.get(value)
          return constant === undefined
            ? { buffer: arena, offset: plan.offsets.get(value)! }
            : { buffer: constants, offset: constant }
        }
        return context.encode(steps.map(({ operation }) => lowerForNpu(operation, { at, keep })))
      })
    this.constants = constants
    this.arenas = arenas
    this.#jobs = plan.batches.map((batch) => (batch.device === device ? encode(batch) : undefined))
  }

  submit(batch: number, slot: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#context.submit(this.#jobs[batch]![slot], (error) => {
        if (error) reject(error)
        else resolve()
      })
      // Runs that go on in this turn of the event loop submit too: one doorbell for all of them.
      if (this.#flushing) return
      this.#flushing = true
      queueMicrotask(() => {
        this.#flushing = false
        this.#context.flush()
      })
    })
  }

  busyMicros(): number {
    return (this.#npu.counters().cyclesBusy * 1000) / this.#npu.capabilities.clockKhz
  }

  close(): Promise<void> {
    return this.#context.close()
  }
}

/**
 * The NPU as an accelerator for sessions. Each session gets a context of its own: a queue, and memory that this queue
 * alone may touch. The NPU's driver and transport are the caller's.
 */
export function npuAccelerator(npu: Npu): Accelerator {
  const name = npuName
  return {
    name,
    refuses: (operation) => npuRefuses(operation, npu.capabilities),
    async load(plan, slots) {
      const batches = plan.batches.filter(({ device }) => device === name)
      const longest = Math.max(1, ...batches.map(({ steps }) => steps.length))
      const context = await npu.createContext({
        ringEntries: ringEntriesFor(slots * longest, npu.capabilities),
      })
      try {
        return new NpuPlan(npu, context, plan, slots, name)
      } catch (error) {
        await context.close()
        throw error
      }
    },
  }
}
