import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { Refusal } from '../model/blocks.js'
import { parseDescriptor } from '../model/descriptor.js'
import { prepare } from '../model/execute.js'
import type { Memory } from '../model/memory.js'
import { Prepared } from '../model/prepared.js'
import { decay, erf, gelu, power, roundEven } from '../model/tensor/mathematics.js'

/** Memory of a device without a device: one range, that is at one place or not, may be read and written or not, and may be refused by the bus. */
class Plain implements Memory {
  readonly epoch = 0
  readonly prepared = new Prepared()
  readonly bytes = new Uint8Array(0x10000)
  viewed = true
  readable = true
  writable = true
  refused: 'read' | 'write' | undefined
  readonly writes: number[] = []

  permits(address: bigint, sizeBytes: number, write: boolean): boolean {
    const inside = address >= 0n && address + BigInt(sizeBytes) <= BigInt(this.bytes.length)
    return inside && (write ? this.writable : this.readable || address === BLOCK)
  }
  read(address: bigint, sizeBytes: number): Uint8Array<ArrayBuffer> {
    if (this.refused === 'read' && address !== BLOCK) throw new Error('refused')
    return this.bytes.slice(Number(address), Number(address) + sizeBytes)
  }
  write(address: bigint, from: Uint8Array): void {
    if (this.refused === 'write') throw new Error('refused')
    this.writes.push(from.length)
    this.bytes.set(from, Number(address))
  }
  view(address: bigint, sizeBytes: number, access: 'read' | 'write'): Uint8Array | undefined {
    if (this.refused === access) throw new Error('refused')
    return this.viewed ? this.bytes.subarray(Number(address), Number(address) + sizeBytes) : undefined
  }
  count(): void {}
}

const [A, B, C, D] = [0x1000, 0x4000, 0x7000, 0xa000]
const BLOCK = 0xf000n
const FLOAT = 4
const INT = 3

/** Field offsets of 7.6. */
const at = { a: 0x30, b: 0x50, c: 0x70, d: 0x90, own: 0xb0, stages: 0xe0 }

interface Setup {
  readonly opcode: number
  readonly dims: readonly number[]
  /** Types of A, B, C and D. */
  readonly types: readonly [number, number, number, number]
  readonly compute: number
  readonly inner?: number
  readonly fn?: number
  readonly strides?: Partial<Record<'a' | 'b' | 'c' | 'd', readonly number[]>>
  /** Bytes, and words, at offsets. */
  readonly bytes?: readonly (readonly [number, number])[]
  readonly words?: readonly (readonly [number, number])[]
  readonly floats?: readonly (readonly [number, number])[]
  readonly stages?: readonly (readonly number[])[]
}

/** Strides of a dense tensor. */
const dense = (dims: readonly number[]) => dims.map((_, r) => dims.slice(r + 1).reduce((a, b) => a * b, 1))

function descriptor(memory: Plain, s: Setup): Uint32Array {
  const view = new DataView(memory.bytes.buffer, Number(BLOCK), 352)
  new Uint8Array(memory.bytes.buffer, Number(BLOCK), 352).fill(0)
  view.setUint16(0, 1, true)
  view.setUint16(2, 352, true)
  for (const [i, type] of s.types.entries()) view.setUint8(4 + i, type)
  for (const [i, value] of [
    s.dims.length,
    s.inner ?? 0,
    s.fn ?? 0,
    0,
    s.compute,
    s.stages?.length ?? 0,
  ].entries())
    view.setUint8(8 + i, value)
  for (const [r, dim] of s.dims.entries()) view.setUint32(0x10 + 4 * r, dim, true)
  for (const [i, name] of (['a', 'b', 'c', 'd'] as const).entries()) {
    if (s.types[i] === 0) continue
    for (const [r, stride] of (s.strides?.[name] ?? dense(s.dims)).entries())
      view.setInt32(at[name] + 4 * r, stride, true)
  }
  for (const [i, [fn, x, y, z, alpha, beta]] of (s.stages ?? []).entries()) {
    const from = at.stages + 16 * i
    for (const [k, byte] of [fn, x, y, z].entries()) view.setUint8(from + k, byte ?? 0)
    if (s.compute === FLOAT) {
      view.setFloat32(from + 4, alpha ?? 0, true)
      view.setFloat32(from + 8, beta ?? 0, true)
    } else {
      view.setInt32(from + 4, alpha ?? 0, true)
      view.setInt32(from + 8, beta ?? 0, true)
    }
  }
  for (const [offset, value] of s.bytes ?? []) view.setUint8(offset, value)
  for (const [offset, value] of s.words ?? []) view.setInt32(offset, value, true)
  for (const [offset, value] of s.floats ?? []) view.setFloat32(offset, value, true)
  const words = new Uint32Array(16)
  words.set([
    s.opcode,
    352,
    A,
    0,
    B,
    0,
    s.opcode === 0x25 || s.opcode === 0x26 ? 0 : C,
    0,
    D,
    0,
    Number(BLOCK),
  ])
  return words
}

