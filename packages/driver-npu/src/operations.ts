import { accelError } from '@uaccel/uapi'
import { Block, int32 } from './block.js'
import type { NpuBuffer } from './buffers.js'
import { encodeTensorStep } from './tensor-encoding.js'
import type { AnyTensorStep } from './tensor-steps.js'

/** Opcodes of dense tensors and bytes: docs/devices/npu.md, section 9. */
export const opcodes = {
  nop: 0x00,
  copy: 0x01,
  fill: 0x02,
  conv2d: 0x10,
  matmul: 0x11,
  pool: 0x12,
  add: 0x13,
  lut: 0x14,
  requantise: 0x15,
} as const
/** Data types: 7.3. */
const dataTypes = { uint8: 1, int8: 2, int32: 3 } as const
/** What each type holds; also the default clamp. */
const rangeOf = { uint8: [0, 255], int8: [-128, 127], int32: [-2147483648, 2147483647] } as const
const widthOf = { uint8: 1, int8: 1, int32: 4 } as const

export type QuantisedType = 'uint8' | 'int8'
export type ResultType = QuantisedType | 'int32'

/** Where a tensor lies. A job names buffers; only the driver knows addresses. */
export interface Place {
  readonly buffer: NpuBuffer
  /** In bytes from the start of the buffer; default 0. */
  readonly offset?: number
}

/** An input tensor: dense, last dimension fastest. */
export interface Operand<T extends ResultType = QuantisedType> {
  readonly at: Place
  readonly type: T
  /** Zero point; default 0. */
  readonly zero?: number
}

/** An output tensor. */
export interface Result<T extends ResultType = ResultType> {
  readonly at: Place
  readonly type: T
  readonly zero?: number
  /** A folded Relu or Clip, in quantised values, both included; default the range of the type. */
  readonly clamp?: readonly [min: number, max: number]
}

/** How a step stands to the others of its queue (5.2). Without either, steps run one after another. */
export interface Order {
  /** May run at the same time as, or before, earlier steps. */
  readonly unordered?: boolean
  /** Waits for all earlier steps, and later ones wait for it. */
  readonly fence?: boolean
}

/** A kernel that slides over images `[n, c, h, w]`. Pairs are [vertical, horizontal]. */
export interface Sliding {
  readonly shape: readonly [n: number, c: number, h: number, w: number]
  readonly kernel: readonly [number, number]
  readonly strides?: readonly [number, number]
  readonly dilations?: readonly [number, number]
  /** As ONNX orders them; default none. */
  readonly pads?: readonly [top: number, left: number, bottom: number, right: number]
}

/** `y = requant(conv(x, w) + bias)`, 9.4. `channels` has an entry of 8 bytes for each output channel: see `channelTable`. */
export interface Conv2dStep extends Order, Sliding {
  readonly op: 'conv2d'
  readonly x: Operand
  /** `[o, c / groups, kh, kw]` */
  readonly w: Operand
  readonly channels: Place
  readonly y: Result
  readonly o: number
  readonly groups?: number
}

/** `y[batch, m, n] = requant(a[batch, m, k] b[k, n] + bias)`, 9.5. `channels` has an entry for each of the n columns. */
export interface MatmulStep extends Order {
  readonly op: 'matmul'
  readonly a: Operand
  readonly b: Operand
  readonly channels: Place
  readonly y: Result
  readonly batch?: number
  readonly m: number
  readonly k: number
  readonly n: number
  /** `b` is `[n, k]`. */
  readonly transposeB?: boolean
  /** `b` has a matrix for each of the batch. */
  readonly batchB?: boolean
}

/** Pooling, 9.6. Both tensors have one type. Zero points and `multiplier` (input scale / output scale) count for the average only. */
export interface PoolStep extends Order, Sliding {
  readonly op: 'pool'
  readonly mode: 'max' | 'average'
  readonly x: Operand
  readonly y: Result<QuantisedType>
  readonly multiplier?: number
  readonly countPadding?: boolean
}

/** `y = a + b` of `length` elements, 9.7. Scales are float32. */
export interface AddStep extends Order {
  readonly op: 'add'
  readonly a: Operand & { readonly scale: number }
  readonly b: Operand & { readonly scale: number }
  readonly y: Result<QuantisedType> & { readonly scale: number }
  readonly length: number
}

/** `y[i] = table[x[i]]`, bytes, a table of 256, 9.8. */
export interface LutStep extends Order {
  readonly op: 'lut'
  readonly x: Place
  readonly table: Place
  readonly y: Place
  readonly length: number
}

