import { accelError } from '@uaccel/uapi'
import { Block } from './block.js'
import type { Encoded, Range } from './operations.js'
import {
  type AnyTensorStep,
  computeTypes,
  type Indices,
  normaliseFunctions,
  reduceFunctions,
  resampleFunctions,
  type Stage,
  type StageSource,
  stageFunctions,
  TENSOR_BLOCK_BYTES,
  tensorOpcodes,
  tensorTypes,
  type View,
  type Window,
} from './tensor-steps.js'

/** Offsets and counts of the tensor block: docs/devices/npu.md, 7.6, 9.15 and 9.17. */
const MAX_RANK = 8
const MAX_STAGES = 8
const MAX_WINDOWS = 2
const MAX_AXES = 4
const DIMS = 0x10
const A_STRIDES = 0x30
const STRIDES_BYTES = 0x20
const OWN = 0xb0
const WINDOW_BYTES = 0x14
const STAGES = 0xe0
const STAGE_BYTES = 0x10

/** Where arguments of stages come from: 7.6. */
const sources = { result: 0, a: 1, b: 2, c: 3, alpha: 4, beta: 5 } as const
const FIRST_INDEX = 8
/** Functions from here on take y, and z. */
const TWO_ARGUMENTS = 0x40
const THREE_ARGUMENTS = 0x60

/** Flags: 7.6, 9.12 and 9.14. */
const TRANSPOSED = 1
const COUNT_PADDING = 2
const EXCLUSIVE = 1

function wrong(step: AnyTensorStep, what: string) {
  return accelError('ERR_ACCEL_INVALID_SHAPE', `Step ${step.op} of an NPU job wants ${what}`)
}

/** A name that is not in the table would go out as another. */
function codeOf<K extends string>(table: Readonly<Record<K, number>>, name: K): number {
  if (Object.hasOwn(table, name)) return table[name]
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `An NPU step wants one of ${Object.keys(table).join(', ')}, found ${name}`,
  )
}

function typeOf({ type }: View) {
  if (Object.hasOwn(tensorTypes, type)) return tensorTypes[type]
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    `A tensor of an NPU step wants one of the types ${Object.keys(tensorTypes).join(', ')}, found ${type}`,
  )
}

function checkBelow(step: AnyTensorStep, what: string, value: number, limit: number): void {
  if (Number.isInteger(value) && value >= 0 && value < limit) return
  throw wrong(step, `${what} below ${limit}, found ${value}`)
}

function checkCount(step: AnyTensorStep, what: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return
  throw wrong(step, `${what} of at least 1, found ${value}`)
}

/** A number of elements, and how far apart they are. */
type Extent = readonly [count: number, stride: number]

/** The range that an operand may touch, 9.17: what lies before the element of index 0 is there where strides are negative. */
function rangeOf(view: View, counts: readonly number[], more: readonly Extent[] = []): Range {
  const { bytes } = typeOf(view)
  let before = 0
  let behind = 1
  const reach = ([count, stride]: Extent) => {
    const far = (count - 1) * stride
    if (far < 0) before -= far
    else behind += far
  }
  for (const [r, count] of counts.entries()) reach([count, view.strides[r]!])
  for (const extent of more) reach(extent)
  return { at: view.at, sizeBytes: (before + behind) * bytes, beforeBytes: before * bytes }
}

function putStage(step: AnyTensorStep, block: Block, s: number, stage: Stage): void {
  const fn = codeOf(stageFunctions, stage.fn)
  const wantsY = fn >= TWO_ARGUMENTS
  const wantsZ = fn >= THREE_ARGUMENTS
  if ((stage.y !== undefined) !== wantsY || (stage.z !== undefined) !== wantsZ) {
    const wanted = wantsZ ? 'y and z' : wantsY ? 'y and no z' : 'neither y nor z'
    throw wrong(step, `${wanted} for ${stage.fn} of stage ${s}`)
  }
  const code = (source: StageSource | undefined): number => {
    if (typeof source !== 'object') return codeOf(sources, source ?? 'result')
    checkBelow(step, `an index for stage ${s}`, source.index, step.dims.length)
    return FIRST_INDEX + source.index
  }
  const at = STAGES + STAGE_BYTES * s
  block.u8(at, fn, code(stage.x), code(stage.y), code(stage.z))
  const { alpha = 0, beta = 0 } = stage
  if (step.compute === 'float32') block.f32(at + 4, alpha, beta)
  else if (step.compute === 'uint32') block.u32(at + 4, alpha, beta)
  else block.i32(at + 4, alpha, beta)
}

function putWindows(step: AnyTensorStep, block: Block, windows: readonly Window[]): void {
  if (windows.length > MAX_WINDOWS) {
    throw wrong(step, `at most ${MAX_WINDOWS} windows, found ${windows.length}`)
  }
  for (const [w, { size, out, kernel, stride, dilation, pad }] of windows.entries()) {
    const { length } = step.dims
    checkCount(step, `a size of window ${w}`, size)
    checkBelow(step, `a dimension for window ${w}`, out, length)
    checkBelow(step, `a dimension inside of window ${w}`, kernel, length)
    const at = OWN + WINDOW_BYTES * w
    block
      .u32(at, size)
      .u8(at + 4, out, kernel)
      .u32(at + 8, stride, dilation, pad)
  }
}