/** Runs a descriptor; answers status and detail of what refused it, or `undefined`. */
function run(memory: Plain, words: Uint32Array): readonly [number, number] | undefined {
  try {
    prepare(parseDescriptor(words), memory, false, undefined).run()
    return undefined
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return [error.status, error.detail]
  }
}
const ends = (s: Setup, change: (words: Uint32Array, memory: Plain) => void = () => {}) => {
  const memory = new Plain()
  const words = descriptor(memory, s)
  change(words, memory)
  return run(memory, words)
}

const copy: Setup = { opcode: 0x20, dims: [2, 3], types: [FLOAT, 0, 0, FLOAT], compute: FLOAT }
const three: Setup = { ...copy, types: [FLOAT, FLOAT, FLOAT, FLOAT] }
const reduce: Setup = { ...copy, opcode: 0x22, inner: 1, strides: { d: [1, 0] } }
const contract: Setup = { ...reduce, opcode: 0x21, types: [FLOAT, FLOAT, 0, FLOAT] }
const softmax: Setup = { ...copy, opcode: 0x23, inner: 1 }
const scan: Setup = { ...copy, opcode: 0x24, inner: 1 }
const gather: Setup = {
  ...copy,
  opcode: 0x25,
  types: [FLOAT, INT, 0, FLOAT],
  compute: 0,
  bytes: [[0xb0, 1]],
  words: [
    [0xb4, 1],
    [0xb8, 5],
    [0xc8, 1],
  ],
}
const resample: Setup = {
  ...copy,
  opcode: 0x27,
  bytes: [[0xb1, 1]],
  words: [
    [0xb4, 2],
    [0xb8, 3],
  ],
  floats: [
    [0xbc, 1],
    [0xc0, 1],
  ],
}
const slid: Setup = {
  ...reduce,
  dims: [2, 2],
  strides: { a: [1, 0], d: [1, 0] },
  words: [
    [0xb0, 3],
    [0xb8, 1],
    [0xbc, 1],
  ],
  bytes: [[0xb5, 1]],
}
const byte = (offset: number, value: number) => ({ bytes: [[offset, value]] as const })
const word = (offset: number, value: number) => ({ words: [[offset, value]] as const })
const also = (s: Setup, kind: 'bytes' | 'words' | 'floats', offset: number, value: number): Setup => ({
  ...s,
  [kind]: [...(s[kind] ?? []), [offset, value]],
})
const TYPE = 6
const PARAM = 4
const LIMIT = 7
const ARITHMETIC = 0x20

