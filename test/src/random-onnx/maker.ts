import { type AttributeValue, type DataType, type GraphNode, type Tensor, tensor } from '@uaccel/inference'
import { HALF_STEP, tolerances } from './tolerance.js'

/** Of a value: ONNX has a type of its own for what is true or false, whose elements are bytes here. */
export type Type = DataType | 'bool'

/** A value of a graph that is being made. */
export interface Live {
  readonly name: string
  readonly type: Type
  readonly shape: readonly number[]
  /** No element is further from 0. */
  readonly bound: number
  /** No further are two right results from each other; 0 is to the bit, so that what jumps (Floor, comparisons) may be applied. */
  readonly error: number
}

export type Attributes = Readonly<Record<string, AttributeValue>>

/** What the maker of a node knows of its result. */
export interface Like {
  readonly type?: Type
  readonly shape: readonly number[]
  readonly bound: number
  /** What the node makes of differences between its inputs; its own are added from the table. */
  readonly error: number
  /** How many terms are summed. */
  readonly terms?: number
  /** The greatest magnitude that occurs on the way, where that is not `bound`. */
  readonly magnitude?: number
}

/** Makes one or a few nodes. Throws `unfit` where nothing suits: what it made is undone. */
export type Step = (m: Maker) => void

const unfit = Symbol('no step of this kind')

/** Beyond these, a graph's values would tell nothing. */
const MOST = { bound: 1e3, error: 2e-3, elements: 4000, rank: 5 }

/** Deterministic numbers of a seed (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export const count = (shape: readonly number[]): number => shape.reduce((all, size) => all * size, 1)

/** The operator as `onnxOperators` names it. */
export const keyOf = ({ domain, op }: Pick<GraphNode, 'domain' | 'op'>): string =>
  domain === '' ? op : `${domain}:${op}`

const arrays = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array } as const

/** Numbers as a tensor. */
export function tensorOf(dtype: DataType, shape: readonly number[], values: ArrayLike<number>): Tensor {
  if (dtype === 'int64') return tensor(dtype, shape, BigInt64Array.from(Array.from(values), BigInt))
  return tensor(dtype, shape, arrays[dtype as keyof typeof arrays].from(values) as Float32Array)
}

/** A graph that grows by steps. */
export class Maker {
  readonly nodes: GraphNode[] = []
  readonly constants = new Map<string, Tensor>()
  readonly inputs: Live[] = []
  /** What steps may begin with. */
  readonly live: Live[] = []
  /** All that nodes compute. */
  readonly computed: Live[] = []
  readonly random: () => number
  readonly opset: number
  #next = 0

  constructor(seed: number, opset: number) {
    this.random = generator(seed)
    this.opset = opset
  }

  int(least: number, most: number): number {
    return least + Math.floor(this.random() * (most - least + 1))
  }
  chance(of: number): boolean {
    return this.random() < of
  }
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw unfit
    return items[this.int(0, items.length - 1)]!
  }
  shuffled<T>(items: readonly T[]): T[] {
    const keyed = items.map((item) => ({ item, key: this.random() }))
    return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item)
  }
  name(prefix: string): string {
    return `${prefix}${this.#next++}`
  }

  /** Goes on only where this holds. */
  want(holds: boolean): void {
    if (!holds) throw unfit
  }

  /** Whether a step was made. */
  attempt(step: Step): boolean {
    const lists = [this.nodes, this.live, this.computed]
    const before = lists.map(({ length }) => length)
    try {
      step(this)
    } catch (error) {
      if (error !== unfit) throw error
      lists.forEach((list, at) => {
        list.length = before[at]!
      })
    }
    return this.nodes.length > before[0]!
  }

  input(type: DataType, shape: readonly number[], bound: number): void {
    const made = { name: this.name('x'), type, shape, bound, error: 0 }
    this.inputs.push(made)
    this.live.push(made)
  }

  /** The latest as often as any other, so that chains come up, which are fused. */
  find(wanted: (value: Live) => boolean): Live {
    const found = this.live.filter(wanted)
    return this.chance(0.5) && found.length > 0 ? found.at(-1)! : this.pick(found)
  }
  /** A float32, of a rank if one is told. */
  float(rank?: number, wanted: (value: Live) => boolean = () => true): Live {
    return this.find(
      (x) => x.type === 'float32' && (rank === undefined || x.shape.length === rank) && wanted(x),
    )
  }

  constant(value: Tensor): string {
    const name = this.name('c')
    this.constants.set(name, value)
    return name
  }
  floats(shape: readonly number[], least = -1, most = 1): string {
    const values = Array.from({ length: count(shape) }, () => least + this.random() * (most - least))
    return this.constant(tensorOf('float32', shape, values))
  }
  /** Integers between limits, of any type. */
  whole(dtype: DataType, shape: readonly number[], least: number, most: number): string {
    const values = Array.from({ length: count(shape) }, () => this.int(least, most))
    return this.constant(tensorOf(dtype, shape, values))
  }
  ints(values: readonly number[], shape: readonly number[] = [values.length]): string {
    return this.constant(tensorOf('int64', shape, values))
  }
  scalar(value: number, dtype: DataType = 'float32'): string {
    return this.constant(tensorOf(dtype, [], [value]))
  }

  /** A node that steps may go on with. An operator of another set is `domain:name`. */
  node(op: string, inputs: readonly (Live | string)[], like: Like, attributes: Attributes = {}): Live {
    const [made] = this.nodeOf(op, inputs, [like], attributes)
    return made!
  }

  /** As `node`, of several outputs; `undefined` is one that is left out. */
  nodeOf(
    op: string,
    inputs: readonly (Live | string)[],
    likes: readonly (Like | undefined)[],
    attributes: Attributes = {},
  ): (Live | undefined)[] {
    const made = this.hiddenOf(op, inputs, likes, attributes)
    for (const each of made) if (each) this.live.push(each)
    return made
  }

  /** A node whose result only the step itself reads. */
  hidden(op: string, inputs: readonly (Live | string)[], like: Like, attributes: Attributes = {}): Live {
    return this.hiddenOf(op, inputs, [like], attributes)[0]!
  }

  hiddenOf(
    op: string,
    inputs: readonly (Live | string)[],
    likes: readonly (Like | undefined)[],
    attributes: Attributes,
  ): (Live | undefined)[] {
    const made = likes.map((like) => like && this.#result(op, like))
    const [name, domain = ''] = op.split(':').reverse() as [string, string?]
    this.nodes.push({
      name: this.name('n'),
      op: name,
      domain,
      inputs: inputs.map((each) => (typeof each === 'string' ? each : each.name)),
      outputs: made.map((each) => each?.name ?? ''),
      attributes: new Map(Object.entries(attributes)),
    })
    for (const each of made) if (each) this.computed.push(each)
    return made
  }

  #result(op: string, { type = 'float32', shape, bound, error, terms = 0, magnitude = bound }: Like): Live {
    const [units, perTerm] = (type === 'float32' ? tolerances[op] : undefined) ?? [0, 0]
    const own = units + perTerm * terms
    // Numbers that differ already are rounded differently.
    const all = own === 0 && error === 0 ? 0 : error + (own + 1) * HALF_STEP * magnitude
    const fits = shape.length <= MOST.rank && shape.every((size) => size > 0) && count(shape) <= MOST.elements
    this.want(fits && (type !== 'float32' || (bound <= MOST.bound && all <= MOST.error)))
    return { name: this.name('v'), type, shape, bound, error: all }
  }
}