/** `y = requant(x - zero + bias)` over `[outer, channels, inner]`, 9.9. */
export interface RequantiseStep extends Order {
  readonly op: 'requantise'
  readonly x: Operand<ResultType>
  readonly channels: Place
  readonly y: Result<QuantisedType>
  readonly shape: readonly [outer: number, channels: number, inner: number]
}

/** Copies bytes, 9.2. */
export interface CopyStep extends Order {
  readonly op: 'copy'
  readonly x: Place
  readonly y: Place
  readonly length: number
}

/** Fills bytes with the four of `pattern`, little-endian, 9.3. */
export interface FillStep extends Order {
  readonly op: 'fill'
  readonly y: Place
  readonly length: number
  readonly pattern: number
}

/** Nothing; with `fence` a barrier, 9.1. */
export interface NopStep extends Order {
  readonly op: 'nop'
}

export type Step =
  | Conv2dStep
  | MatmulStep
  | PoolStep
  | AddStep
  | LutStep
  | RequantiseStep
  | CopyStep
  | FillStep
  | NopStep
  | AnyTensorStep

/** As `T`, with buffers named by their place in the list of a job, from 0 on. */
export type ByPlace<T> = T extends Place
  ? { readonly buffer: number; readonly offset?: number }
  : T extends object
    ? { readonly [K in keyof T]: ByPlace<T[K]> }
    : T
/** A step of a job for SUBMIT, whose buffers are known by their place only. */
export type JobStep = ByPlace<Step>

/** A range that a descriptor names: how the driver checks it against the buffer. */
export interface Range {
  /** What the descriptor names. */
  readonly at: Place
  readonly sizeBytes: number
  /** How many of these lie before what it names: with negative strides. Default 0. */
  readonly beforeBytes?: number
}

/** A step in the device's terms, but for addresses. Ranges are in the order A, B, C, D. */
export interface Encoded {
  readonly opcode: number
  readonly ranges: readonly (Range | undefined)[]
  readonly block?: Uint8Array
  readonly length: number
  readonly pattern: number
}

/** Bytes that the channel table of `bias.length` channels takes, as the device reads it (7.4). For an `int32` output all multipliers are 0. */
export function channelTable(bias: ArrayLike<number>, multiplier: ArrayLike<number>): Uint8Array {
  if (bias.length !== multiplier.length) {
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `A channel table wants a multiplier for each bias, found ${multiplier.length} and ${bias.length}`,
    )
  }
  const view = new DataView(new ArrayBuffer(8 * bias.length))
  for (let c = 0; c < bias.length; c++) {
    view.setInt32(8 * c, bias[c], true)
    view.setFloat32(8 * c + 4, multiplier[c], true)
  }
  return new Uint8Array(view.buffer)
}

/** Height and width of what a sliding kernel gives. */
export function outputSize({
  shape,
  kernel,
  strides = [1, 1],
  dilations = [1, 1],
  pads = [0, 0, 0, 0],
}: Sliding): readonly [number, number] {
  const along = (axis: 0 | 1) =>
    Math.floor(
      (shape[2 + axis] + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1) /
        strides[axis],
    ) + 1
  return [along(0), along(1)]
}

const zeroOf = ({ zero = 0 }: { readonly zero?: number }) => zero
const clampOf = ({ type, clamp }: Result) => clamp ?? rangeOf[type]

function encodeConv2d(s: Conv2dStep): Encoded {
  const { shape, kernel, strides = [1, 1], dilations = [1, 1], pads = [0, 0, 0, 0], groups = 1, o } = s
  const [n, c, h, w] = shape
  const [oh, ow] = outputSize(s)
  const block = new Block(96)
    .u8(0x04, dataTypes[s.x.type], dataTypes[s.w.type], dataTypes[s.y.type])
    .i32(0x08, zeroOf(s.x), zeroOf(s.w), zeroOf(s.y), ...clampOf(s.y))
    .i32(0x1c, n, c, h, w, o, groups, ...kernel, ...strides, ...dilations, ...pads)
  return withBlock(opcodes.conv2d, block, [
    { at: s.x.at, sizeBytes: n * c * h * w },
    { at: s.w.at, sizeBytes: (o * c * kernel[0] * kernel[1]) / groups },
    { at: s.channels, sizeBytes: 8 * o },
    { at: s.y.at, sizeBytes: widthOf[s.y.type] * n * o * oh * ow },
  ])
}