/** Each check of 10.1: what is wrong, status and detail. */
const wrong: readonly (readonly [string, Setup, number, number])[] = [
  ['A of no type', { ...copy, types: [0, 0, 0, FLOAT] }, TYPE, 0x04],
  ['float16', { ...copy, types: [5, 0, 0, FLOAT] }, TYPE, 0x04],
  ['int64 where it computes', { ...copy, types: [8, 0, 0, FLOAT] }, TYPE, 0x04],
  ['B where elements are moved', { ...three, compute: 0 }, TYPE, 0x05],
  ['C of 64 bits', { ...copy, types: [FLOAT, 0, 9, FLOAT] }, TYPE, 0x06],
  ['C of GATHER', { ...gather, types: [FLOAT, INT, INT, FLOAT] }, TYPE, 0x06],
  ['D of 64 bits', { ...copy, types: [FLOAT, 0, 0, 8] }, TYPE, 0x07],
  ['D of another type than A', { ...copy, types: [FLOAT, 0, 0, INT], compute: 0 }, TYPE, 0x07],
  ['D of ARG_MAX', { ...reduce, fn: 11 }, TYPE, 0x07],
  ['indices of float32', { ...gather, types: [FLOAT, FLOAT, 0, FLOAT] }, TYPE, 0x05],
  ['CONTRACT without B', { ...contract, types: [FLOAT, 0, 0, FLOAT] }, TYPE, 0x05],
  ['CONTRACT of int32', { ...contract, types: [INT, FLOAT, 0, FLOAT] }, TYPE, 0x04],
  ['COMPUTE of uint8', { ...copy, compute: 1 }, TYPE, 0x0c],
  ['COMPUTE of GATHER', { ...gather, compute: FLOAT }, TYPE, 0x0c],
  ['COMPUTE of SCAN', { ...scan, compute: 0 }, TYPE, 0x0c],
  ['rank 0', { ...copy, ...byte(0x08, 0) }, PARAM, 0x08],
  ['rank 9', { ...copy, ...byte(0x08, 9) }, PARAM, 0x08],
  ['INNER beyond the rank', { ...reduce, ...byte(0x09, 3) }, PARAM, 0x09],
  ['INNER of ELEMENTWISE', { ...copy, ...byte(0x09, 1) }, PARAM, 0x09],
  ['INNER of SCAN', { ...scan, inner: 2 }, PARAM, 0x09],
  ['FUNCTION', { ...reduce, fn: 12 }, PARAM, 0x0a],
  ['FUNCTION that integers lack', { ...reduce, fn: 1, compute: INT }, PARAM, 0x0a],
  ['FLAGS', { ...softmax, ...byte(0x0b, 1) }, PARAM, 0x0b],
  ['nine stages', { ...copy, ...byte(0x0d, 9) }, PARAM, 0x0d],
  ['stages where elements are moved', { ...copy, compute: 0, ...byte(0x0d, 1) }, PARAM, 0x0d],
  ['reserved half', { ...copy, ...byte(0x0f, 1) }, PARAM, 0x0e],
  ['dimension of 0', { ...copy, dims: [0, 3] }, PARAM, 0x10],
  ['dimension beyond the rank', { ...copy, ...word(0x18, 1) }, PARAM, 0x18],
  ['stride beyond the rank', { ...copy, ...word(0x38, 1) }, PARAM, 0x38],
  ['stride of B that is not there', { ...copy, ...word(0x50, 1) }, PARAM, 0x50],
  ['block of another operation', { ...copy, ...word(0xb0, 1) }, PARAM, 0xb0],
  ['stages behind the last', { ...copy, ...word(0xe0, 1) }, PARAM, 0xe0],
  ['unknown function', { ...copy, stages: [[0x1e]] }, PARAM, 0xe0],
  ['function that int32 lacks', { ...copy, compute: INT, stages: [[0x08]] }, PARAM, 0xe0],
  ['PRELU of uint32', { ...three, compute: 7, stages: [[0x50, 0, 2]] }, PARAM, 0xe0],
  ['argument 6', { ...copy, stages: [[0x40, 6, 4]] }, PARAM, 0xe1],
  ['B that is not there', { ...copy, stages: [[0x40, 0, 2]] }, PARAM, 0xe2],
  ['A in a stage of REDUCE', { ...reduce, stages: [[0x40, 0, 1]] }, PARAM, 0xe2],
  ['index beyond the rank', { ...copy, stages: [[0x40, 0, 10]] }, PARAM, 0xe2],
  ['index that is reduced', { ...reduce, stages: [[0x40, 0, 9]] }, PARAM, 0xe2],
  ['argument that is not taken', { ...copy, stages: [[0x01, 0, 4]] }, PARAM, 0xe2],
  ['z that is not taken', { ...copy, stages: [[0x40, 0, 4, 5]] }, PARAM, 0xe3],
  ['reserved word of a stage', { ...copy, stages: [[0x01]], ...word(0xec, 1) }, PARAM, 0xec],
  ['D that stands still', { ...copy, strides: { d: [0, 1] } }, PARAM, 0x90],
  ['D along what is reduced', { ...reduce, strides: { d: [1, 1] } }, PARAM, 0x94],
  ['B along what is reduced', { ...reduce, types: [FLOAT, FLOAT, 0, FLOAT] }, PARAM, 0x54],
  ['C along what CONTRACT sums up', { ...contract, types: [FLOAT, FLOAT, FLOAT, FLOAT] }, PARAM, 0x74],
  ['window above MAX_DIM', also(slid, 'words', 0xb0, 0x10000), PARAM, 0xb0],
  ['window over what is reduced', also(slid, 'bytes', 0xb4, 1), PARAM, 0xb4],
  ['window inside of a result', also(slid, 'bytes', 0xb5, 0), PARAM, 0xb5],
  ['reserved half of a window', also(slid, 'bytes', 0xb6, 1), PARAM, 0xb6],
  ['window without steps', also(slid, 'words', 0xb8, 0), PARAM, 0xb8],
  ['window without dilation', also(slid, 'words', 0xbc, 0), PARAM, 0xbc],
  ['padding above MAX_DIM', also(slid, 'words', 0xc0, 0x10000), PARAM, 0xc0],
  ['field of no window', also(slid, 'words', 0xcc, 1), PARAM, 0xcc],
  ['two windows over one dimension', also(slid, 'words', 0xc4, 3), PARAM, 0xc8],
  ['A that moves in a window', { ...slid, strides: { a: [1, 1], d: [1, 0] } }, PARAM, 0x34],
  ['window of ARG_MIN', { ...slid, fn: 10, types: [FLOAT, 0, 0, INT] }, PARAM, 0xb0],
  ['no axes', also(gather, 'bytes', 0xb0, 0), PARAM, 0xb0],
  ['five axes', also(gather, 'bytes', 0xb0, 5), PARAM, 0xb0],
  ['reserved byte of indices', also(gather, 'bytes', 0xb2, 1), PARAM, 0xb2],
  ['axis of nothing', also(gather, 'words', 0xb8, 0), PARAM, 0xb8],
  ['axis beyond the last', also(gather, 'words', 0xbc, 1), PARAM, 0xbc],
  ['axis stride beyond the last', also(gather, 'words', 0xcc, 1), PARAM, 0xcc],
  ['V beyond the rank', also(resample, 'bytes', 0xb0, 2), PARAM, 0xb0],
  ['V and H the same', also(resample, 'bytes', 0xb1, 0), PARAM, 0xb1],
  ['reserved half of axes', also(resample, 'bytes', 0xb2, 1), PARAM, 0xb2],
  ['V of nothing', also(resample, 'words', 0xb4, 0), PARAM, 0xb4],
  ['epsilon of a softmax', { ...softmax, floats: [[0xb0, 1]] }, PARAM, 0xb0],
  ['too many of A', { ...copy, strides: { a: [2 ** 26 - 2, 1] } }, LIMIT, 1],
  ['too many of B', { ...three, strides: { b: [-(2 ** 30), 1] } }, LIMIT, 2],
  ['too many of C', { ...three, strides: { c: [2 ** 26, 1] } }, LIMIT, 3],
  ['too many of D', { ...copy, strides: { d: [2 ** 26, 1] } }, LIMIT, 4],
  [
    'too many indices',
    { ...reduce, dims: [2, 2 ** 25, 128], inner: 2, strides: { a: [0, 0, 0], d: [1, 0, 0] } },
    LIMIT,
    0,
  ],
  ['negative epsilon', { ...softmax, fn: 1, floats: [[0xb0, -1]] }, ARITHMETIC, 0xb0],
  ['scale of 0', also(resample, 'floats', 0xbc, 0), ARITHMETIC, 0xbc],
  ['infinite scale', also(resample, 'floats', 0xc0, Number.POSITIVE_INFINITY), ARITHMETIC, 0xc0],
]

