import type { DataType } from '@uaccel/inference'
import { count, type Live, Maker, tensorOf } from './maker.js'
import {
  type ByteType,
  type Judged,
  type Limits,
  type Numbers,
  type Quantization,
  unlimited,
} from './scalar.js'

/** Results that are to be the judge's, to the bit, or either of the two where the exact one is half way between them. */
export type Agreement = 'exact' | 'tie'

/** How ours, and onnxruntime's, agree with the judge. */
export interface Agreements {
  readonly ours: Agreement
  readonly onnxruntime: Agreement
}

/**
 * By what is computed. Ours is as packages/webnn/src/fuse says: sums are int32, and one multiplication by a float32 follows, however the graph
 * spells it; averages divide after that. ONNX defines the bits of the operators of quantised tensors. The same between DequantizeLinear and
 * QuantizeLinear is float32 to onnxruntime where it has no operator of integers for it (one scale for each channel without a bias, a Relu or Clip
 * that limits more than the type does). Its averages, sums and products of two tensors add and multiply floats in an order of its own.
 */
export const agreements = {
  QLinearConv: { ours: 'exact', onnxruntime: 'exact' },
  QLinearMatMul: { ours: 'exact', onnxruntime: 'exact' },
  'ConvInteger, MatMulInteger': { ours: 'exact', onnxruntime: 'exact' },
  DynamicQuantizeLinear: { ours: 'exact', onnxruntime: 'exact' },
  QuantizeLinear: { ours: 'exact', onnxruntime: 'exact' },
  'Relu, Clip': { ours: 'exact', onnxruntime: 'exact' },
  'Reshape, Transpose, Slice': { ours: 'exact', onnxruntime: 'exact' },
  Concat: { ours: 'exact', onnxruntime: 'exact' },
  MaxPool: { ours: 'exact', onnxruntime: 'exact' },
  'Conv of floats': { ours: 'exact', onnxruntime: 'tie' },
  'MatMul, Gemm of floats': { ours: 'exact', onnxruntime: 'tie' },
  'Sigmoid, Tanh, LeakyRelu': { ours: 'exact', onnxruntime: 'tie' },
  'Add, QLinearAdd': { ours: 'exact', onnxruntime: 'tie' },
  'Mul, QLinearMul': { ours: 'exact', onnxruntime: 'tie' },
  AveragePool: { ours: 'tie', onnxruntime: 'tie' },
} as const satisfies Readonly<Record<string, Agreements>>

export type Kind = keyof typeof agreements

/** What a value of the graph has to be. */
export interface Judgement {
  readonly kind: Kind
  readonly name: string
  readonly type: ByteType | 'int32' | 'float32'
  /** Values of the graph that it is computed of. */
  readonly from: readonly string[]
  judge(of: (name: string) => Numbers): Judged
}

/** A value of bytes that steps go on with. */
export interface Bytes {
  readonly live: Live
  readonly by: Quantization
}

export type Step = (q: QuantisedMaker) => void

type Grid = (scale: number) => number

/**
 * Scales as they come; powers of 2, with which many results are half way between two bytes, exactly; and decimal ones, of which such results are
 * half way but for the rounding of the scales themselves.
 */
const grids: readonly Grid[] = [
  (scale) => scale,
  (scale) => 2 ** Math.round(Math.log2(scale)),
  (scale) => {
    const digit = 10 ** Math.floor(Math.log10(scale))
    return digit * ([1, 2, 5].find((each) => each * digit >= scale) ?? 10)
  },
]

export class QuantisedMaker {
  readonly m: Maker
  readonly values: Bytes[] = []
  readonly judgements: Judgement[] = []
  readonly type: ByteType
  readonly #grid: Grid
  readonly #dequantized = new Map<string, Live>()

  constructor(seed: number, opset: number) {
    this.m = new Maker(seed, opset)
    this.type = this.m.chance(0.7) ? 'uint8' : 'int8'
    this.#grid = this.m.pick(grids)
  }

