import { outputSize } from './arithmetic.js'
import { Status } from './descriptor.js'

/** What a check found: a status of docs/devices/npu.md, 10.1, and its detail. */
export class Refusal {
  readonly status: number
  readonly detail: number
  constructor(status: number, detail: number) {
    this.status = status
    this.detail = detail >>> 0
  }
}

/** Limits that the capability registers state (4.1). */
export const limits = { dim: 0xffff, elements: 2 ** 26, macs: 2 ** 32 } as const

export const DType = { uint8: 1, int8: 2, int32: 3 } as const
const quantised = [DType.uint8, DType.int8]
const anyOutput = [...quantised, DType.int32]
const ranges: Record<number, readonly [number, number]> = {
  [DType.uint8]: [0, 255],
  [DType.int8]: [-128, 127],
  [DType.int32]: [-(2 ** 31), 2 ** 31 - 1],
}

/** A field of a parameter block: where it is, and what section 9 allows it to be. */
type Field =
  | { at: number; is: 'type'; of: readonly number[] }
  | { at: number; is: 'byte'; max: number }
  | { at: number; is: 'count'; min: number; max: number }
  | { at: number; is: 'zero'; of: string }
  | { at: number; is: 'clamp' }
  | { at: number; is: 'scale' | 'multiplier' }

const type = (at: number, of: readonly number[] = quantised): Field => ({ at, is: 'type', of })
const byte = (at: number, max = 0): Field => ({ at, is: 'byte', max })
const dim = (at: number): Field => ({ at, is: 'count', min: 1, max: limits.dim })
const pad = (at: number): Field => ({ at, is: 'count', min: 0, max: limits.dim })
const many = (at: number): Field => ({ at, is: 'count', min: 1, max: limits.elements })
const reserved = (at: number): Field => ({ at, is: 'count', min: 0, max: 0 })
const zero = (at: number, of: string): Field => ({ at, is: 'zero', of })
const clamp = (at: number): Field => ({ at, is: 'clamp' })

/** A parameter block: its size, its fields in ascending offset (9.4 to 9.9), and the name of its output type. */
export interface Layout {
  readonly size: number
  readonly output: string
  readonly fields: Readonly<Record<string, Field>>
}

export const convLayout: Layout = {
  size: 96,
  output: 'yType',
  fields: {
    xType: type(0x04),
    wType: type(0x05),
    yType: type(0x06, anyOutput),
    r0: byte(0x07),
    xZero: zero(0x08, 'xType'),
    wZero: zero(0x0c, 'wType'),
    yZero: zero(0x10, 'yType'),
    min: clamp(0x14),
    max: clamp(0x18),
    n: dim(0x1c),
    c: dim(0x20),
    h: dim(0x24),
    w: dim(0x28),
    o: dim(0x2c),
    groups: dim(0x30),
    kh: dim(0x34),
    kw: dim(0x38),
    sh: dim(0x3c),
    sw: dim(0x40),
    dh: dim(0x44),
    dw: dim(0x48),
    padTop: pad(0x4c),
    padLeft: pad(0x50),
    padBottom: pad(0x54),
    padRight: pad(0x58),
    r1: reserved(0x5c),
  },
}

export const matmulLayout: Layout = {
  size: 48,
  output: 'yType',
  fields: {
    aType: type(0x04),
    bType: type(0x05),
    yType: type(0x06, anyOutput),
    flags: byte(0x07, 3),
    aZero: zero(0x08, 'aType'),
    bZero: zero(0x0c, 'bType'),
    yZero: zero(0x10, 'yType'),
    min: clamp(0x14),
    max: clamp(0x18),
    batch: dim(0x1c),
    m: dim(0x20),
    k: dim(0x24),
    n: dim(0x28),
    r0: reserved(0x2c),
  },
}

export const poolLayout: Layout = {
  size: 96,
  output: 'type',
  fields: {
    type: type(0x04),
    mode: byte(0x05, 1),
    flags: byte(0x06, 1),
    r0: byte(0x07),
    xZero: zero(0x08, 'type'),
    yZero: zero(0x0c, 'type'),
    min: clamp(0x10),
    max: clamp(0x14),
    multiplier: { at: 0x18, is: 'multiplier' },
    n: dim(0x1c),
    c: dim(0x20),
    h: dim(0x24),
    w: dim(0x28),
    kh: dim(0x2c),
    kw: dim(0x30),
    sh: dim(0x34),
    sw: dim(0x38),
    dh: dim(0x3c),
    dw: dim(0x40),
    padTop: pad(0x44),
    padLeft: pad(0x48),
    padBottom: pad(0x4c),
    padRight: pad(0x50),
    r1: reserved(0x54),
    r2: reserved(0x58),
    r3: reserved(0x5c),
  },
}

