import { accelError } from '@uaccel/uapi'
import type { Value } from '@uaccel/webnn'
import type { Place, Placement } from '@uaccel/webnn/accelerator'
import type { ByPlace, Step } from '../operations.js'
import type { AnyTensorStep, ComputeType, Stage, StageSource, TensorType, Window } from '../tensor-steps.js'
import { broadcastStrides, coalesce, type Lane, product } from './strides.js'

/** A step whose places are numbers: what the lists of this accelerator are made of. */
export type Command = ByPlace<Step>

/** Limits of the device: docs/devices/npu.md, 4.1.4, 4.1.7 and 7.6. */
const MAX_RANK = 8
const MAX_ELEMENTS = 2 ** 26
const MAX_PRODUCT = 2 ** 32
const MAX_DIM = 65535

export const WIDTH: Readonly<Record<TensorType, number>> = {
  uint8: 1,
  int8: 1,
  int32: 4,
  float32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
}

/** Why a node is not done by this device. */
export const refuse = (reason: string): never => {
  throw accelError('ERR_ACCEL_UNSUPPORTED', reason)
}

/** A dimension that a step goes through. */
export interface Dim {
  readonly size: number
  /** The dimension of the result along which it goes; absent where it is reduced. */
  readonly axis?: number
  /** How far it gets there with each step; default 1. */
  readonly step?: number
}

/** An operand of a draft. */
export interface Operand {
  readonly at: Place
  readonly type: TensorType
  /** In elements, one for each dimension of the draft. */
  readonly strides: readonly number[]
  /** The element whose indices are all 0; default 0. */
  readonly base?: number
}

export type Letter = 'a' | 'b' | 'c'

/** A step before its dimensions are joined. */
export interface Draft {
  readonly op: AnyTensorStep['op']
  readonly dims: readonly Dim[]
  /** So many dimensions, the last ones, are reduced or gone along. */
  readonly inner?: number
  /** What is computed. */
  readonly output: Value
  /** The coordinate in it of the first element; default zeros. */
  readonly origin?: readonly number[]
  readonly operands: { readonly a: Operand; readonly b?: Operand; readonly c?: Operand }
  /** Where the result goes, where that is not `output` by its dimensions. */
  readonly d?: Operand
  /** Types in which it may compute, the best first. */
  readonly computes: readonly ComputeType[]
  readonly stages?: readonly Stage[]
  /** Operands that its stages may take besides the result; absent where it has no stages. */
  readonly takes?: readonly Letter[]
  /** Fields of the step that name dimensions, and those that do not. */
  readonly windows?: readonly Window[]
  readonly axes?: readonly { readonly dimension: number; readonly size: number; readonly scale: number }[]
  readonly fields?: Readonly<Record<string, unknown>>
}

export const typeOf = ({ descriptor }: Value): TensorType =>
  descriptor.dataType === 'float16' ? refuse('float16 is not computed by this device') : descriptor.dataType

/** An operand that is a value, with strides of its own. */
export const operand = ({ at }: Placement, value: Value, strides: readonly number[], base = 0): Operand => ({
  at: at(value),
  type: typeOf(value),
  strides,
  base,
})

/** A value that is broadcast to the result of a draft. */
export function broadcastOperand(
  placement: Placement,
  value: Value,
  { dims, output, origin = [] }: Pick<Draft, 'dims' | 'output' | 'origin'>,
): Operand {
  const strides = broadcastStrides(value.descriptor.shape, output.descriptor.shape)
  return operand(
    placement,
    value,
    dims.map(({ axis, step = 1 }) => (axis === undefined ? 0 : strides[axis]! * step)),
    origin.reduce((sum, at, axis) => sum + at * strides[axis]!, 0),
  )
}

/** The dimensions of a shape as they are. */
export const dimsOf = (shape: readonly number[]): Dim[] => shape.map((size, axis) => ({ size, axis }))

/**
 * Makes commands of a draft: joins its dimensions, and holds them to the limits of the device. What is too large for one command is shared out along
 * the first dimension.
 */
