import { accelError } from '@uaccel/uapi'
import type { CompiledGraph, Operation, Value } from '../graph/operations.js'
import { type Batch, makePlan, type Plan } from '../graph/plan.js'
import { type Tensor, type TensorData, viewAs } from '../graph/tensor.js'
import { execute } from '../reference/kernels.js'
import { inputData, type Tensors } from '../reference/reference.js'
import type { Accelerator, LoadedPlan, RunMemory } from './accelerator.js'

export interface SessionOptions {
  /** Where operations run that it can do; without one all run on the CPU. */
  readonly accelerator?: Accelerator
  /** How many runs may be in flight; further ones wait. */
  readonly slots?: number
}

/** One operation with its tensors in one arena. */
interface BoundOperation {
  readonly operation: Operation
  readonly inputs: readonly TensorData[]
  readonly output: TensorData
}

/** An arena with views of every tensor in it. */
interface Slot {
  readonly index: number
  readonly values: ReadonlyMap<Value, TensorData>
  /** By batch: what the CPU does, undefined where the accelerator does it. */
  readonly cpuBatches: readonly (readonly BoundOperation[] | undefined)[]
}

/** Memory of the host alone, where there is no device. */
function hostMemory(plan: Plan, slots: number): LoadedPlan {
  const memory = (sizeBytes: number): RunMemory => ({ u8: new Uint8Array(sizeBytes) })
  return {
    arenas: Array.from({ length: slots }, () => memory(plan.arenaBytes)),
    constants: memory(plan.constantBytes),
    submit: () => Promise.reject(accelError('ERR_ACCEL_UNSUPPORTED', 'this plan has no accelerator')),
    busyMicros: () => undefined,
    close: () => Promise.resolve(),
  }
}

/** A graph that is ready to run: on an accelerator what it can do, on the CPU the rest, several runs in flight. */
export class Session {
  readonly plan: Plan
  /** How many runs may be in flight. */
  readonly slots: number
  readonly #loaded: LoadedPlan
  readonly #free: Slot[]
  readonly #waiting: { resolve: (slot: Slot) => void; reject: (reason: unknown) => void }[] = []
  #drained: (() => void) | undefined
  #closed = false

  private constructor(plan: Plan, loaded: LoadedPlan) {
    this.plan = plan
    this.#loaded = loaded
    this.#free = loaded.arenas.map((arena, index) => bindSlot(plan, loaded.constants, arena, index))
    this.slots = this.#free.length
  }

  /** Plans the graph and brings it onto the device. */
  static async load(graph: CompiledGraph, { accelerator, slots = 8 }: SessionOptions = {}): Promise<Session> {
    if (!Number.isInteger(slots) || slots < 1) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `slots wants an integer of at least 1, found ${slots}`)
    }
    const plan = makePlan(graph, accelerator)
    const loaded = accelerator ? await accelerator.load(plan, slots) : hostMemory(plan, slots)
    for (const [{ constant }, offset] of plan.constants) {
      const { buffer, byteOffset, byteLength } = constant!.data
      loaded.constants.u8.set(new Uint8Array(buffer, byteOffset, byteLength), offset)
    }
    return new Session(plan, loaded)
  }

  /** How long the device says it has worked, in microseconds from some moment on; undefined where it says nothing. */
  get deviceMicros(): number | undefined {
    return this.#loaded.busyMicros()
  }

  /**
   * The graph's outputs for these inputs. May be called again before it resolves: up to `slots` runs are under way at
   * once. ERR_ACCEL_INVALID_SHAPE for inputs that are not the graph's, ERR_ACCEL_CLOSED after `close`.
   */
  async run(tensors: Tensors): Promise<Record<string, Tensor>> {
    const { graph, batches } = this.plan
    const given = graph.inputs.map((value) => inputData(value, tensors))
    const slot = await this.#takeSlot()
    try {
      graph.inputs.forEach((value, i) => {
        copyTo(slot.values.get(value)!, given[i])
      })
      for (let batch = 0; batch < batches.length; batch++) {
        const operations = slot.cpuBatches[batch]
        if (operations)
          for (const { operation, inputs, output } of operations) execute(operation, inputs, output)
        else await this.#loaded.submit(batch, slot.index)
      }
      return Object.fromEntries(
        graph.outputs.map((value) => {
          const data = value.constant?.data ?? slot.values.get(value)!
          return [value.name, { ...value.type, data: data.slice() } as Tensor]
        }),
      )
    } finally {
      this.#giveSlot(slot)
    }
  }

  /** Waits for the runs under way, refuses those that still wait for a slot, and frees everything. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const { reject } of this.#waiting.splice(0)) reject(closedError())
    if (this.#free.length < this.slots) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve
      })
    }
    await this.#loaded.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #takeSlot(): Promise<Slot> | Slot {
    if (this.#closed) throw closedError()
    return (
      this.#free.pop() ??
      new Promise((resolve, reject) => {
        this.#waiting.push({ resolve, reject })
      })
    )
  }

  #giveSlot(slot: Slot): void {
    const next = this.#waiting.shift()
    if (next) {
      next.resolve(slot)
      return
    }
    this.#free.push(slot)
    if (this.#free.length === this.slots) this.#drained?.()
  }
}

function closedError() {
  return accelError('ERR_ACCEL_CLOSED', 'the session was closed')
}

/** Copies elements; both have the type of one value. */
function copyTo(to: TensorData, from: TensorData): void {
  if (to instanceof BigInt64Array) to.set(from as BigInt64Array)
  else to.set(from as Exclude<TensorData, BigInt64Array>)
}

function bindSlot(plan: Plan, constants: RunMemory, arena: RunMemory, index: number): Slot {
  const view = (memory: RunMemory, value: Value, offset: number) =>
    viewAs(value.type, memory.u8.buffer, memory.u8.byteOffset + offset)
  const values = new Map<Value, TensorData>()
  for (const [value, offset] of plan.offsets) values.set(value, view(arena, value, offset))
  for (const [value, offset] of plan.constants) values.set(value, view(constants, value, offset))
  const bind = ({ device, steps }: Batch) =>
    device === 'cpu'
      ? steps.map(({ operation }) => ({
          operation,
          inputs: operation.inputs.map((value) => values.get(value)!),
          output: values.get(operation.output)!,
        }))
      : undefined
  return { index, values, cpuBatches: plan.batches.map(bind) }
}