  /** The nearest scale that the graph may have. */
  scaleNear(scale: number): number {
    return Math.fround(this.#grid(Math.min(Math.max(scale, 1e-4), 100)))
  }

  find(wanted: (shape: readonly number[]) => boolean = () => true): Bytes {
    const found = this.values.filter(({ live }) => wanted(live.shape))
    return this.m.chance(0.6) && found.length > 0 ? found.at(-1)! : this.m.pick(found)
  }

  /** One for results; with `atEnd` its zero point may be the least of the type. */
  quantization(scale: number, atEnd = true): Quantization {
    const [least, low, high] = this.type === 'uint8' ? [0, 90, 160] : [-128, -30, 30]
    const zero = atEnd && this.m.chance(0.2) ? least : this.m.int(low, high)
    return { type: this.type, scale: this.scaleNear(scale), zero }
  }

  scale(of: Quantization): string {
    return this.m.scalar(of.scale)
  }
  zero(of: Quantization): string {
    return this.m.scalar(of.zero, of.type)
  }
  scaled = (of: Quantization): string[] => [this.scale(of), this.zero(of)]

  /** Random bytes as a constant, and as numbers. */
  weights(shape: readonly number[], type: ByteType): { readonly name: string; readonly numbers: Numbers } {
    const [least, most] = type === 'uint8' ? [0, 255] : [-64, 63]
    const data = Array.from({ length: count(shape) }, () => this.m.int(least, most))
    return { name: this.m.constant(tensorOf(type, shape, data)), numbers: { shape, data } }
  }

  /** That of weights: 8 bits without sign, or 7 with one, so that no kernel of onnxruntime's saturates on the way. */
  weightType(): ByteType {
    return this.type === 'int8' || this.m.chance(0.5) ? 'int8' : 'uint8'
  }

  dequantized({ live, by }: Bytes): Live {
    const known = this.#dequantized.get(live.name)
    if (known && this.m.nodes.some(({ outputs }) => outputs.includes(known.name)) && this.m.chance(0.5))
      return known
    const inputs = [live, this.scale(by), ...(by.zero === 0 && this.m.chance(0.5) ? [] : [this.zero(by)])]
    const made = this.m.hidden('DequantizeLinear', inputs, floatLike(live.shape))
    this.#dequantized.set(live.name, made)
    return made
  }

  quantized(x: Live, by: Quantization): Live {
    return this.m.hidden('QuantizeLinear', [x, ...this.scaled(by)], byteLike(x.shape, by.type))
  }

  /** Bytes that were made, and what they have to be. */
  made(kind: Kind, live: Live, by: Quantization, from: readonly Bytes[], judge: Judgement['judge']): void {
    const names = from.map(({ live }) => live.name)
    this.judgements.push({ kind, name: live.name, type: by.type, from: names, judge })
    this.values.push({ live, by })
  }

  step(step: Step): void {
    this.m.attempt(() => step(this))
  }
}

export const floatLike = (shape: readonly number[]) => ({ shape, bound: 100, error: 0 })
export const byteLike = (shape: readonly number[], type: DataType) => ({ shape, type, bound: 255, error: 0 })

/** A scale for results, with which most of them are within the range: `spread` is how far sums are from 0. */
export const scaleFor = (q: QuantisedMaker, spread: number) => (spread / 60) * (0.6 + q.m.random())

/** Root mean squares of bytes of 8 and of 7 bits. */
export const spreads = { uint8: 74, int8: 37 } as const

/** A Relu or Clip before a result is quantised, if any. */
export function limited(
  q: QuantisedMaker,
  x: Live,
  to: Quantization,
): { readonly x: Live; readonly limits: Limits } {
  const which = q.m.pick(['none', 'none', 'Relu', 'Clip'])
  if (which === 'Relu') return { x: q.m.hidden('Relu', [x], x), limits: [0, Number.POSITIVE_INFINITY] }
  if (which === 'none') return { x, limits: unlimited }
  const limits = [Math.fround(-20 * to.scale), Math.fround(30 * to.scale)] as const
  return { x: q.m.hidden('Clip', [x, q.m.scalar(limits[0]), q.m.scalar(limits[1])], x), limits }
}
