import type { Bug, ChannelTable, Output, Quantised, Tensor } from './arithmetic.js'
import * as arithmetic from './arithmetic.js'
import * as blocks from './blocks.js'
import { DType, type Layout, limits, type Params, Refusal } from './blocks.js'
import { Address, addressOf, type Descriptor, Opcode, Status } from './descriptor.js'
import { type Execution, guarded, type Memory } from './memory.js'
import { BLOCK_BYTES } from './tensor/block.js'
import { prepareTensor } from './tensor/execute.js'
import { tensorOperations } from './tensor/operations.js'

/** What an operation takes of its descriptor (9): words besides DW0, DW1 and TAG that may be other than 0, and its block. */
interface Operation {
  readonly uses: readonly number[]
  readonly layout?: Layout
  /** Sizes and work, once the block is checked. */
  readonly plan: (p: Params, d: Descriptor) => Plan
}

interface Plan {
  /** Bytes of A, B, C and D; 0 for what is not used. */
  readonly sizes: readonly [a: number, b: number, c: number, d: number]
  /** Bytes of an element of A and of D. */
  readonly widths?: readonly [a: number, d: number]
  readonly macs?: number
  readonly run: (
    a: Uint8Array<ArrayBuffer>,
    b: Uint8Array<ArrayBuffer>,
    table: ChannelTable,
    d: Uint8Array<ArrayBuffer>,
    bug: Bug | undefined,
  ) => void
}

const { A, B, C, D, P } = Address
const LENGTH = 12
const PATTERN = 13
const words = (...slots: number[]) => slots.flatMap((s) => [2 * s, 2 * s + 1])
const width = (type: number) => (type === DType.int32 ? 4 : 1)

function tensor(bytes: Uint8Array<ArrayBuffer>, type: number): Tensor {
  if (type === DType.int32) return new Int32Array(bytes.buffer, 0, bytes.length / 4)
  return quantised(bytes, type)
}
function quantised(bytes: Uint8Array<ArrayBuffer>, type: number): Quantised {
  return type === DType.int8 ? new Int8Array(bytes.buffer, 0, bytes.length) : bytes
}
const output = (p: Params, bug: Bug | undefined): Output => ({ zero: p.yZero, min: p.min, max: p.max, bug })