function putIndices(step: AnyTensorStep, block: Block, { stride, axes }: Indices): void {
  if (axes.length < 1 || axes.length > MAX_AXES) {
    throw wrong(step, `indices for 1 to ${MAX_AXES} axes, found ${axes.length}`)
  }
  block.u8(OWN, axes.length).i32(OWN + 4, stride)
  for (const [k, axis] of axes.entries()) {
    checkCount(step, `a size of axis ${k}`, axis.size)
    block.u32(OWN + 0x08 + 4 * k, axis.size).i32(OWN + 0x18 + 4 * k, axis.stride)
  }
}

/** What the operations differ in: the bytes `INNER`, `FUNCTION` and `FLAGS`, and their own part of the block. */
function putOwn(step: AnyTensorStep, block: Block): void {
  const common = (inner: number, fn: number, flags: number) => {
    if (inner !== 0) checkBelow(step, 'inner dimensions', inner, step.dims.length + 1)
    block.u8(0x09, inner, fn, flags)
  }
  switch (step.op) {
    case 'elementwise':
      return
    case 'contract':
      common(step.inner, 0, step.transposed ? TRANSPOSED : 0)
      putWindows(step, block, step.windows ?? [])
      return
    case 'reduce':
      common(
        step.inner,
        codeOf(reduceFunctions, step.fn),
        (step.transposed ? TRANSPOSED : 0) | (step.countPadding ? COUNT_PADDING : 0),
      )
      putWindows(step, block, step.windows ?? [])
      return
    case 'normalise':
      common(step.inner, codeOf(normaliseFunctions, step.fn), 0)
      block.f32(OWN, step.epsilon ?? 0)
      return
    case 'scan':
      common(1, 0, step.exclusive ? EXCLUSIVE : 0)
      return
    case 'gather':
    case 'scatter':
      putIndices(step, block, step.indices)
      return
    case 'resample': {
      common(0, codeOf(resampleFunctions, step.fn), 0)
      for (const [i, { dimension, size, scale }] of step.axes.entries()) {
        checkBelow(step, `a dimension for axis ${i}`, dimension, step.dims.length)
        checkCount(step, `a size of axis ${i}`, size)
        block
          .u8(OWN + i, dimension)
          .u32(OWN + 4 + 4 * i, size)
          .f32(OWN + 0x0c + 4 * i, scale)
      }
    }
  }
}

/** The ranges of A, B, C and D, 9.17. */
function rangesOf(step: AnyTensorStep): Encoded['ranges'] {
  const { dims, a, b, c, d } = step
  const ofA = [...dims]
  let axes: readonly Extent[] = []
  let components: readonly Extent[] = []
  if (step.op === 'contract' || step.op === 'reduce') {
    for (const { out, size } of step.windows ?? []) ofA[out] = size
  } else if (step.op === 'resample') {
    for (const { dimension, size } of step.axes) ofA[dimension] = size
  } else if (step.op === 'gather' || step.op === 'scatter') {
    axes = step.indices.axes.map(({ size, stride }) => [size, stride])
    components = [[axes.length, step.indices.stride]]
  }
  return [
    rangeOf(a, ofA, step.op === 'gather' ? axes : []),
    b && rangeOf(b, dims, components),
    c && rangeOf(c, dims),
    rangeOf(d, dims, step.op === 'scatter' ? axes : []),
  ]
}

/**
 * Puts a step on tensors with strides into the device's terms. What the device would refuse in a field is left for it to refuse, but
 * for what the layout of the block and the ranges of memory need.
 * Errors: `ERR_ACCEL_INVALID_SHAPE`, `ERR_ACCEL_OUT_OF_RANGE` for a number that its field does not hold, `ERR_ACCEL_INVALID_ARGUMENT` for an unknown name.
 */
export function encodeTensorStep(step: AnyTensorStep): Encoded {
  const { dims, stages = [] } = step
  const rank = dims.length
  if (rank < 1 || rank > MAX_RANK) throw wrong(step, `1 to ${MAX_RANK} dimensions, found ${rank}`)
  for (const dim of dims) checkCount(step, 'dimensions', dim)
  if (stages.length > MAX_STAGES) {
    throw wrong(step, `at most ${MAX_STAGES} stages, found ${stages.length}`)
  }
  const block = new Block(TENSOR_BLOCK_BYTES)
  block
    .u8(0x08, rank)
    .u8(0x0c, codeOf(computeTypes, step.compute), stages.length)
    .u32(DIMS, ...dims)
  for (const [slot, view] of [step.a, step.b, step.c, step.d].entries()) {
    if (view === undefined) continue
    if (view.strides.length !== rank) {
      throw wrong(
        step,
        `a stride for each of ${rank} dimensions, found ${view.strides.length} for operand ${'abcd'[slot]}`,
      )
    }
    block.u8(0x04 + slot, typeOf(view).code).i32(A_STRIDES + STRIDES_BYTES * slot, ...view.strides)
  }
  putOwn(step, block)
  for (const [s, stage] of stages.entries()) putStage(step, block, s, stage)
  return {
    opcode: tensorOpcodes[step.op],
    ranges: rangesOf(step),
    block: block.bytes,
    length: 0,
    pattern: 0,
  }
}
