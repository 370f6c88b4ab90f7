import { openBuffers, type QueueOpener } from '@uaccel/memory'
import { type AccelError, accelError, type DeviceClient, isAccelError } from '@uaccel/uapi'
import type { Accelerator, AcceleratorMemory, CommandList } from '@uaccel/webnn/accelerator'
import type { NpuBuffer } from '../buffers.js'
import type { NpuCapabilities } from '../capabilities.js'
import type { NpuContext } from '../context.js'
import type { NpuJob, OperandName } from '../job.js'
import type { Npu } from '../npu.js'
import { encodeStep, type Step } from '../operations.js'
import type { JobDone } from '../queue.js'
import { npuUapi } from '../uapi.js'
import { openNpuQueue } from '../user-queue.js'
import type { Command } from './draft.js'
import { jobAccelerator } from './jobs.js'
import { bufferOf, NpuMemory, placed } from './memory.js'
import { follows, operators } from './operators.js'
import { quantised } from './quantised.js'

const LETTERS = ['a', 'b', 'c', 'd'] as const satisfies readonly OperandName[]
const RING_ENTRIES = 1024
const MEMORY_BYTES = 256 << 20
/** A small job takes a few microseconds, the way of an interrupt some tens. */
const SPIN_US = 50
/** The first version that has operations on tensors with strides, and their opcodes: docs/devices/npu.md, 4.1.5. */
const TENSOR_OPCODES = 0xff00000000n

/** An operand that is in a memory of the list: where it has to be patched when that becomes another. */
interface Use {
  readonly job: number
  readonly step: number
  readonly operand: OperandName
  readonly offset: number
}

/** Commands as jobs of the context: several, where they are more than its ring takes at once. */
class NpuList implements CommandList {
  readonly #context: NpuContext
  readonly #cyclesPerMicro: number
  readonly #batches: readonly (readonly Command[])[]
  readonly #memories: (NpuBuffer | undefined)[] = []
  readonly #uses: Use[][] = []
  #jobs: readonly NpuJob[] | undefined
  #freed = false
  #left = 0
  #cycles = 0
  #error: AccelError | undefined
  #done: Parameters<CommandList['submit']>[0] | undefined
  readonly #jobDone: JobDone

  constructor(context: NpuContext, clockKhz: number, commands: readonly Command[]) {
    this.#context = context
    this.#cyclesPerMicro = clockKhz / 1000
    const { capacity } = context.queue
    this.#batches = Array.from({ length: Math.ceil(commands.length / capacity) }, (_, at) =>
      commands.slice(at * capacity, (at + 1) * capacity),
    )
    for (const [job, batch] of this.#batches.entries()) {
      for (const [step, command] of batch.entries()) {
        // Only carries the places of a step on, whatever their buffers are.
        const { ranges } = encodeStep(command as unknown as Step)
        for (const [slot, range] of ranges.entries()) {
          if (range === undefined) continue
          const { buffer, offset = 0 } = range.at as unknown as { buffer: number; offset?: number }
          this.#uses[buffer] ??= []
          this.#uses[buffer].push({ job, step, operand: LETTERS[slot]!, offset })
        }
      }
    }
    this.#jobDone = (error, cycles) => {
      this.#error ??= error
      this.#cycles += cycles
      if (--this.#left > 0) return
      const done = this.#done
      this.#done = undefined
      done?.(this.#error, this.#cycles / this.#cyclesPerMicro)
    }
  }

