import type { Job, JobRange } from '@uaccel/accel'
import { accelError, isAccelError } from '@uaccel/uapi'
import type { NpuBuffer } from './buffers.js'
import type { NpuContext } from './context.js'
import { BLOCK_SLOT, DESCRIPTOR_WORDS, newImage, putAddress, putDescriptor } from './job.js'
import type { Npu } from './npu.js'
import { windowOf } from './store.js'
import { TENSOR_BLOCK_BYTES } from './tensor-steps.js'
import { decodeJob, type PayloadStep } from './uapi.js'

/** Queues that are used for the jobs of clients. */
const LANES = 4
/** The first window is that of the parameter blocks. */
const FIRST_WINDOW = 1
/** From one parameter block to the next, of the largest there are; each starts on a multiple of 16 (7.1). */
const BLOCK_STRIDE_BYTES = TENSOR_BLOCK_BYTES
const OPERANDS = ['a', 'b', 'c', 'd'] as const

/** What a lane looks at of a job. */
export interface LaneJob extends Pick<Job, 'payload'> {
  readonly ranges: readonly Pick<JobRange, 'iova' | 'sizeBytes' | 'access'>[]
}

/**
 * Runs the jobs of all clients. Each has a queue for itself while it runs, whose windows are open for exactly what it may touch: what
 * a parameter block makes of an operand is bounded by the device, and never reaches what is another client's.
 */
export class JobLanes {
  readonly depth = LANES
  readonly #npu: Npu
  readonly #free: Lane[] = []
  readonly #waiting: ((lane: Lane) => void)[] = []
  #count = 0

  constructor(npu: Npu) {
    this.#npu = npu
  }

  /**
   * Settles when the device is done with the memory of the job, or with `details.idle` false where it may not be.
   * Errors: `ERR_ACCEL_BAD_SIZE`, `ERR_ACCEL_OUT_OF_RANGE` and those of the codec for a payload that is refused, those of a step.
   */
  async run(job: LaneJob): Promise<void> {
    const steps = decodeJob(job.payload)
    const lane = this.#free.pop() ?? (await this.#open())
    try {
      await lane.run(job.ranges, steps)
    } finally {
      const next = this.#waiting.shift()
      if (next) next(lane)
      else this.#free.push(lane)
    }
  }

  /** Another lane; where the program holds all other queues, the next that becomes free. */
  async #open(): Promise<Lane> {
    try {
      const context = await this.#npu.createContext()
      this.#count++
      return new Lane(context, this.#npu.capabilities.windows)
    } catch (error) {
      if (this.#count === 0 || !isAccelError(error, 'ERR_ACCEL_BUSY')) throw error
      return new Promise((resolve) => this.#waiting.push(resolve))
    }
  }
}

/** One queue for jobs of clients. */
class Lane {
  readonly #context: NpuContext
  readonly #maxRanges: number
  readonly #blocks: NpuBuffer
  #opened = 0

  constructor(context: NpuContext, windows: number) {
    this.#context = context
    this.#maxRanges = windows - FIRST_WINDOW
    this.#blocks = context.allocate(BLOCK_STRIDE_BYTES * context.queue.capacity, { name: 'parameter blocks' })
  }

  async run(ranges: LaneJob['ranges'], steps: readonly PayloadStep[]): Promise<void> {
    if (ranges.length > this.#maxRanges) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `An NPU job names ${ranges.length} ranges of memory, and a queue has windows for ${this.#maxRanges}`,
      )
    }
    const words = this.#encode(ranges, steps)
    for (const [i, { iova, sizeBytes, access }] of ranges.entries()) {
      this.#context.allow(FIRST_WINDOW + i, windowOf(iova, sizeBytes, access))
    }
    for (let i = ranges.length; i < this.#opened; i++) this.#context.allow(FIRST_WINDOW + i)
    this.#opened = ranges.length
    const stepNames = steps.map(({ name }) => name)
    await new Promise<void>((resolve, reject) => {
      const image = newImage(steps.length)
      this.#context.send({ words, steps: steps.length, image, stepNames }, (error) => {
        if (error === undefined) resolve()
        // Of a queue that broke nobody knows what it still does.
        else if (this.#context.failure === undefined) reject(error)
        else
          reject(
            accelError(error.code, error.message, {
              cause: error,
              details: { ...error.details, idle: false },
            }),
          )
      })
    })
  }

  #encode(ranges: LaneJob['ranges'], steps: readonly PayloadStep[]): Int32Array {
    const words = new Int32Array(steps.length * DESCRIPTOR_WORDS)
    for (const [i, step] of steps.entries()) {
      const { opcode, order, length, pattern, block } = step
      putDescriptor(words, i, { opcode, length, pattern, block }, order)
      for (const [slot, name] of OPERANDS.entries()) {
        const { buffer, offset } = step[name]
        if (buffer === 0) {
          if (offset === 0n) continue
          throw accelError('ERR_ACCEL_RESERVED', `Operand ${name} of step ${i} has an offset and no buffer`)
        }
        const range = ranges[buffer - 1]
        if (range === undefined || offset >= range.sizeBytes) {
          throw accelError(
            'ERR_ACCEL_OUT_OF_RANGE',
            range === undefined
              ? `Operand ${name} of step ${i} names range ${buffer} of ${ranges.length}`
              : `Operand ${name} of step ${i} starts at ${offset} of a range of ${range.sizeBytes} bytes`,
          )
        }
        putAddress(words, i, slot, range.iova + offset)
      }
      if (block.length === 0) continue
      const at = BLOCK_STRIDE_BYTES * i
      this.#blocks.write(at, block)
      putAddress(words, i, BLOCK_SLOT, this.#blocks.address + BigInt(at))
    }
    return words
  }
}