function encodeMatmul(s: MatmulStep): Encoded {
  const { batch = 1, m, k, n } = s
  const flags = Number(s.transposeB ?? false) | (Number(s.batchB ?? false) << 1)
  const block = new Block(48)
    .u8(0x04, dataTypes[s.a.type], dataTypes[s.b.type], dataTypes[s.y.type], flags)
    .i32(0x08, zeroOf(s.a), zeroOf(s.b), zeroOf(s.y), ...clampOf(s.y))
    .i32(0x1c, batch, m, k, n)
  return withBlock(opcodes.matmul, block, [
    { at: s.a.at, sizeBytes: batch * m * k },
    { at: s.b.at, sizeBytes: (s.batchB ? batch : 1) * k * n },
    { at: s.channels, sizeBytes: 8 * n },
    { at: s.y.at, sizeBytes: widthOf[s.y.type] * batch * m * n },
  ])
}

function encodePool(s: PoolStep): Encoded {
  const { shape, kernel, strides = [1, 1], dilations = [1, 1], pads = [0, 0, 0, 0] } = s
  const [n, c, h, w] = shape
  const [oh, ow] = outputSize(s)
  const average = s.mode === 'average'
  if (s.x.type !== s.y.type) {
    throw accelError(
      'ERR_ACCEL_INVALID_SHAPE',
      `Pooling wants one type for input and output, found ${s.x.type} and ${s.y.type}`,
    )
  }
  const block = new Block(96)
    .u8(0x04, dataTypes[s.x.type], Number(average), Number(s.countPadding ?? false))
    .i32(0x08, average ? zeroOf(s.x) : 0, average ? zeroOf(s.y) : 0, ...clampOf(s.y))
    .f32(0x18, average ? (s.multiplier ?? 1) : 0)
    .i32(0x1c, n, c, h, w, ...kernel, ...strides, ...dilations, ...pads)
  return withBlock(opcodes.pool, block, [
    { at: s.x.at, sizeBytes: n * c * h * w },
    undefined,
    undefined,
    { at: s.y.at, sizeBytes: n * c * oh * ow },
  ])
}

function encodeAdd(s: AddStep): Encoded {
  const block = new Block(48)
    .u8(0x04, dataTypes[s.a.type], dataTypes[s.b.type], dataTypes[s.y.type])
    .i32(0x08, zeroOf(s.a), zeroOf(s.b), zeroOf(s.y), ...clampOf(s.y))
    .f32(0x1c, s.a.scale, s.b.scale, s.y.scale)
    .i32(0x28, s.length)
  const sizeBytes = s.length
  return withBlock(opcodes.add, block, [
    { at: s.a.at, sizeBytes },
    { at: s.b.at, sizeBytes },
    undefined,
    { at: s.y.at, sizeBytes },
  ])
}

function encodeRequantise(s: RequantiseStep): Encoded {
  const [outer, channels, inner] = s.shape
  const size = outer * channels * inner
  const block = new Block(48)
    .u8(0x04, dataTypes[s.x.type], 0, dataTypes[s.y.type])
    .i32(0x08, zeroOf(s.x))
    .i32(0x10, zeroOf(s.y), ...clampOf(s.y), outer, channels, inner)
  return withBlock(opcodes.requantise, block, [
    { at: s.x.at, sizeBytes: widthOf[s.x.type] * size },
    undefined,
    { at: s.channels, sizeBytes: 8 * channels },
    { at: s.y.at, sizeBytes: size },
  ])
}

function withBlock(opcode: number, block: Block, ranges: Encoded['ranges']): Encoded {
  return { opcode, ranges, block: block.bytes, length: 0, pattern: 0 }
}

function plain(opcode: number, length: number, ranges: Encoded['ranges'], pattern = 0): Encoded {
  return { opcode, ranges, length: int32(length), pattern }
}

/** Puts a step into the device's terms. What the device would refuse in a field is left for it to refuse. */
export function encodeStep(step: Step): Encoded {
  switch (step.op) {
    case 'conv2d':
      return encodeConv2d(step)
    case 'matmul':
      return encodeMatmul(step)
    case 'pool':
      return encodePool(step)
    case 'add':
      return encodeAdd(step)
    case 'requantise':
      return encodeRequantise(step)
    case 'lut':
      return plain(opcodes.lut, step.length, [
        { at: step.x, sizeBytes: step.length },
        { at: step.table, sizeBytes: 256 },
        undefined,
        { at: step.y, sizeBytes: step.length },
      ])
    case 'copy':
      return plain(opcodes.copy, step.length, [
        { at: step.x, sizeBytes: step.length },
        undefined,
        undefined,
        { at: step.y, sizeBytes: step.length },
      ])
    case 'fill':
      return plain(
        opcodes.fill,
        step.length,
        [undefined, undefined, undefined, { at: step.y, sizeBytes: step.length }],
        step.pattern,
      )
    case 'nop':
      return plain(opcodes.nop, 0, [])
    default:
      return encodeTensorStep(step)
  }
}