export function emit(draft: Draft, placement: Placement): Command[] {
  const { op, operands, stages = [], windows = [], axes, fields = {} } = draft
  const d = draft.d ?? broadcastOperand(placement, draft.output, draft)
  const views: Partial<Record<Letter | 'd', Operand>> = { ...operands, d }
  const present = Object.entries(views).filter(
    (entry): entry is [Letter | 'd', Operand] => entry[1] !== undefined,
  )
  const fixed = new Set<number>()
  for (const { out, kernel } of windows) fixed.add(out).add(kernel)
  for (const { dimension } of axes ?? []) fixed.add(dimension)
  for (const stage of stages)
    for (const source of [stage.x, stage.y, stage.z]) if (typeof source === 'object') fixed.add(source.index)
  const keepsInner = op === 'scan' || op === 'normalise'
  const lanes = draft.dims.map(({ size }, at) => ({
    size,
    strides: present.map(([, { strides }]) => strides[at]!),
    fixed: fixed.has(at) || (keepsInner && at === draft.dims.length - 1),
  }))
  const found = coalesce(lanes, draft.inner ?? 0)
  const nothing = { size: 1, strides: present.map(() => 0), fixed: true, was: -1 }
  const dims = found.lanes.length > 0 ? found.lanes : [nothing]
  if (dims.length > MAX_RANK) refuse(`${dims.length} dimensions: the device goes through at most ${MAX_RANK}`)
  for (const { size, stride, dilation, pad } of windows)
    if (Math.max(size, stride, dilation, pad) > MAX_DIM)
      refuse(
        `a window over ${size} elements with steps of ${stride} and padding ${pad}: at most ${MAX_DIM} are supported`,
      )
  const index = (was: number) => dims.findIndex((lane) => lane.was === was)
  const source = (from: StageSource): StageSource =>
    typeof from === 'object' ? { index: index(from.index) } : from
  const moves =
    op === 'gather' ||
    op === 'scatter' ||
    (op === 'elementwise' && stages.length === 0 && operands.a.type === d.type)
  const step = {
    op,
    compute: moves ? 'none' : (draft.computes[0] ?? refuse('no type to compute in is left')),
    ...(op === 'contract' || op === 'reduce' || op === 'normalise' ? { inner: found.inner } : {}),
    ...(windows.length > 0
      ? {
          windows: windows.map((window) => ({
            ...window,
            out: index(window.out),
            kernel: index(window.kernel),
          })),
        }
      : {}),
    ...(axes ? { axes: axes.map((axis) => ({ ...axis, dimension: index(axis.dimension) })) } : {}),
    ...(stages.length > 0
      ? {
          stages: stages.map((stage) => ({
            ...stage,
            ...(stage.x === undefined ? {} : { x: source(stage.x) }),
            ...(stage.y === undefined ? {} : { y: source(stage.y) }),
            ...(stage.z === undefined ? {} : { z: source(stage.z) }),
          })),
        }
      : {}),
    ...fields,
  }
  /** The command for `count` of the first dimension, from `start` on. */
  const part = (start: number, count: number): Command => {
    const own = Object.fromEntries(
      present.map(([letter, { at, type, base = 0 }], which) => {
        const first = base + start * dims[0]!.strides[which]!
        const offset = (at.offset ?? 0) + first * WIDTH[type]
        return [
          letter,
          {
            at: { buffer: at.buffer, offset },
            type,
            strides: dims.map(({ strides }) => strides[which]!),
          },
        ]
      }),
    )
    return {
      ...step,
      dims: dims.map(({ size }, at) => (at === 0 ? count : size)),
      ...own,
    } as unknown as Command
  }
  const { size: whole, fixed: isFixed } = dims[0]!
  const divides = !isFixed && found.inner < dims.length
  let count = whole
  while (divides && count > 1 && !fits(dims, count)) count = Math.ceil(count / 2)
  if (!fits(dims, count))
    refuse(
      `${product(dims.map(({ size }) => size))} steps of computation: the device does at most ${MAX_PRODUCT} in one command, on tensors of ${MAX_ELEMENTS} elements`,
    )
  const parts: Command[] = []
  for (let start = 0; start < whole; start += count) parts.push(part(start, Math.min(count, whole - start)))
  return parts
}

/** Whether a command with `count` of the first dimension is within the limits of the device. Windows go over no more than what is there. */
function fits(lanes: readonly Lane[], count: number): boolean {
  const sizes = lanes.map(({ size }, at) => (at === 0 ? count : size))
  const reach = (which: number) =>
    lanes.reduce((sum, { strides }, at) => sum + (sizes[at]! - 1) * Math.abs(strides[which]!), 1)
  return (
    product(sizes) <= MAX_PRODUCT &&
    sizes.every((size) => size <= MAX_ELEMENTS) &&
    lanes[0]!.strides.every((_, which) => reach(which) <= MAX_ELEMENTS)
  )
}