t.test('checks of a tensor block', async (t) => {
  for (const [what, setup, status, detail] of wrong) t.strictSame(ends(setup), [status, detail], what)
  for (const good of [copy, three, reduce, contract, softmax, scan, gather, resample, slid])
    t.equal(ends(good), undefined, `0x${good.opcode.toString(16)} as it is`)
})

t.test('checks around a tensor block', async (t) => {
  t.strictSame(
    ends(gather, (words) => words.set([C], 6)),
    [2, 24],
    'an address that the operation lacks',
  )
  t.strictSame(
    ends(copy, (words) => words.set([336], 1)),
    [3, 336],
  )
  t.strictSame(
    ends(copy, (_, { bytes }) => bytes.set([97], Number(BLOCK) + 2)),
    [3, 353],
  )
  t.strictSame(
    ends(copy, (_, { bytes }) => bytes.set([2], Number(BLOCK))),
    [5, 2],
  )
  t.strictSame(
    ends(copy, (words) => words.set([A + 2], 2)),
    [8, 1],
    'A is not aligned',
  )
  t.strictSame(
    ends({ ...copy, types: [8, 0, 0, 8], compute: 0 }, (words) => words.set([D + 4], 8)),
    [8, 4],
    'D of 64 bits is not aligned',
  )
  t.equal(
    ends(copy, (words) => words.set([2], 4)),
    undefined,
    'the address of an operand that is not there',
  )
})

