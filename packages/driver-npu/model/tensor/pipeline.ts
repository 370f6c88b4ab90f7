import { type Chunk, chunk, gatherNumbers, scatterNumbers, storeNumbers } from './numbers.js'
import { type Elements, type Numbers, type Operands, type TensorParams, Type } from './params.js'
import { kernels } from './stages.js'
import { Walk } from './walk.js'

/** Sources of a stage's arguments (7.6). */
const RESULT = 0
const ALPHA = 4
const INDEX = 8

/** A vector of the walk that stages take: an operand, or an index. */
interface Source {
  readonly vector: number
  elements: Elements | undefined
  readonly room: Chunk
}

/**
 * Takes results through the stages to D, block by block. `own` are strides of what the operation itself goes through: vectors 0 and on of `walk`.
 */
export class Pipeline {
  readonly walk: Walk
  readonly #p: TensorParams
  #d: Elements | undefined
  readonly #toD: number
  readonly #sources = new Map<number, Source>()
  readonly #constants: readonly (readonly [Chunk, Chunk])[]
  readonly #work: Chunk

  constructor(
    p: TensorParams,
    operands: Operands,
    d: Elements,
    dims: readonly number[],
    own: readonly (readonly number[])[],
    rows = false,
  ) {
    this.#p = p
    this.#d = d
    const vectors = [...own, p.d.strides.slice(0, dims.length)]
    this.#toD = own.length
    const wanted = new Set(
      p.stages.flatMap(({ fn, x, y, z }) => [x, ...(fn >= 0x40 ? [y] : []), ...(fn >= 0x60 ? [z] : [])]),
    )
    const named = [undefined, [p.a, operands.a], [p.b, operands.b], [p.c, operands.c]] as const
    const found: [number, Elements | undefined][] = []
    for (const code of wanted) {
      const operand = named[code]
      if (operand?.[0] !== undefined) {
        found.push([code, operand[1]])
        vectors.push(operand[0].strides.slice(0, dims.length))
      } else if (code >= INDEX) {
        found.push([code, undefined])
        vectors.push(dims.map((_, r) => Number(r === code - INDEX)))
      }
    }
    this.walk = new Walk(dims, vectors, rows)
    const { size } = this.walk
    for (const [i, [code, elements]] of found.entries()) {
      this.#sources.set(code, { vector: this.#toD + 1 + i, elements, room: chunk(p.compute, size) })
    }
    this.#constants = p.stages.map(({ alpha, beta }) => [
      chunk(p.compute, size).fill(alpha),
      chunk(p.compute, size).fill(beta),
    ])
    this.#work = chunk(p.compute, size)
  }

  /** Begins anew, with other operands of the same block. */
  restart(operands: Operands, d: Elements): void {
    this.#d = d
    const { a, b, c } = operands
    const named = [undefined, a, b, c]
    for (const [code, source] of this.#sources) source.elements = named[code]
    this.walk.rewind()
  }

  /** Lets go of the operands: memory is not to be kept past an execution. */
  release(): void {
    this.#d = undefined
    for (const source of this.#sources.values()) source.elements = undefined
    this.#loaded.clear()
  }

  /** The numbers of an operand in the block that the walk is at: in memory itself, or in `room`. */
  load({ data, base }: Elements, vector: number, room: Chunk, count: number): Chunk {
    const { walk } = this
    const from = base + walk.bases[vector]
    if (walk.constant[vector]) {
      gatherNumbers(data, from, ZERO, room, 1)
      room.fill(room[0], 0, count)
    } else if (walk.dense[vector] && data.constructor === room.constructor) {
      return part(data, from, count)
    } else gatherNumbers(data, from, walk.offsets[vector], room, count)
    return room
  }

  /** Writes the results of the block that the walk is at. */
  emit(result: Chunk, count: number): void {
    const { walk } = this
    const { stages } = this.#p
    const { data, base } = this.#d!
    const to = base + walk.bases[this.#toD]
    const dense = walk.dense[this.#toD]
    for (const [code, source] of this.#sources) this.#fill(code, source, count)
    for (let s = 0; s < stages.length; s++) {
      const { fn, x, y, z, alpha, beta } = stages[s]
      const direct = s === stages.length - 1 && dense && data.constructor === result.constructor
      const into = direct ? part(data, to, count) : this.#work
      const [first, second, third] = [
        this.#argument(s, x, result),
        this.#argument(s, y, result),
        this.#argument(s, z, result),
      ]
      kernels(this.#p.compute)[fn](into, first, second, third, count, alpha, beta)
      if (direct) return
      result = into
    }
    if (dense) storeNumbers(result, data, to, count)
    else scatterNumbers(result, data, to, walk.offsets[this.#toD], count)
  }

  readonly #loaded = new Map<number, Chunk>()

  #fill(code: number, { vector, elements, room }: Source, count: number): void {
    if (elements !== undefined) {
      this.#loaded.set(code, this.load(elements, vector, room, count))
      return
    }
    const base = this.walk.bases[vector]
    const offsets = this.walk.offsets[vector]
    for (let i = 0; i < count; i++) room[i] = base + offsets[i]
    this.#loaded.set(code, room)
  }

  #argument(stage: number, code: number, result: Chunk): Chunk {
    if (code === RESULT) return result
    if (code === ALPHA || code === ALPHA + 1) return this.#constants[stage][code - ALPHA]
    return this.#loaded.get(code)!
  }
}

const ZERO = new Int32Array(1)

/** So many numbers. All of them are there already: a small tensor is done in less time than it takes to make views of it. */
const part = (data: Numbers, from: number, count: number) =>
  (from === 0 && count === data.length ? data : data.subarray(from, from + count)) as Chunk

/** Elements as words that are moved as they are: of 32 bits, of which those of 64 bits have two, or of 8. */
export function words(type: number, { data, base }: Elements): { data: Numbers; base: number; each: number } {
  const each = type === Type.int64 || type === Type.uint64 ? 2 : 1
  if (data.BYTES_PER_ELEMENT === 1) return { data, base, each }
  return { data: new Int32Array(data.buffer, data.byteOffset, data.length), base: base * each, each }
}

/** Dimensions and strides of the words of elements. */
export function ofWords(
  each: number,
  dims: readonly number[],
  ...vectors: readonly (readonly number[])[]
): [number[], number[][]] {
  if (each === 1) return [[...dims], vectors.map((vector) => [...vector])]
  return [[...dims, each], vectors.map((vector) => [...vector.map((stride) => stride * each), 1])]
}
