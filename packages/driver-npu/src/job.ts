import { accelError } from '@uaccel/uapi'
import type { ContextMemory, NpuBuffer } from './buffers.js'
import { type Encoded, encodeStep, type Order, type Place, type Step } from './operations.js'

/** Words of a descriptor (docs/devices/npu.md, 7.1) and its flags. */
export const DESCRIPTOR_WORDS = 16
const FENCE = 1 << 8
const UNORDERED = 1 << 9
const IRQ = 1 << 10
const PARAM_ALIGN = 16

/** The addresses of a descriptor by the names that the specification gives them. */
const operands = ['a', 'b', 'c', 'd'] as const
export type OperandName = (typeof operands)[number]

/** What the ring takes, whatever its addresses come from. */
export interface RingJob {
  /** The descriptors: {@link DESCRIPTOR_WORDS} each. The upper half of the first word is filled in by the queue. */
  readonly words: Int32Array
  readonly steps: number
  /**
   * Names the descriptors as they are now: that of step i is `image` + i, and no other has that number ({@link newImage}). What a ring holds
   * already is not copied into it again.
   */
  readonly image: number
  /** For errors. */
  readonly stepNames: readonly string[]
}

let images = 0

/** Numbers for descriptors that are new, or were changed. */
export function newImage(steps: number): number {
  const first = images + 1
  images += steps
  return first
}

/** Fills in a descriptor, but for its addresses. */
export function putDescriptor(
  words: Int32Array,
  index: number,
  { opcode, length, pattern, block }: Pick<Encoded, 'opcode' | 'length' | 'pattern' | 'block'>,
  { fence = false, unordered = false }: Order,
): void {
  const at = index * DESCRIPTOR_WORDS
  const last = at + DESCRIPTOR_WORDS === words.length
  const irq = last || unordered ? IRQ : 0
  words[at] = opcode | (fence ? FENCE : 0) | (unordered ? UNORDERED : 0) | irq
  words[at + 1] = block?.length ?? 0
  words[at + 12] = length
  words[at + 13] = pattern
  words[at + 15] = index
}

/** Patches in the address of an operand: 0 to 3 for A to D, {@link BLOCK_SLOT} for the parameter block. */
export function putAddress(words: Int32Array, index: number, slot: number, address: bigint): void {
  const at = index * DESCRIPTOR_WORDS + 2 + 2 * slot
  words[at] = Number(address & 0xffff_ffffn)
  words[at + 1] = Number(address >> 32n)
}

/** Where a descriptor has the address of its parameter block, counted as an operand. */
export const BLOCK_SLOT = 4

/**
 * Steps in the form that the ring takes: descriptors with the addresses patched in, and a buffer of parameter blocks. Encoded once, run any
 * number of times. Only the words of an address change, by {@link patch}.
 */
export class NpuJob implements RingJob {
  // Declared: see the rings of @uaccel/memory.
  /** @internal */
  declare readonly words: Int32Array
  declare readonly stepNames: readonly string[]
  /** @internal */
  declare readonly steps: number
  /** @internal */
  declare image: number
  declare private readonly memory: ContextMemory
  /** @internal The parameter blocks, where a step has one. */
  readonly blocks: NpuBuffer | undefined
  /** Of each operand: its range, and how much of that lies before the address. */
  readonly #sizes: Int32Array
  readonly #befores: Int32Array
  readonly #buffers: (NpuBuffer | undefined)[]
  /** `frees` of its memory when all of its buffers were last seen alive. */
  declare private aliveAt: number