t.test('windows and the bus', async (t) => {
  const reversed: Setup = { ...copy, strides: { a: [-3, -1] } }
  t.strictSame(
    ends(reversed, (words) => words.set([16], 2)),
    [0x10, 1],
    'elements before address 0',
  )
  t.equal(
    ends(reversed, (words) => words.set([20], 2)),
    undefined,
  )
  t.strictSame(
    ends(copy, (_, memory) => {
      memory.readable = false
    }),
    [0x10, 1],
  )
  t.strictSame(
    ends(copy, (_, memory) => {
      memory.writable = false
    }),
    [0x11, 4],
  )
  for (const viewed of [true, false]) {
    for (const [refused, end] of [
      ['read', [0x12, 1]],
      ['write', [0x13, 4]],
    ] as const) {
      t.strictSame(
        ends(copy, (_, memory) => Object.assign(memory, { refused, viewed })),
        end,
      )
    }
  }
})

const floats = (memory: Plain, address: number, count: number) =>
  new Float32Array(memory.bytes.buffer, address, count)

t.test(
  'a destination is written where it is addressed, whether the device has it at one place or not',
  async (t) => {
    const scatter: Setup = { ...gather, opcode: 0x26, dims: [3], strides: { d: [0] } }
    for (const viewed of [true, false]) {
      const memory = new Plain()
      memory.viewed = viewed
      floats(memory, A, 6).set([1, 2, 3, 4, 5, 6])
      floats(memory, D, 8).fill(9)
      t.equal(run(memory, descriptor(memory, { ...copy, strides: { d: [4, 1] } })), undefined)
      t.strictSame([...floats(memory, D, 8)], [1, 2, 3, 9, 4, 5, 6, 9])
      if (!viewed) t.strictSame(memory.writes, [12, 12])
      new Int32Array(memory.bytes.buffer, B, 3).set([3, -2, 7])
      t.equal(run(memory, descriptor(memory, scatter)), undefined)
      // The second of the index 3 and -2 of 5 stays; 7 is held to 4.
      t.strictSame([...floats(memory, D, 8)], [1, 2, 3, 2, 3, 5, 6, 9])
    }
  },
)

t.test('inputs are read before results are written over them', async (t) => {
  for (const viewed of [true, false]) {
    const memory = new Plain()
    memory.viewed = viewed
    floats(memory, A, 6).set([1, 2, 3, 4, 5, 6])
    const words = descriptor(memory, { ...copy, dims: [5] })
    words[8] = A + 4
    t.equal(run(memory, words), undefined)
    t.strictSame([...floats(memory, A, 6)], [1, 1, 2, 3, 4, 5])
  }
})

