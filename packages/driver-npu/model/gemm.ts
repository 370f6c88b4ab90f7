/**
 * The matrix product under convolution and matmul, in WebAssembly SIMD: `out[r, s] = sum over k of a[r, k] * b[s, k]`, 16-bit factors, sums
 * that wrap in 32 bits (docs/devices/npu.md, 8.1). Rows are padded with zeros to whole vectors.
 */

/** Factors in one vector: rows have a multiple of these. */
const LANES = 8
const PAGE_BYTES = 65536

// Opcodes of the WebAssembly core specification 2.0, section 5.4 ("Instructions"). SIMD ones have the prefix 0xfd.
const LOOP = [0x03, 0x40]
const END = [0x0b]
const BR_IF = [0x0d, 0]
const get = (local: number) => [0x20, local]
const set = (local: number) => [0x21, local]
const tee = (local: number) => [0x22, local]
const i32 = (value: number) => [0x41, value]
const STORE = [0x36, 2, 0]
const LESS = [0x49]
const ADD = [0x6a]
const SUB = [0x6b]
const V_LOAD = [0xfd, 0x00, 4, 0]
const V_ZERO = [0xfd, 0x0c, ...new Array<number>(16).fill(0)]
const V_LANE = (lane: number) => [0xfd, 0x1b, lane]
const V_ADD = [0xfd, 0xae, 0x01]
const V_DOT = [0xfd, 0xba, 0x01]

// Parameters, then locals.
const [A, ROWS, B, COLUMNS, ROW_BYTES, OUT, B_ROW, COLUMN, AT, SUM] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

const body = [
  ...LOOP, // for each row of a
  ...[...get(B), ...set(B_ROW), ...get(COLUMNS), ...set(COLUMN)],
  ...LOOP, // for each row of b
  ...[...V_ZERO, ...set(SUM), ...i32(0), ...set(AT)],
  ...LOOP, // for each vector of the two rows
  ...[...get(SUM), ...get(A), ...get(AT), ...ADD, ...V_LOAD, ...get(B_ROW), ...get(AT), ...ADD, ...V_LOAD],
  ...[...V_DOT, ...V_ADD, ...set(SUM)],
  ...[...get(AT), ...i32(16), ...ADD, ...tee(AT), ...get(ROW_BYTES), ...LESS, ...BR_IF, ...END],
  ...get(OUT),
  ...[...get(SUM), ...V_LANE(0), ...get(SUM), ...V_LANE(1), ...ADD],
  ...[...get(SUM), ...V_LANE(2), ...ADD, ...get(SUM), ...V_LANE(3), ...ADD, ...STORE],
  ...[...get(OUT), ...i32(4), ...ADD, ...set(OUT), ...get(B_ROW), ...get(ROW_BYTES), ...ADD, ...set(B_ROW)],
  ...[...get(COLUMN), ...i32(1), ...SUB, ...tee(COLUMN), ...BR_IF, ...END],
  ...[...get(A), ...get(ROW_BYTES), ...ADD, ...set(A)],
  ...[...get(ROWS), ...i32(1), ...SUB, ...tee(ROWS), ...BR_IF, ...END],
  ...END,
]

const name = (text: string) => [text.length, ...Buffer.from(text)]
/** An unsigned number in LEB128 of two bytes. */
const two = (value: number) => [(value & 0x7f) | 0x80, value >>> 7]
const locals = [2, 3, 0x7f, 1, 0x7b] // three i32, one v128
const code = [1, ...two(locals.length + body.length), ...locals, ...body]
const I32 = 0x7f
const wasm = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 10, 1, 0x60, 6, I32, I32, I32, I32, I32, I32, 0], // types: six i32 to nothing
  ...[2, 8, 1, ...name('m'), ...name('m'), 0x02, 0x00, 1], // imports: a memory of at least one page
  ...[3, 2, 1, 0], // functions: one of type 0
  ...[7, 8, 1, ...name('gemm'), 0x00, 0], // exports
  ...[10, ...two(code.length), ...code],
])

// What is used of the JavaScript API of WebAssembly; TypeScript has its types in its library for browsers only.
declare const WebAssembly: {
  readonly Memory: new (limits: {
    initial: number
  }) => { readonly buffer: ArrayBuffer; grow(pages: number): number }
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown }
}

const memory = new WebAssembly.Memory({ initial: 1 })
const { gemm } = new WebAssembly.Instance(new WebAssembly.Module(wasm), { m: { m: memory } }).exports as {
  gemm(a: number, rows: number, b: number, columns: number, rowBytes: number, out: number): void
}

/** Room for one product, until the next `product` is made. */
export interface Product {
  /** Numbers in a row of `a` and `b`: k, padded. */
  readonly stride: number
  readonly a: Int16Array
  readonly b: Int16Array
  readonly out: Int32Array
  /** Multiplies `rows` rows of `a`, from row `first` on, with the first `columns` rows of `b`. `out` is dense. */
  multiply(first: number, rows: number, columns: number): void
}

/** Takes room for factors of that many rows, of `k` numbers each, and for `results` sums. All zero: padding must stay so. */
export function product(aRows: number, bRows: number, k: number, results: number): Product {
  const stride = Math.ceil(k / LANES) * LANES
  const aBytes = 2 * stride * aRows
  const bBytes = 2 * stride * bRows
  const missing = aBytes + bBytes + 4 * results - memory.buffer.byteLength
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE_BYTES))
  const { buffer } = memory
  const a = new Int16Array(buffer, 0, stride * aRows)
  const b = new Int16Array(buffer, aBytes, stride * bRows)
  if (stride !== k) {
    a.fill(0)
    b.fill(0)
  }
  return {
    stride,
    a,
    b,
    out: new Int32Array(buffer, aBytes + bBytes, results),
    multiply: (first, rows, columns) =>
      gemm(2 * stride * first, rows, aBytes, columns, 2 * stride, aBytes + bBytes),
  }
}
