import { limits, Refusal } from '../blocks.js'
import { Address, Status } from '../descriptor.js'
import {
  type Axis,
  type Indices,
  Normalisation,
  Reduction,
  type Stage,
  TensorOpcode,
  type TensorParams,
  Type,
  type View,
  type Window,
} from './params.js'
import { every, integerReductions, narrow, type Rules, rules } from './rules.js'
import { existsIn } from './stages.js'

/** Size of a tensor block (docs/devices/npu.md, 7.6). */
export const BLOCK_BYTES = 352
const MAX_RANK = 8
const MAX_STAGES = 8
const DIMS = 0x10
const STRIDES = { a: 0x30, b: 0x50, c: 0x70, d: 0x90 } as const
const OWN = 0xb0
const WINDOW_BYTES = 0x14
const WINDOWS = 2
const MAX_AXES = 4
const STAGES = 0xe0
const STAGE_BYTES = 0x10

/** A block as it is read: every field where 7.6 has it. */
class Fields {
  readonly view: DataView
  readonly opcode: number
  readonly rules: Rules
  readonly rank: number
  readonly inner: number
  readonly fn: number
  readonly compute: number

  constructor(opcode: number, bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.opcode = opcode
    this.rules = rules[opcode]
    this.rank = this.u8(0x08)
    this.inner = this.u8(0x09)
    this.fn = this.u8(0x0a)
    this.compute = this.u8(0x0c)
  }
  u8(at: number): number {
    return this.view.getUint8(at)
  }
  u32(at: number): number {
    return this.view.getUint32(at, true)
  }
  i32(at: number): number {
    return this.view.getInt32(at, true)
  }
  f32(at: number): number {
    return this.view.getFloat32(at, true)
  }
  /** Dimensions that results have. */
  get outer(): number {
    return this.rules.reduces ? this.rank - this.inner : this.rank
  }
  get isArg(): boolean {
    return (
      this.opcode === TensorOpcode.REDUCE && (this.fn === Reduction.ARG_MIN || this.fn === Reduction.ARG_MAX)
    )
  }
  wants(at: number, good: boolean): void {
    if (!good) throw new Refusal(Status.INVALID_PARAM, at)
  }
  /** Words that are reserved. */
  wantsZeros(from: number, end: number): void {
    for (let at = from; at < end; at += 4) this.wants(at, this.u32(at) === 0)
  }
  /** A count in a word. */
  wantsCount(at: number, least: number, most: number): void {
    const found = this.u32(at)
    this.wants(at, found >= least && found <= most)
  }
}

/** Order 6 of 10.1. */
function checkTypes(f: Fields): void {
  const { rules: rule, compute } = f
  const wants = (at: number, of: readonly number[]) => {
    if (!of.includes(f.u8(at))) throw new Refusal(Status.INVALID_TYPE, at)
  }
  wants(0x04, rule.a ?? (compute === Type.none ? every : narrow))
  const others = compute === Type.none ? [Type.none] : [Type.none, ...narrow]
  wants(0x05, rule.b ?? others)
  wants(0x06, others)
  wants(0x07, compute === Type.none ? [f.u8(0x04)] : f.isArg ? [Type.int32, Type.int64] : narrow)
  wants(0x0c, rule.computes)
}

/** Order 7 of 10.1: ranges of fields in ascending offset, then what strides shall be by other fields. */
function checkFields(f: Fields): void {
  const { rules: rule, rank, inner } = f
  f.wants(0x08, rank >= 1 && rank <= MAX_RANK)
  f.wants(0x09, rule.inner === 'any' ? inner <= rank : inner === rule.inner)
  f.wants(
    0x0a,
    f.opcode === TensorOpcode.REDUCE && f.compute !== Type.float32
      ? integerReductions.includes(f.fn)
      : f.fn <= rule.lastFunction,
  )
  f.wants(0x0b, (f.u8(0x0b) & ~rule.flags) === 0)
  f.wants(0x0d, f.u8(0x0d) <= (f.compute === Type.none || f.isArg ? 0 : MAX_STAGES))
  f.wants(0x0e, f.view.getUint16(0x0e, true) === 0)
  for (let r = 0; r < rank; r++) f.wantsCount(DIMS + 4 * r, 1, limits.elements)
  f.wantsZeros(DIMS + 4 * rank, STRIDES.a)
  for (const [i, from] of Object.values(STRIDES).entries()) {
    const end = from + 4 * MAX_RANK
    f.wantsZeros(f.u8(0x04 + i) === Type.none ? from : from + 4 * rank, end)
  }
  const { own } = rule
  if (own === 'windows') checkWindows(f)
  else if (own === 'indices') checkIndices(f)
  else if (own === 'axes') checkAxes(f)
  else {
    const epsilon = own === 'epsilon' && f.fn === Normalisation.STANDARDISE
    f.wantsZeros(epsilon ? OWN + 4 : OWN, STAGES)
  }
  checkStages(f)
  checkStrides(f)
}