t.test('blocks larger than what is worked on at once', async (t) => {
  const memory = new Plain()
  const [n, m] = [3, 1000]
  const a = floats(memory, A, n * m).map((_, i) => (i % 17) - 8)
  floats(memory, A, n * m).set(a)
  const rows: Setup = { ...scan, dims: [n, m] }
  t.equal(run(memory, descriptor(memory, rows)), undefined)
  const sums = Float32Array.from(a, (_, i) => a.subarray(i - (i % m), i + 1).reduce((x, y) => x + y, 0))
  t.strictSame(floats(memory, D, n * m).slice(), sums)
  // Along the whole range, with an index and a constant: 5000 elements are more than one block.
  const long: Setup = {
    opcode: 0x20,
    dims: [5000],
    types: [1, 0, 0, FLOAT],
    compute: FLOAT,
    strides: { a: [0], d: [1] },
    stages: [[0x42, 8, 4, 0, 0.5]],
  }
  t.equal(run(memory, descriptor(memory, long)), undefined)
  t.strictSame(
    floats(memory, D, 5000).slice(),
    Float32Array.from({ length: 5000 }, (_, i) => i / 2),
  )
})

t.test('conversions', async (t) => {
  const convert = (from: number, compute: number, to: number, value: Float32Array | Int32Array) => {
    const memory = new Plain()
    memory.bytes.set(new Uint8Array(value.buffer), A)
    const setup = { ...copy, dims: [value.length], types: [from, 0, 0, to] as const, compute }
    t.equal(run(memory, descriptor(memory, setup)), undefined)
    return memory.bytes.buffer.slice(D, D + 4 * value.length)
  }
  const reals = Float32Array.of(-1.5, 300.9, Number.NaN, 2 ** 31, -(2 ** 33), Number.POSITIVE_INFINITY)
  const [low, high] = [-(2 ** 31), 2 ** 31 - 1]
  t.strictSame([...new Uint8Array(convert(FLOAT, FLOAT, 1, reals), 0, 6)], [0, 255, 0, 255, 0, 255])
  t.strictSame([...new Int8Array(convert(FLOAT, FLOAT, 2, reals), 0, 6)], [-1, 127, 0, 127, -128, 127])
  t.strictSame([...new Int32Array(convert(FLOAT, FLOAT, INT, reals))], [-1, 300, 0, high, low, high])
  t.strictSame([...new Int32Array(convert(FLOAT, INT, INT, reals))], [-1, 300, 0, high, low, high])
  const whole = Int32Array.of(-1, 511, 2 ** 24 + 1)
  t.strictSame([...new Uint8Array(convert(INT, INT, 1, whole), 0, 3)], [255, 255, 1])
  t.strictSame([...new Float32Array(convert(INT, FLOAT, FLOAT, whole))], [-1, 511, 2 ** 24])
  t.strictSame([...new Float32Array(convert(INT, 7, FLOAT, whole))], [2 ** 32, 511, 2 ** 24])
  // Not a number with a payload, which arithmetic would lose.
  t.strictSame([...new Int32Array(convert(FLOAT, 0, FLOAT, Int32Array.of(0x7f812345, -1)))], [0x7f812345, -1])
})

t.test('functions that JavaScript lacks, or has otherwise', async (t) => {
  // Abramowitz and Stegun, table 7.1.
  const known = [
    [0, 0],
    [0.02, 0.0225645747],
    [0.1, 0.112462916],
    [0.5, 0.5204998778],
    [1, 0.8427007929],
    [1.5, 0.9661051465],
    [2, 0.995322265],
  ]
  for (const [x, value] of known) {
    for (const sign of [1, -1])
      t.ok(Math.abs(erf(sign * x) - sign * value) < 2 ** -27, `erf(${sign * x}) is ${erf(sign * x)}`)
  }
  const { NEGATIVE_INFINITY, POSITIVE_INFINITY, NaN: none } = Number
  t.strictSame([erf(6), erf(NEGATIVE_INFINITY), erf(none)], [1, -1, none])
  t.strictSame([gelu(NEGATIVE_INFINITY), gelu(POSITIVE_INFINITY), gelu(none)], [0, POSITIVE_INFINITY, none])
  t.ok(Math.abs(gelu(1) - 0.8413447461) < 2 ** -25)
  // The normal distribution's tail: what is left of GELU there is as exact as the rest.
  const tails = [
    [-2, 2.27501319482e-2],
    [-2.5, 6.20966532578e-3],
    [-3, 1.34989803163e-3],
    [-5, 2.86651571879e-7],
    [-8, 6.22096057427e-16],
    [-10, 7.61985302416e-24],
  ] as const
  for (const [x, tail] of tails)
    t.ok(Math.abs(gelu(x) / (x * tail) - 1) < 2 ** -23, `gelu(${x}) is ${gelu(x)}, not ${x * tail}`)
  t.equal(Math.fround(gelu(-15)), -0)
  let worst = 0
  for (let x = 0; x > -87; x -= 0.0137) worst = Math.max(worst, Math.abs(decay(x) / Math.exp(x) - 1))
  t.ok(worst < 1e-11, `e to the power of x is off by ${worst}`)
  t.strictSame(
    [decay(0), decay(-104), decay(-1e9), decay(NEGATIVE_INFINITY), decay(none)],
    [1, 0, 0, 0, none],
  )
  t.strictSame([0.5, 1.5, 2.5, -0.5, -1.5, 2 ** 60, POSITIVE_INFINITY].map(roundEven), [
    0,
    2,
    2,
    -0,
    -2,
    2 ** 60,
    POSITIVE_INFINITY,
  ])
  t.strictSame([power(1, none), power(-1, NEGATIVE_INFINITY), power(2, 3)], [1, 1, 8])
})