const operations: Readonly<Record<number, Operation>> = {
  [Opcode.NOP]: { uses: [], plan: () => ({ sizes: [0, 0, 0, 0], run() {} }) },
  [Opcode.COPY]: {
    uses: [...words(A, D), LENGTH],
    plan: (_, d) => ({ sizes: [d.length, 0, 0, d.length], run: (a, _b, _t, to) => to.set(a) }),
  },
  [Opcode.FILL]: {
    uses: [...words(D), LENGTH, PATTERN],
    plan: (_, d) => ({
      sizes: [0, 0, 0, d.length],
      run(_a, _b, _t, to) {
        for (let i = 0; i < to.length; i++) to[i] = d.pattern >>> (8 * (i & 3))
      },
    }),
  },
  [Opcode.CONV2D]: {
    uses: words(A, B, C, D, P),
    layout: blocks.convLayout,
    plan(p) {
      const [oh, ow] = blocks.outputOf(p)
      const k = (p.c / p.groups) * p.kh * p.kw
      const results = p.n * p.o * oh * ow
      return {
        sizes: [p.n * p.c * p.h * p.w, p.o * k, 8 * p.o, width(p.yType) * results],
        widths: [1, width(p.yType)],
        macs: results * k,
        run: (a, b, t, d, bug) =>
          arithmetic.conv2d(
            quantised(a, p.xType),
            quantised(b, p.wType),
            tensor(d, p.yType),
            p as never,
            t,
            output(p, bug),
          ),
      }
    },
  },
  [Opcode.MATMUL]: {
    uses: words(A, B, C, D, P),
    layout: blocks.matmulLayout,
    plan(p) {
      const shape = {
        batch: p.batch,
        m: p.m,
        k: p.k,
        n: p.n,
        aZero: p.aZero,
        bZero: p.bZero,
        transposeB: (p.flags & 1) !== 0,
        batchB: (p.flags & 2) !== 0,
      }
      return {
        sizes: [
          p.batch * p.m * p.k,
          (shape.batchB ? p.batch : 1) * p.k * p.n,
          8 * p.n,
          width(p.yType) * p.batch * p.m * p.n,
        ],
        widths: [1, width(p.yType)],
        macs: p.batch * p.m * p.k * p.n,
        run: (a, b, t, d, bug) =>
          arithmetic.matmul(
            quantised(a, p.aType),
            quantised(b, p.bType),
            tensor(d, p.yType),
            shape,
            t,
            output(p, bug),
          ),
      }
    },
  },
  [Opcode.POOL]: {
    uses: words(A, D, P),
    layout: blocks.poolLayout,
    plan(p) {
      const [oh, ow] = blocks.outputOf(p)
      const results = p.n * p.c * oh * ow
      const shape = { ...p, average: p.mode === 1, countPadding: (p.flags & 1) !== 0 }
      return {
        sizes: [p.n * p.c * p.h * p.w, 0, 0, results],
        macs: results * p.kh * p.kw,
        run: (a, _b, _t, d, bug) =>
          arithmetic.pool(quantised(a, p.type), quantised(d, p.type), shape as never, output(p, bug)),
      }
    },
  },
  [Opcode.ADD]: {
    uses: words(A, B, D, P),
    layout: blocks.addLayout,
    plan: (p) => ({
      sizes: [p.length, p.length, 0, p.length],
      run: (a, b, _t, d, bug) =>
        arithmetic.add(
          quantised(a, p.aType),
          quantised(b, p.bType),
          quantised(d, p.yType),
          p as never,
          output(p, bug),
        ),
    }),
  },
  [Opcode.LUT]: {
    uses: [...words(A, B, D), LENGTH],
    plan: (_, d) => ({
      sizes: [d.length, 256, 0, d.length],
      run: (a, b, _t, to) => arithmetic.lut(a, b, to),
    }),
  },
  [Opcode.REQUANTISE]: {
    uses: words(A, C, D, P),
    layout: blocks.requantiseLayout,
    plan(p) {
      const size = p.outer * p.channels * p.inner
      return {
        sizes: [width(p.xType) * size, 0, 8 * p.channels, size],
        widths: [width(p.xType), 1],
        run: (a, _b, t, d, bug) =>
          arithmetic.requantise(tensor(a, p.xType), quantised(d, p.yType), p as never, t, output(p, bug)),
      }
    },
  },
  [Opcode.TEST_HANG]: { uses: [PATTERN], plan: () => ({ sizes: [0, 0, 0, 0], run() {} }) },
  [Opcode.TEST_FATAL]: { uses: [], plan: () => ({ sizes: [0, 0, 0, 0], run() {} }) },
  [Opcode.TEST_INTERNAL]: {
    uses: [],
    plan: () => ({
      sizes: [0, 0, 0, 0],
      run() {
        throw new Refusal(Status.INTERNAL, 0)
      },
    }),
  },
}

/** Makes the checks of a descriptor in the order of section 10.1, up to windows. Throws a `Refusal`. */
export function prepare(d: Descriptor, memory: Memory, testMode: boolean, bug: Bug | undefined): Execution {
  const onTensors = tensorOperations[d.opcode]
  const goodFlags = d.flags <= 7 && (d.flags & 3) !== 3
  const known = onTensors && goodFlags ? memory.prepared.find(d, memory) : undefined
  if (known !== undefined) return known
  const operation = operations[d.opcode]
  const uses = (onTensors ?? operation)?.uses
  if (uses === undefined || (d.opcode >= Opcode.TEST_HANG && !testMode))
    throw new Refusal(Status.INVALID_OPCODE, d.opcode)
  if (!goodFlags) throw new Refusal(Status.INVALID_FIELD, 0)
  const size = onTensors === undefined ? (operation.layout?.size ?? 0) : BLOCK_BYTES
  if (d.words[1] >>> 16 !== 0) throw new Refusal(Status.INVALID_FIELD, 4)
  for (let i = 2; i < 15; i++) {
    if (d.words[i] !== 0 && !uses.includes(i)) throw new Refusal(Status.INVALID_FIELD, 4 * i)
  }
  if (d.paramSize !== size) throw new Refusal(Status.INVALID_PARAM_SIZE, d.paramSize)
  const block = size === 0 ? new Uint8Array(0) : readBlock(d, size, memory)
  if (onTensors !== undefined) {
    const execution = prepareTensor(d, block, onTensors, memory)
    memory.prepared.keep(d, block, execution, memory)
    return execution
  }

  const { layout } = operation
  const params = layout === undefined ? {} : blocks.parseBlock(block, layout)
  const plan = operation.plan(params, d)
  checkLimits(plan, d, uses.includes(LENGTH))
  if (layout !== undefined) blocks.checkArithmetic(params, layout)
  checkAddresses(plan, d, memory)

  const [a, b, c, to] = plan.sizes
  return {
    macs: plan.macs ?? 0,
    readBytes: a + b + c + d.paramSize,
    writtenBytes: to,
    run() {
      const read = (slot: number, size: number) =>
        guarded(Status.DMA_READ, slot, () =>
          size === 0 ? new Uint8Array(0) : memory.read(addressOf(d, slot), size),
        )
      const [inA, inB, inC] = [read(A, a), read(B, b), read(C, c)]
      const table = channelTable(inC, params.yType)
      const result = new Uint8Array(to)
      plan.run(inA, inB, table, result, bug)
      if (to > 0) guarded(Status.DMA_WRITE, D, () => memory.write(addressOf(d, D), result))
    },
  }
}