function checkWindows(f: Fields): void {
  for (let w = 0; w < WINDOWS; w++) {
    const at = OWN + WINDOW_BYTES * w
    f.wantsCount(at, 0, f.isArg ? 0 : limits.dim)
    const there = f.u32(at) !== 0
    const [out, kernel] = [f.u8(at + 4), f.u8(at + 5)]
    const taken = w > 0 && f.u32(OWN) !== 0
    f.wants(at + 4, there ? out < f.outer && !(taken && out === f.u8(OWN + 4)) : out === 0)
    const inside = kernel >= f.outer && kernel < f.rank && !(taken && kernel === f.u8(OWN + 5))
    f.wants(at + 5, there ? inside : kernel === 0)
    f.wants(at + 6, f.view.getUint16(at + 6, true) === 0)
    const [least, most] = there ? [1, limits.dim] : [0, 0]
    f.wantsCount(at + 0x08, least, most)
    f.wantsCount(at + 0x0c, least, most)
    f.wantsCount(at + 0x10, 0, most)
  }
  f.wantsZeros(OWN + WINDOW_BYTES * WINDOWS, STAGES)
}

function checkIndices(f: Fields): void {
  const axes = f.u8(OWN)
  f.wants(OWN, axes >= 1 && axes <= MAX_AXES)
  for (let at = OWN + 1; at < OWN + 4; at++) f.wants(at, f.u8(at) === 0)
  for (let k = 0; k < axes; k++) f.wantsCount(OWN + 8 + 4 * k, 1, limits.elements)
  f.wantsZeros(OWN + 8 + 4 * axes, OWN + 0x18)
  f.wantsZeros(OWN + 0x18 + 4 * axes, STAGES)
}

function checkAxes(f: Fields): void {
  const [v, h] = [f.u8(OWN), f.u8(OWN + 1)]
  f.wants(OWN, v < f.rank)
  f.wants(OWN + 1, h < f.rank && h !== v)
  f.wants(OWN + 2, f.view.getUint16(OWN + 2, true) === 0)
  f.wantsCount(OWN + 4, 1, limits.elements)
  f.wantsCount(OWN + 8, 1, limits.elements)
  f.wantsZeros(OWN + 0x14, STAGES)
}

function checkStages(f: Fields): void {
  const count = f.u8(0x0d)
  for (let s = 0; s < count; s++) {
    const at = STAGES + STAGE_BYTES * s
    const fn = f.u8(at)
    f.wants(at, existsIn(f.compute, fn))
    const taken = [true, fn >= 0x40, fn >= 0x60]
    for (const [i, takes] of taken.entries()) {
      const source = f.u8(at + 1 + i)
      f.wants(at + 1 + i, takes ? isSource(f, source) : source === 0)
    }
    f.wantsZeros(at + 0x0c, at + STAGE_BYTES)
  }
  f.wantsZeros(STAGES + STAGE_BYTES * count, BLOCK_BYTES)
}

function isSource(f: Fields, source: number): boolean {
  if (source === 0 || source === 4 || source === 5) return true
  if (source >= 8) return source - 8 < f.outer
  return f.rules.stageOperands.includes(source) && f.u8(0x03 + source) !== Type.none
}

/** Strides that shall be 0: of A inside of a window, of others for what is reduced; and those of D that shall not be. */
function checkStrides(f: Fields): void {
  for (let w = 0; f.rules.own === 'windows' && w < WINDOWS; w++) {
    const at = OWN + WINDOW_BYTES * w
    if (f.u32(at) === 0) continue
    const stride = STRIDES.a + 4 * f.u8(at + 5)
    f.wants(stride, f.i32(stride) === 0)
  }
  if (f.rules.reduces) {
    const of = f.opcode === TensorOpcode.CONTRACT ? ([STRIDES.c] as const) : [STRIDES.b, STRIDES.c]
    for (const from of [...of, STRIDES.d]) f.wantsZeros(from + 4 * f.outer, from + 4 * f.rank)
  }
  if (f.opcode === TensorOpcode.SCATTER) return
  for (let r = 0; r < f.outer; r++) {
    const at = STRIDES.d + 4 * r
    f.wants(at, f.i32(at) !== 0 || f.u32(DIMS + 4 * r) === 1)
  }
}

function stagesOf(f: Fields): Stage[] {
  return Array.from({ length: f.u8(0x0d) }, (_, s) => {
    const at = STAGES + STAGE_BYTES * s
    const constant = (offset: number) =>
      f.compute === Type.float32 ? f.f32(offset) : f.compute === Type.int32 ? f.i32(offset) : f.u32(offset)
    return {
      fn: f.u8(at),
      x: f.u8(at + 1),
      y: f.u8(at + 2),
      z: f.u8(at + 3),
      alpha: constant(at + 4),
      beta: constant(at + 8),
    }
  })
}