t.test('what is extreme for a reduction', async (t) => {
  const of = (fn: number, values: readonly number[], to = FLOAT) => {
    const memory = new Plain()
    floats(memory, A, values.length).set(values)
    const setup: Setup = { ...reduce, dims: [1, values.length], fn, types: [FLOAT, 0, 0, to] }
    t.equal(run(memory, descriptor(memory, { ...setup, strides: { d: [1, 0] } })), undefined)
    return to === FLOAT ? floats(memory, D, 1)[0] : new Int32Array(memory.bytes.buffer, D, 2).slice()
  }
  const { NEGATIVE_INFINITY, POSITIVE_INFINITY, NaN: none } = Number
  t.equal(of(9, [1000, 1000]), Math.fround(1000 + Math.LN2))
  t.equal(of(9, [NEGATIVE_INFINITY, NEGATIVE_INFINITY]), NEGATIVE_INFINITY)
  t.equal(of(9, [POSITIVE_INFINITY, 1]), POSITIVE_INFINITY)
  t.strictSame(of(10, [3, 1, none, none], INT), Int32Array.of(2, 0))
  t.strictSame(of(11, [3, 7, 7, 1], 8), Int32Array.of(1, 0))
  t.strictSame(of(11, [NEGATIVE_INFINITY, NEGATIVE_INFINITY], 8), Int32Array.of(0, 0))
  t.ok(Number.isNaN(of(3, [4, none])))
})

t.test('windows that have no element', async (t) => {
  // The first place lies in the padding alone.
  for (const [fn, values] of [
    [0, [0, 1, 2, 3]],
    [1, [0, 1, 2, 3]],
    [2, [1, 1, 2, 3]],
    [3, [Number.POSITIVE_INFINITY, 1, 2, 3]],
    [4, [Number.NEGATIVE_INFINITY, 1, 2, 3]],
  ] as const) {
    const memory = new Plain()
    floats(memory, A, 3).set([1, 2, 3])
    const setup = also({ ...slid, fn, dims: [4, 1], strides: { a: [1, 0], d: [1, 0] } }, 'words', 0xc0, 1)
    t.equal(run(memory, descriptor(memory, setup)), undefined)
    t.strictSame([...floats(memory, D, 4)], values)
  }
})

t.test('an execution that is kept keeps no memory', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const memory = new Plain()
  const add: Setup = {
    ...three,
    stages: [
      [0x40, 0, 2],
      [0x40, 0, 3],
    ],
  }
  const words = descriptor(memory, add)
  const views: WeakRef<ArrayBuffer>[] = []
  memory.view = (address, sizeBytes) => {
    const bytes = memory.bytes.slice(Number(address), Number(address) + sizeBytes)
    views.push(new WeakRef(bytes.buffer))
    return bytes
  }
  for (let time = 0; time < 2; time++) t.equal(run(memory, words), undefined)
  await new Promise(setImmediate)
  collect()
  t.ok(views.length >= 8)
  t.strictSame(
    views.map((view) => view.deref()),
    views.map(() => undefined),
  )
})