/** Opcodes that there are: bit n of `OPCODES` (4.1.5). */
export const opcodes: readonly number[] = [...Object.keys(operations), ...Object.keys(tensorOperations)]
  .map(Number)
  .filter((opcode) => opcode < Opcode.TEST_HANG)

/** Orders 4 and 5 of 10.1. */
function readBlock(d: Descriptor, size: number, memory: Memory): Uint8Array {
  const address = addressOf(d, P)
  if ((address & 15n) !== 0n) throw new Refusal(Status.MISALIGNED, P)
  if (!memory.permits(address, size, false)) throw new Refusal(Status.WINDOW_READ, P)
  const bytes = guarded(Status.DMA_READ, P, () => memory.read(address, size))
  blocks.checkHeader(bytes, size)
  return bytes
}

function checkLimits(plan: Plan, d: Descriptor, hasLength: boolean): void {
  const [a, b, , to] = plan.sizes
  const [wide, wideTo] = plan.widths ?? [1, 1]
  if (hasLength && (d.length === 0 || d.length > limits.elements)) throw new Refusal(Status.LIMIT, 4 * LENGTH)
  if (a / wide > limits.elements) throw new Refusal(Status.LIMIT, A)
  if (b > limits.elements) throw new Refusal(Status.LIMIT, B)
  if (to / wideTo > limits.elements) throw new Refusal(Status.LIMIT, D)
  if ((plan.macs ?? 0) > limits.macs) throw new Refusal(Status.LIMIT, 0)
}

function checkAddresses(plan: Plan, d: Descriptor, memory: Memory): void {
  const alignments = [plan.widths?.[0] ?? 1, 1, 8, plan.widths?.[1] ?? 1]
  for (const slot of [A, B, C, D]) {
    const size = plan.sizes[slot - 1]
    if (size === 0) continue
    const address = addressOf(d, slot)
    if (address % BigInt(alignments[slot - 1]) !== 0n) throw new Refusal(Status.MISALIGNED, slot)
    const write = slot === D
    if (!memory.permits(address, size, write))
      throw new Refusal(write ? Status.WINDOW_WRITE : Status.WINDOW_READ, slot)
  }
}

/** Takes the channel table apart (7.4) and checks its multipliers (order 12). */
function channelTable(bytes: Uint8Array, outputType: number | undefined): ChannelTable {
  const channels = bytes.length / 8
  const table = { bias: new Int32Array(channels), multiplier: new Float32Array(channels) }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let c = 0; c < channels; c++) {
    table.bias[c] = view.getInt32(8 * c, true)
    table.multiplier[c] = view.getFloat32(8 * c + 4, true)
    const good =
      outputType === DType.int32
        ? view.getUint32(8 * c + 4, true) === 0
        : blocks.isMultiplier(table.multiplier[c])
    if (!good) throw new Refusal(Status.ARITHMETIC, 0x8000_0000 + c)
  }
  return table
}