function windowsOf(f: Fields): Window[] {
  if (f.rules.own !== 'windows') return []
  return Array.from({ length: WINDOWS }, (_, w) => {
    const at = OWN + WINDOW_BYTES * w
    return {
      size: f.u32(at),
      out: f.u8(at + 4),
      kernel: f.u8(at + 5),
      stride: f.u32(at + 0x08),
      dilation: f.u32(at + 0x0c),
      pad: f.u32(at + 0x10),
    }
  }).filter(({ size }) => size > 0)
}

function indicesOf(f: Fields): Indices | undefined {
  if (f.rules.own !== 'indices') return undefined
  const axes = { length: f.u8(OWN) }
  return {
    stride: f.i32(OWN + 4),
    sizes: Array.from(axes, (_, k) => f.u32(OWN + 8 + 4 * k)),
    strides: Array.from(axes, (_, k) => f.i32(OWN + 0x18 + 4 * k)),
  }
}

function axesOf(f: Fields): readonly [Axis, Axis] | undefined {
  if (f.rules.own !== 'axes') return undefined
  const axis = (i: number) => ({
    dimension: f.u8(OWN + i),
    size: f.u32(OWN + 4 + 4 * i),
    scale: f.f32(OWN + 0x0c + 4 * i),
  })
  return [axis(0), axis(1)]
}

/** A view and its reach: `moves` are pairs of places and the stride between them. */
function viewOf(
  type: number,
  strides: readonly number[],
  moves: readonly (readonly [number, number])[],
): View {
  let before = 0
  let after = 1
  for (const [places, stride] of moves) {
    const reach = (places - 1) * stride
    if (reach < 0) before -= reach
    else after += reach
  }
  return { type, strides, before, after }
}

/**
 * Takes a tensor block apart and makes the checks of orders 6 to 9 (10.1); those of order 5 were made. Throws a `Refusal`.
 */
export function parseTensorBlock(opcode: number, bytes: Uint8Array): TensorParams {
  const f = new Fields(opcode, bytes)
  checkTypes(f)
  checkFields(f)
  const dims = Array.from({ length: f.rank }, (_, r) => f.u32(DIMS + 4 * r))
  const windows = windowsOf(f)
  const indices = indicesOf(f)
  const axes = axesOf(f)

  const strides = (of: keyof typeof STRIDES) => dims.map((_, r) => f.i32(STRIDES[of] + 4 * r))
  const steps = (of: readonly number[]) => of.map((stride, r) => [dims[r], stride] as const)
  const indexed = (indices?.sizes ?? []).map((size, k) => [size, indices!.strides[k]] as const)
  const ofA = strides('a')
  const extents = dims.slice()
  for (const { out, size } of windows) extents[out] = size
  for (const { dimension, size } of axes ?? []) extents[dimension] = size
  const stepsA = ofA.map((stride, r) => [extents[r], stride] as const)
  const scatters = opcode === TensorOpcode.SCATTER
  const other = (of: 'b' | 'c', at: number) =>
    f.u8(at) === Type.none ? undefined : viewOf(f.u8(at), strides(of), steps(strides(of)))
  const ofB = other('b', 0x05)
  const p: TensorParams = {
    opcode,
    rank: f.rank,
    inner: f.inner,
    fn: f.fn,
    flags: f.u8(0x0b),
    compute: f.compute,
    dims,
    a: viewOf(f.u8(0x04), ofA, scatters ? stepsA : [...stepsA, ...indexed]),
    b:
      ofB === undefined || indices === undefined
        ? ofB
        : viewOf(ofB.type, ofB.strides, [...steps(ofB.strides), [indices.sizes.length, indices.stride]]),
    c: other('c', 0x06),
    d: viewOf(
      f.u8(0x07),
      strides('d'),
      scatters ? [...steps(strides('d')), ...indexed] : steps(strides('d')),
    ),
    stages: stagesOf(f),
    windows,
    indices,
    axes,
    epsilon: f.rules.own === 'epsilon' ? f.f32(OWN) : 0,
  }
  checkLimits(p)
  checkArithmetic(p)
  return p
}

/** Order 8 of 10.1. */
function checkLimits(p: TensorParams): void {
  const views: readonly (readonly [number, View | undefined])[] = [
    [Address.A, p.a],
    [Address.B, p.b],
    [Address.C, p.c],
    [Address.D, p.d],
  ]
  for (const [slot, view] of views) {
    if (view !== undefined && view.before + view.after > limits.elements)
      throw new Refusal(Status.LIMIT, slot)
  }
  if (p.dims.reduce((product, dim) => product * dim, 1) > limits.macs) throw new Refusal(Status.LIMIT, 0)
}

/** Order 9 of 10.1. */
function checkArithmetic(p: TensorParams): void {
  if (!(Number.isFinite(p.epsilon) && p.epsilon >= 0)) throw new Refusal(Status.ARITHMETIC, OWN)
  for (const [i, { scale }] of (p.axes ?? []).entries()) {
    if (!(Number.isFinite(scale) && scale > 0)) throw new Refusal(Status.ARITHMETIC, OWN + 0x0c + 4 * i)
  }
}
