import type { ClientBuffer, ClientBuffers, ClientJob } from '@uaccel/accel'
import type { NpuCapabilities, Place } from '@uaccel/driver-npu'
import { encodeJob, type JobStep } from '@uaccel/driver-npu/uapi'
import type { Value } from './graph/operations.js'
import type { Plan } from './graph/plan.js'
import { alignmentBytes } from './graph/plan.js'
import { lowerForNpu, npuName, npuRefuses } from './npu-lowering.js'
import type { Accelerator, LoadedPlan } from './runtime/accelerator.js'

/** What a job names, by place. */
const ARENA = 0
const CONSTANTS = 1
const WEIGHTS = 2

/** Constants of steps, one behind the other. */
class Weights {
  readonly #parts = new Map<string, { readonly bytes: Uint8Array; readonly offset: number }>()
  #sizeBytes = 0

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Where `bytes` will lie; the same for the same bytes. */
  keep(bytes: Uint8Array): number {
    const key = Buffer.from(bytes).toString('latin1')
    const known = this.#parts.get(key)
    if (known) return known.offset
    const offset = this.#sizeBytes
    this.#parts.set(key, { bytes, offset })
    this.#sizeBytes += Math.ceil(bytes.length / alignmentBytes) * alignmentBytes
    return offset
  }

  writeTo(memory: Uint8Array): void {
    for (const { bytes, offset } of this.#parts.values()) memory.set(bytes, offset)
  }
}

/** A plan in buffer objects of one open: an arena for each slot, and memory that is only read. */
class JobPlan implements LoadedPlan {
  readonly arenas: readonly ClientBuffer[]
  readonly constants: ClientBuffer
  readonly #buffers: ClientBuffers
  readonly #weights: ClientBuffer
  /** By batch; undefined for what the CPU does. */
  readonly #payloads: readonly (Uint8Array | undefined)[]

  private constructor(
    buffers: ClientBuffers,
    [constants, weights, ...arenas]: readonly ClientBuffer[],
    payloads: readonly (Uint8Array | undefined)[],
  ) {
    this.#buffers = buffers
    this.constants = constants!
    this.#weights = weights!
    this.arenas = arenas
    this.#payloads = payloads
  }

  static async load(buffers: ClientBuffers, plan: Plan, slots: number): Promise<JobPlan> {
    const weights = new Weights()
    // The lowering carries places on and looks at no buffer: here it is a number.
    const place = (buffer: number, offset: number) => ({ buffer, offset }) as unknown as Place
    const at = (value: Value): Place => {
      const constant = plan.constants.get(value)
      return constant === undefined ? place(ARENA, plan.offsets.get(value)!) : place(CONSTANTS, constant)
    }
    const keep = (bytes: Uint8Array) => place(WEIGHTS, weights.keep(bytes))
    const payloads = plan.batches.map(({ device, steps }) => {
      if (device !== npuName) return undefined
      return encodeJob(
        steps.map(({ operation }) => lowerForNpu(operation, { at, keep }) as unknown as JobStep),
      )
    })
    const sizes = [plan.constantBytes, weights.sizeBytes, ...Array(slots).fill(plan.arenaBytes)]
    const made: ClientBuffer[] = []
    try {
      for (const sizeBytes of sizes) made.push(await buffers.create(Math.max(1, sizeBytes)))
    } catch (error) {
      for (const buffer of made) await buffer.destroy()
      throw error
    }
    weights.writeTo(made[1]!.u8)
    return new JobPlan(buffers, made, payloads)
  }

  submit(batch: number, slot: number): Promise<void> {
    const job: ClientJob = {
      buffers: [
        { buffer: this.arenas[slot]! },
        { buffer: this.constants, access: 'read' },
        { buffer: this.#weights, access: 'read' },
      ],
      payload: this.#payloads[batch]!,
    }
    return this.#buffers.run(job)
  }

  busyMicros(): undefined {
    return undefined
  }

  async close(): Promise<void> {
    for (const buffer of [this.constants, this.#weights, ...this.arenas]) await buffer.destroy()
  }
}

/**
 * The NPU as an accelerator for sessions of a client that has nothing of the driver: buffer objects and jobs of one open. The
 * capabilities are those that the command `identify` gives.
 */
export function npuJobAccelerator(buffers: ClientBuffers, capabilities: NpuJobCapabilities): Accelerator {
  const numbers = {
    ...capabilities,
    maxElements: Number(capabilities.maxElements),
    maxMacs: Number(capabilities.maxMacs),
    cardBytes: Number(capabilities.cardBytes),
  }
  return {
    name: npuName,
    refuses: (operation) => npuRefuses(operation, numbers),
    load: (plan, slots) => JobPlan.load(buffers, plan, slots),
  }
}

/** What `identify` answers. */
export type NpuJobCapabilities = Omit<NpuCapabilities, 'maxElements' | 'maxMacs' | 'cardBytes'> & {
  readonly maxElements: number | bigint
  readonly maxMacs: number | bigint
  readonly cardBytes: number | bigint
}
