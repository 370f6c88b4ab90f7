/** Enough of an assembler for the model's WebAssembly, SIMD included. A function's body is an array of bytes. */

// Opcodes and types of the WebAssembly core specification 2.0, sections 5.3 ("Types") and 5.4 ("Instructions"). SIMD ones have the prefix 0xfd.
export const I32 = 0x7f
export const V128 = 0x7b
export const LOOP = [0x03, 0x40]
export const END = [0x0b]
/** To the begin of the innermost loop, where what is on the stack is not 0. */
export const BR_IF = [0x0d, 0]
export const get = (local: number) => [0x20, local]
export const set = (local: number) => [0x21, local]
export const tee = (local: number) => [0x22, local]
export const i32 = (value: number) => [0x41, ...signed(value)]
export const NOT_EQUAL = [0x47]
/** Of numbers from 0 on. */
export const LESS = [0x49]
export const ADD = [0x6a]
export const SUB = [0x6b]
export const MUL = [0x6c]
/** Memory at the address on the stack plus `offset`. The second byte is log2 of the alignment that is promised. */
export const load = (offset: number) => [0xfd, 0x00, 2, ...unsigned(offset)]
export const load32 = (offset: number) => [0x28, 2, ...unsigned(offset)]
export const loadSplat32 = (offset: number) => [0xfd, 0x09, 2, ...unsigned(offset)]
export const store = (offset: number) => [0xfd, 0x0b, 2, ...unsigned(offset)]
/** A vector of four times the same `float32`. */
export const floats4 = (value: number) => {
  const one = [...new Uint8Array(Float32Array.of(value).buffer)]
  return [0xfd, 0x0c, ...one, ...one, ...one, ...one]
}
export const ZEROS = floats4(0)
/** 4 or 8 bytes, and zeros. */
export const load32Zero = (offset: number) => [0xfd, 0x5c, 0, ...unsigned(offset)]
export const load64Zero = (offset: number) => [0xfd, 0x5d, 0, ...unsigned(offset)]
/** The first 4 bytes of a vector. */
export const store32 = (offset: number) => [0xfd, 0x5a, 0, ...unsigned(offset), 0]
/** Of the 32 bytes of two vectors those at 16 places. */
export const shuffle = (...places: number[]) => [0xfd, 0x0d, ...places]
/** The low half of a vector, each number as one of twice the bits. */
export const I16X8_EXTEND_LOW_I8X16_S = [0xfd, ...unsigned(0x87)]
export const I16X8_EXTEND_LOW_I8X16_U = [0xfd, ...unsigned(0x89)]
export const I32X4_EXTEND_LOW_I16X8_S = [0xfd, ...unsigned(0xa7)]
export const I32X4_SPLAT = [0xfd, 0x11]
export const I32X4_SUB = [0xfd, ...unsigned(0xb1)]
export const F32X4_CONVERT_I32X4_S = [0xfd, ...unsigned(0xfa)]
/** Cut towards 0; the one saturates, the others narrow with saturation. */
export const I32X4_TRUNC_SAT_F32X4_S = [0xfd, ...unsigned(0xf8)]
export const I16X8_NARROW_I32X4_S = [0xfd, ...unsigned(0x85)]
export const I8X16_NARROW_I16X8_S = [0xfd, 0x65]
export const I8X16_NARROW_I16X8_U = [0xfd, 0x66]
/** Ties to even. */
export const F32X4_NEAREST = [0xfd, 0x6a]
export const F32X4_ADD = [0xfd, ...unsigned(0xe4)]
export const F32X4_SUB = [0xfd, ...unsigned(0xe5)]
export const F32X4_MUL = [0xfd, ...unsigned(0xe6)]
export const F32X4_DIV = [0xfd, ...unsigned(0xe7)]
export const F32X4_MIN = [0xfd, ...unsigned(0xe8)]
export const F32X4_MAX = [0xfd, ...unsigned(0xe9)]
export const I32X4_ADD = [0xfd, ...unsigned(0xae)]
/** Eight products of 16-bit numbers, and the sums of the two products of each lane. */
export const I32X4_DOT_I16X8 = [0xfd, ...unsigned(0xba)]

/** A function of `parameters` numbers `i32`; locals follow them, those of `i32` first. */
export interface Code {
  readonly parameters: number
  readonly i32s: number
  readonly v128s: number
  readonly body: readonly number[]
}

/** A module that imports a memory, `m.m`, and exports its functions. */
export function assemble(functions: Readonly<Record<string, Code>>): Uint8Array {
  const codes = Object.values(functions)
  const types = codes.map(({ parameters }) => [0x60, ...vector(new Array(parameters).fill([I32])), 0])
  const bodies = codes.map(({ i32s, v128s, body }) => {
    const bytes = [2, ...unsigned(i32s), I32, ...unsigned(v128s), V128, ...body, ...END]
    return [...unsigned(bytes.length), ...bytes]
  })
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, types),
    ...section(2, [[...name('m'), ...name('m'), 0x02, 0x00, 1]]), // a memory of at least one page
    ...section(
      3,
      codes.map((_, at) => unsigned(at)),
    ),
    ...section(
      7,
      Object.keys(functions).map((key, at) => [...name(key), 0x00, ...unsigned(at)]),
    ),
    ...section(10, bodies),
  ])
}

const vector = (items: readonly (readonly number[])[]) => [...unsigned(items.length), ...items.flat()]
const name = (text: string) => [text.length, ...Buffer.from(text)]

function section(id: number, items: readonly (readonly number[])[]): number[] {
  const bytes = vector(items)
  return [id, ...unsigned(bytes.length), ...bytes]
}

/** LEB128 of a number from 0 on. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)]
}

/** LEB128 of a 32-bit number in two's complement. */
function signed(value: number): number[] {
  return value >= -0x40 && value < 0x40 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)]
}

// What is used of the JavaScript API of WebAssembly; TypeScript has its types in its library for browsers only.
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number }) => Memory
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown }
}
export interface Memory {
  readonly buffer: ArrayBuffer
}

const PAGE_BYTES = 65536

export const memoryOf = (sizeBytes: number): Memory =>
  new WebAssembly.Memory({ initial: Math.ceil(sizeBytes / PAGE_BYTES) })

/** The functions of an instance of a module on a memory. */
export function instantiate<Exports>(module: Uint8Array, memory: Memory): Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(module), { m: { m: memory } }).exports as Exports
}