export const addLayout: Layout = {
  size: 48,
  output: 'yType',
  fields: {
    aType: type(0x04),
    bType: type(0x05),
    yType: type(0x06),
    r0: byte(0x07),
    aZero: zero(0x08, 'aType'),
    bZero: zero(0x0c, 'bType'),
    yZero: zero(0x10, 'yType'),
    min: clamp(0x14),
    max: clamp(0x18),
    aScale: { at: 0x1c, is: 'scale' },
    bScale: { at: 0x20, is: 'scale' },
    yScale: { at: 0x24, is: 'scale' },
    length: many(0x28),
    r1: reserved(0x2c),
  },
}

export const requantiseLayout: Layout = {
  size: 48,
  output: 'yType',
  fields: {
    xType: type(0x04, anyOutput),
    r0: byte(0x05),
    yType: type(0x06),
    r1: byte(0x07),
    xZero: zero(0x08, 'xType'),
    r2: reserved(0x0c),
    yZero: zero(0x10, 'yType'),
    min: clamp(0x14),
    max: clamp(0x18),
    outer: many(0x1c),
    channels: dim(0x20),
    inner: many(0x24),
    r3: reserved(0x28),
    r4: reserved(0x2c),
  },
}

export type Params = Readonly<Record<string, number>>

function value(view: DataView, field: Field): number {
  if (field.is === 'type' || field.is === 'byte') return view.getUint8(field.at)
  if (field.is === 'count') return view.getUint32(field.at, true)
  if (field.is === 'zero' || field.is === 'clamp') return view.getInt32(field.at, true)
  return view.getFloat32(field.at, true)
}

/** The check of order 5 (10.1). */
export function checkHeader(bytes: Uint8Array, wanted: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = view.getUint16(0, true)
  const size = view.getUint16(2, true)
  if (version !== 1) throw new Refusal(Status.INVALID_VERSION, version)
  if (size !== wanted) throw new Refusal(Status.INVALID_PARAM_SIZE, size)
}

/** Takes a block apart and makes the checks of orders 6 and 7 (10.1). */
export function parseBlock(bytes: Uint8Array, layout: Layout): Params {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const params: Record<string, number> = {}
  for (const [name, field] of Object.entries(layout.fields)) params[name] = value(view, field)
  for (const [name, field] of Object.entries(layout.fields)) {
    if (field.is === 'type' && !field.of.includes(params[name]))
      throw new Refusal(Status.INVALID_TYPE, field.at)
  }
  const refuse = (name: string) => new Refusal(Status.INVALID_PARAM, layout.fields[name].at)
  const maximum = layout === poolLayout && params.mode === 0
  for (const [name, field] of Object.entries(layout.fields)) {
    const found = params[name]
    if (field.is === 'byte' && found > (maximum && name === 'flags' ? 0 : field.max)) throw refuse(name)
    if (field.is === 'count' && (found < field.min || found > field.max)) throw refuse(name)
    // Of a maximum, the three have to be all-zero bits; -0 is not.
    if (maximum && ['xZero', 'yZero', 'multiplier'].includes(name) && view.getUint32(field.at, true) !== 0)
      throw refuse(name)
  }
  if ('groups' in params && (params.c % params.groups !== 0 || params.o % params.groups !== 0))
    throw refuse('groups')
  if ('kh' in params) {
    if (params.h + params.padTop + params.padBottom < params.dh * (params.kh - 1) + 1) throw refuse('kh')
    if (params.w + params.padLeft + params.padRight < params.dw * (params.kw - 1) + 1) throw refuse('kw')
  }
  return params
}

/** The check of order 9: zero points, clamps, scales and multipliers (8.3). */
export function checkArithmetic(params: Params, layout: Layout): void {
  const [low, high] = ranges[params[layout.output]]
  for (const [name, field] of Object.entries(layout.fields)) {
    const found = params[name]
    let good = true
    if (field.is === 'zero') {
      const of = params[field.of]
      good = of === DType.int32 ? found === 0 : found >= ranges[of][0] && found <= ranges[of][1]
    } else if (field.is === 'clamp') good = found >= low && found <= high && params.min <= params.max
    else if (field.is === 'scale') good = Number.isFinite(found) && found > 0
    else if (field.is === 'multiplier') good = isMultiplier(found)
    if (!good) throw new Refusal(Status.ARITHMETIC, field.at)
  }
}

/** Finite, and the sign bit clear (8.3). */
export function isMultiplier(number: number): boolean {
  return Number.isFinite(number) && number >= 0 && !Object.is(number, -0)
}

/** Height and width that convolution and pooling give. */
export function outputOf(p: Params): readonly [number, number] {
  return [
    outputSize(p.h, p.kh, p.sh, p.dh, p.padTop + p.padBottom),
    outputSize(p.w, p.kw, p.sw, p.dw, p.padLeft + p.padRight),
  ]
}