  bind(buffer: number, memory: AcceleratorMemory): void {
    this.#checkIdle('bound')
    const to = bufferOf(memory)
    if (this.#memories[buffer] === to) return
    if (this.#jobs !== undefined) {
      for (const { job, step, operand, offset } of this.#uses[buffer] ?? [])
        this.#jobs[job]!.patch(step, operand, { buffer: to, offset })
    }
    this.#memories[buffer] = to
  }

  submit(done: (error: Error | undefined, micros: number | undefined) => void): void {
    this.#checkIdle('submitted')
    this.#jobs ??= this.#encode()
    const jobs = this.#jobs
    this.#left = jobs.length
    this.#cycles = 0
    this.#error = undefined
    this.#done = done
    if (jobs.length === 0) {
      this.#left = 1
      setImmediate(this.#jobDone, undefined, 0)
      return
    }
    for (let at = 0; at < jobs.length; at++) {
      try {
        this.#context.submit(jobs[at]!, this.#jobDone)
      } catch (error) {
        // Those that were submitted go on, and nobody is told of them.
        this.#left -= jobs.length - at
        this.#done = undefined
        this.#context.flush()
        throw error
      }
    }
    this.#context.flush()
  }

  free(): void {
    this.#freed = true
    for (const job of this.#jobs ?? []) job.free()
    this.#jobs = undefined
  }

  /** As soon as all memories are known: from then on what changes is patched. */
  #encode(): readonly NpuJob[] {
    for (const buffer of this.#uses.keys())
      if (this.#uses[buffer] !== undefined && this.#memories[buffer] === undefined)
        throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `Memory ${buffer} of a list of the NPU was not bound`)
    const at = (buffer: number, offset: number) => ({ buffer: this.#memories[buffer], offset })
    return this.#batches.map((batch) =>
      this.#context.encode(batch.map((command) => placed(command, at) as Step)),
    )
  }

  #checkIdle(what: string): void {
    if (this.#freed) throw accelError('ERR_ACCEL_REVOKED', `A list of the NPU was freed and then ${what}`)
    if (this.#left > 0) throw accelError('ERR_ACCEL_BUSY', `A list of the NPU was ${what} while it ran`)
  }
}

/** What lowering asks of a device. */
export type NpuLimits = Pick<
  NpuCapabilities,
  'maxDimension' | 'maxElements' | 'maxMacs' | 'opcodes' | 'clockKhz'
>

export interface NpuAcceleratorOptions {
  /** What the device said that it can do. */
  readonly capabilities: NpuLimits
  /** How long the end of a dispatch is looked for before its interrupt is waited for, in microseconds. Default 50; 0 never. */
  readonly spinUs?: number
  /** Closes what the context is of, after it was closed. */
  close?(): Promise<void>
}

/** What the device does of graphs. */
function operatorsOf(capabilities: NpuLimits): Pick<Accelerator<Command>, 'name' | 'operators' | 'follows'> {
  if ((capabilities.opcodes & TENSOR_OPCODES) !== TENSOR_OPCODES) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `The NPU has the opcodes 0x${capabilities.opcodes.toString(16)}: graphs want those of version 1.1 (0x20 to 0x27)`,
    )
  }
  return { name: 'npu', operators: { ...operators, ...quantised(capabilities) }, follows }
}

/**
 * The NPU as a device of WebNN graphs: its memory and its queue are those of a context, which it closes at its end.
 *
 * @throws ERR_ACCEL_UNSUPPORTED the device has no operations on tensors with strides: it is older than version 1.1
 */
export function npuAccelerator(
  context: NpuContext,
  { capabilities, spinUs = SPIN_US, close }: NpuAcceleratorOptions,
): Accelerator<Command> {
  let closing: Promise<void> | undefined
  return {
    ...operatorsOf(capabilities),
    allocate: (sizeBytes) => new NpuMemory(context.allocate(sizeBytes, { name: 'tensor' })),
    prepare(commands, memories) {
      const list = new NpuList(context, capabilities.clockKhz, commands)
      for (const [at, memory] of memories.entries()) if (memory !== undefined) list.bind(at, memory)
      return list
    },
    polling: { forUs: spinUs, look: () => context.look() },
    lost: new Promise((resolve) => context.onFailure((error) => resolve(error.message))),
    close() {
      closing ??= context.close().then(() => close?.())
      return closing
    },
  }
}

/** The NPU that this process drives, with a context of its own, which grows. Errors: those of `Npu.createContext`. */
export async function openNpuAccelerator(
  npu: Npu,
  options: Pick<NpuAcceleratorOptions, 'spinUs'> = {},
): Promise<Accelerator<Command>> {
  const { capabilities } = npu
  const context = await npu.createContext({
    ringEntries: Math.min(RING_ENTRIES, capabilities.maxRingEntries),
  })
  return npuAccelerator(context, { ...options, capabilities })
}

/** What is asked of the client of a node. */
type Node = QueueOpener & Pick<DeviceClient<typeof npuUapi>, 'call' | 'close'>

/** How the queue of a node is made. */
export interface NpuNodeOptions extends Pick<NpuAcceleratorOptions, 'spinUs'> {
  /** Memory for everything: constants, intermediate results and tensors. It does not grow. Default 256 MiB. */
  readonly memoryBytes?: number
  /** Has the driver's process submit jobs also where it could hand a queue out, which is for one client at a time. Default false. */
  readonly shared?: boolean
}

/** For `@uaccel/webnn`, which opens nodes of this driver by their name. */
export const accelerator = {
  uapi: npuUapi,
  /**
   * Makes the accelerator of a node. Its queue is filled here, and the driver's process is not asked again; where the transport cannot hand queues out
   * (kernel VFIO, UIO), that process submits jobs instead. Closes the node at its end. Errors: those of `openNpuQueue` and `npuAccelerator`.
   */
  async open(
    node: Node,
    { memoryBytes = MEMORY_BYTES, shared = false, ...options }: NpuNodeOptions = {},
  ): Promise<Accelerator<Command>> {
    const identity = await node.call('identify', {})
    const capabilities = {
      ...identity,
      maxElements: Number(identity.maxElements),
      maxMacs: Number(identity.maxMacs),
    }
    const buffers = openBuffers(node)
    const memory = await buffers.create(memoryBytes)
    const close = async () => {
      await memory.destroy()
      await node.close()
    }
    const submitting = () => ({
      ...operatorsOf(capabilities),
      ...jobAccelerator({ buffers, memory, lost: node.lost, close }),
    })
    if (shared) return submitting()
    const ringEntries = Math.min(RING_ENTRIES, capabilities.maxRingEntries)
    try {
      const { context } = await openNpuQueue(node, { memory, ringEntries })
      return npuAccelerator(context, { ...options, capabilities, close })
    } catch (error) {
      if (!isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) throw error
      return submitting()
    }
  },
}