  /**
   * @internal Use `NpuContext.encode`.
   * Errors: `ERR_ACCEL_OUT_OF_RANGE` and `ERR_ACCEL_REVOKED` for a tensor that its buffer does not hold, `ERR_ACCEL_INVALID_SHAPE` and
   * `ERR_ACCEL_OUT_OF_RANGE` for a step that no descriptor can say.
   */
  constructor(memory: ContextMemory, steps: readonly Step[]) {
    if (steps.length === 0)
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', 'An NPU job wants at least one step')
    this.memory = memory
    this.aliveAt = -1
    this.stepNames = steps.map(({ op }) => op)
    this.steps = steps.length
    this.words = new Int32Array(steps.length * DESCRIPTOR_WORDS)
    this.#sizes = new Int32Array(steps.length * operands.length)
    this.#befores = new Int32Array(this.#sizes.length)
    this.#buffers = new Array(steps.length * operands.length).fill(undefined)
    const encoded = steps.map(encodeStep)
    for (const [i, step] of encoded.entries()) this.#encode(i, steps[i], step)
    this.blocks = this.#place(encoded)
    this.image = newImage(this.steps)
  }

  /**
   * Points an operand of a step somewhere else, for the next runs: the same tensor in another buffer. Not while the job is under way.
   * Errors as for `encode`, and `ERR_ACCEL_INVALID_ARGUMENT` where the step has no such operand.
   */
  patch(step: number, operand: OperandName, to: Place): void {
    const slot = operands.indexOf(operand)
    const at = step * operands.length + slot
    if (this.#buffers[at] === undefined) {
      throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `Step ${step} of the job has no operand ${operand}`)
    }
    this.#address(step, slot, to, this.#sizes[at], this.#befores[at])
    this.image = newImage(this.steps)
  }

  /** @internal Refuses to run a job whose memory was given back. */
  checkAlive(): void {
    const { frees } = this.memory
    if (frees === this.aliveAt) return
    for (let i = 0; i < this.#buffers.length; i++) {
      if (this.#buffers[i]?.freed) this.#buffers[i]!.checkUse(this.memory, 0, 0)
    }
    if (this.blocks?.freed) this.blocks.checkUse(this.memory, 0, 0)
    this.aliveAt = frees
  }

  /** @internal True where it was encoded for this memory, and nothing was given back since all of its buffers were seen alive. */
  isReady(memory: ContextMemory): boolean {
    return this.memory === memory && this.aliveAt === memory.frees
  }

  /** @internal */
  belongsTo(memory: ContextMemory): boolean {
    return this.memory === memory
  }

  /** Gives the parameter blocks back. The job can no longer be run. Idempotent. */
  free(): void {
    this.blocks?.free()
  }

  #encode(index: number, order: Step, step: Encoded): void {
    putDescriptor(this.words, index, step, order)
    for (const [slot, range] of step.ranges.entries()) {
      if (range === undefined) continue
      const { at, sizeBytes, beforeBytes = 0 } = range
      this.#address(index, slot, at, sizeBytes, beforeBytes)
      this.#sizes[index * operands.length + slot] = sizeBytes
      this.#befores[index * operands.length + slot] = beforeBytes
    }
  }

  #address(
    step: number,
    slot: number,
    { buffer, offset = 0 }: Place,
    sizeBytes: number,
    beforeBytes: number,
  ): void {
    buffer.checkUse(this.memory, offset - beforeBytes, sizeBytes)
    this.#buffers[step * operands.length + slot] = buffer
    putAddress(this.words, step, slot, buffer.address + BigInt(offset))
  }

  /** Puts all parameter blocks into one buffer and their addresses into the descriptors. */
  #place(encoded: readonly Encoded[]): NpuBuffer | undefined {
    const aligned = (size: number) => Math.ceil(size / PARAM_ALIGN) * PARAM_ALIGN
    const total = encoded.reduce((sum, { block }) => sum + aligned(block?.length ?? 0), 0)
    if (total === 0) return undefined
    const buffer = this.memory.alloc(total, 'host', 'parameter blocks')
    let offset = 0
    for (const [i, { block }] of encoded.entries()) {
      if (block === undefined) continue
      buffer.write(offset, block)
      putAddress(this.words, i, BLOCK_SLOT, buffer.address + BigInt(offset))
      offset += aligned(block.length)
    }
    return buffer
  }
}
