import { dequantise, quantise } from '../reference/arithmetic.js'
import type { Dequantize, Operation, Quantisation, QuantisedAdd, Range, Value } from './operations.js'
import { isQuantised, limits, type QuantisedType } from './tensor.js'

/**
 * Folds what can be folded without changing one bit of the result:
 * - DequantizeLinear, Relu or Clip, QuantizeLinear becomes a clamp of the quantised values;
 * - two DequantizeLinear, Add, perhaps Relu or Clip, QuantizeLinear becomes a quantised addition;
 * - a clamp of quantised values narrows the range of the operation before it.
 * Quantising is monotone, so that limiting before it is limiting after it, to the quantised limits.
 */
export function fold(operations: readonly Operation[], outputs: readonly Value[]): Operation[] {
  return new Folder(operations, outputs).run()
}

type Ranged = Operation & { readonly range: Range }

class Folder {
  readonly #outputs: readonly Value[]
  #operations: Operation[]
  #producers = new Map<Value, Operation>()
  #uses = new Map<Value, number>()

  constructor(operations: readonly Operation[], outputs: readonly Value[]) {
    this.#outputs = outputs
    this.#operations = [...operations]
  }

  run(): Operation[] {
    for (;;) {
      this.#index()
      const folded = this.#foldOne()
      if (!folded) return this.#operations
      this.#operations = folded
      this.#dropUnused()
    }
  }

  #index(): void {
    this.#producers = new Map(this.#operations.map((operation) => [operation.output, operation]))
    this.#uses = new Map(this.#outputs.map((value) => [value, 1]))
    for (const { inputs } of this.#operations) {
      for (const value of inputs) this.#uses.set(value, (this.#uses.get(value) ?? 0) + 1)
    }
  }

  /** The operation that computes `value`, if nothing else wants it. */
  #solely<K extends Operation['kind']>(
    value: Value,
    ...kinds: K[]
  ): Extract<Operation, { kind: K }> | undefined {
    const producer = this.#producers.get(value)
    const fits = producer && this.#uses.get(value) === 1 && kinds.includes(producer.kind as K)
    return fits ? (producer as Extract<Operation, { kind: K }>) : undefined
  }

  #dequantized(value: Value): Dequantize | undefined {
    const producer = this.#producers.get(value)
    return producer?.kind === 'dequantize' ? producer : undefined
  }

  #foldOne(): Operation[] | undefined {
    for (const operation of this.#operations) {
      const folded =
        operation.kind === 'quantize' ? this.#foldQuantize(operation) : this.#foldClamp(operation)
      if (!folded) continue
      const [gone, replacement] = folded
      return this.#operations.flatMap((candidate) =>
        candidate === operation ? [replacement] : candidate === gone ? [] : [candidate],
      )
    }
    return undefined
  }

  #foldQuantize(operation: Extract<Operation, { kind: 'quantize' }>): [Operation, Operation] | undefined {
    const { quantisation, output } = operation
    const dtype = output.type.dtype as QuantisedType
    const between = this.#solely(operation.inputs[0], 'clamp')
    const source = between ? between.inputs[0] : operation.inputs[0]
    const range = quantisedRange(between?.range, quantisation, dtype)
    const ops = between ? [between.op] : []
    const dequantize = between && this.#dequantized(source)
    if (dequantize && isIdentity(dequantize, quantisation, dtype)) {
      const op = [dequantize.op, ...ops, operation.op].join('+')
      return [between, { kind: 'clamp', name: between.name, op, inputs: dequantize.inputs, output, range }]
    }
    const add = this.#solely(source, 'add')
    const terms = add?.inputs.map((value) => this.#dequantized(value))
    if (!add || !terms?.[0] || !terms[1]) return undefined
    const quantisedAdd: QuantisedAdd = {
      kind: 'quantisedAdd',
      name: add.name,
      op: [terms[0].op, add.op, ...ops, operation.op].join('+'),
      inputs: [terms[0].inputs[0], terms[1].inputs[0]],
      output,
      quantisations: [terms[0].quantisation, terms[1].quantisation],
      outputQuantisation: quantisation,
      range,
    }
    return [add, quantisedAdd]
  }

  #foldClamp(operation: Operation): [Operation, Operation] | undefined {
    if (operation.kind !== 'clamp' || !isQuantised(operation.output.type.dtype)) return undefined
    const before: Ranged | undefined = this.#solely(
      operation.inputs[0],
      'conv',
      'matmul',
      'quantisedAdd',
      'clamp',
    )
    if (!before) return undefined
    const { output, op, range } = operation
    const narrowed = {
      min: Math.min(Math.max(before.range.min, range.min), range.max),
      max: Math.max(Math.min(before.range.max, range.max), range.min),
    }
    return [before, { ...before, op: `${before.op}+${op}`, output, range: narrowed } as Operation]
  }

  #dropUnused(): void {
    for (;;) {
      const used = new Set([...this.#outputs, ...this.#operations.flatMap(({ inputs }) => inputs)])
      const kept = this.#operations.filter(({ output }) => used.has(output))
      if (kept.length === this.#operations.length) return
      this.#operations = kept
    }
  }
}

/** The limits of a float clamp as quantised values; the type's limits for none. */
function quantisedRange(
  range: Range | undefined,
  { scale, zeroPoint }: Quantisation,
  dtype: QuantisedType,
): Range {
  const { min, max } = limits[dtype]
  if (!range) return { min, max }
  const limit = (x: number) => quantise(Math.fround(x), scale, zeroPoint, min, max)
  return { min: limit(range.min), max: limit(range.max) }
}

/** True when quantising what was dequantised gives every value of the type back. */
function isIdentity(
  dequantize: Dequantize,
  { scale, zeroPoint }: Quantisation,
  dtype: QuantisedType,
): boolean {
  if (dequantize.inputs[0].type.dtype !== dtype) return false
  const { min, max } = limits[dtype]
  for (let q = min; q <= max; q++) {
    const real = dequantise(q, dequantize.quantisation.scale, dequantize.quantisation.zeroPoint)
    if (quantise(real, scale, zeroPoint, min, max) !== q) return false
  }
  return true
}
