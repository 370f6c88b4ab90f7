import type { Operator, Value } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import type { ComputeType, Stage, StageSource } from '../tensor-steps.js'
import { broadcastOperand, type Draft, dimsOf, type Letter, type Operand, refuse } from './draft.js'
import { type Argument, elementwise, type StageDraft } from './stages.js'
import { denseStrides, product } from './strides.js'

const MAX_STAGES = 8

/** The number of a constant of one element. */
function numberOf(value: Value, placement: Placement): number | undefined {
  const { dataType, shape } = value.descriptor
  if (product(shape) !== 1) return undefined
  const bytes = placement.constant(value)
  if (bytes === undefined) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  switch (dataType) {
    case 'float32':
      return view.getFloat32(0, true)
    case 'int32':
      return view.getInt32(0, true)
    case 'uint32':
      return view.getUint32(0, true)
    case 'int8':
      return view.getInt8(0)
    case 'uint8':
      return view.getUint8(0)
    default:
      return undefined
  }
}

const same = (one: Operand, other: Operand) =>
  one.at.buffer === other.at.buffer &&
  one.at.offset === other.at.offset &&
  one.base === other.base &&
  one.type === other.type &&
  one.strides.every((stride, at) => stride === other.strides[at])

/** A step under construction: a head, and what follows it element by element. */
class Group {
  readonly #head: Draft
  readonly #placement: Placement
  readonly #operands: Partial<Record<Letter, Operand>>
  readonly #stages: Stage[]
  #computes: readonly ComputeType[]
  /** What the result so far is; none between the stages of an operator. */
  #result: Value | undefined
  #open = true

  constructor(head: Draft, result: Value, placement: Placement) {
    this.#head = head
    this.#placement = placement
    this.#operands = { ...head.operands }
    this.#stages = [...(head.stages ?? [])]
    this.#computes = head.computes
    this.#result = result
  }

  /** Adds an operator. Refused where it does not fit: then the group is of no more use. */
  add(operator: Operator): this {
    const { stages, computes, carries } =
      elementwise[operator.name] ?? refuse(`${operator.name} is not element-wise`)
    const [output] = operator.outputs
    if (!this.#open) refuse('nothing can follow what has to be written first')
    if (!sameShape(output!, this.#head.output)) refuse('what follows has another shape')
    const own = computes(operator)
    this.#computes = this.#computes.filter((type) => own.includes(type))
    if (this.#computes.length === 0) refuse(`${operator.name} cannot be computed in the type that is wanted`)
    for (const draft of stages(operator)) {
      this.#push(draft)
      this.#result = undefined
    }
    this.#result = output!
    this.#open = carries(operator)
    return this
  }

  draft(): Draft {
    const operands = this.#operands as Draft['operands']
    return { ...this.#head, operands, stages: this.#stages, computes: this.#computes, output: this.#result! }
  }

  #push({ fn, x = 'result', y, z, alpha, beta }: StageDraft): void {
    const numbers: { alpha?: number; beta?: number } = {
      ...(alpha === undefined ? {} : { alpha }),
      ...(beta === undefined ? {} : { beta }),
    }
    const source = (from: Argument): StageSource => this.#source(from, numbers)
    const stage: Stage = {
      fn,
      x: source(x),
      ...(y === undefined ? {} : { y: source(y) }),
      ...(z === undefined ? {} : { z: source(z) }),
      ...numbers,
    }
    if (fn === 'move' && stage.x === 'result') return
    this.#stages.push({ ...stage, ...numbers })
    if (this.#stages.length > MAX_STAGES) refuse(`more than ${MAX_STAGES} stages`)
  }

  #source(from: Argument, numbers: { alpha?: number; beta?: number }): StageSource {
    if (from === 'result' || from === this.#result) return 'result'
    const number = typeof from === 'number' ? from : numberOf(from, this.#placement)
    if (number !== undefined) {
      for (const name of ['alpha', 'beta'] as const) {
        numbers[name] ??= number
        if (Object.is(numbers[name], number)) return name
      }
    }
    const { takes = [] } = this.#head
    const wanted = broadcastOperand(this.#placement, from as Value, this.#head)
    const letter =
      takes.find((name) => this.#operands[name] && same(this.#operands[name], wanted)) ??
      takes.find((name) => this.#operands[name] === undefined) ??
      refuse('it has more operands than a step takes')
    this.#operands[letter] = wanted
    return letter
  }
}

export const sameShape = (a: Value, b: Value) =>
  a.descriptor.shape.length === b.descriptor.shape.length &&
  a.descriptor.shape.every((size, at) => size === b.descriptor.shape[at])

/** Draft of a head, with the operators that follow it. */
export function follow(head: Draft, followers: readonly Operator[], placement: Placement): Draft {
  if (followers.length === 0) return head
  if (head.takes === undefined) refuse('nothing can follow this operator')
  const group = new Group(head, head.output, placement)
  for (const operator of followers) group.add(operator)
  return group.draft()
}

/** Blocks of the input that share a scale: dimensions are split where there are several. */
function blockwise(operator: Operator, placement: Placement): Draft | undefined {
  const { scale, zeroPoint, input } = operator.inputs
  const [output] = operator.outputs
  const { shape } = output!.descriptor
  if (!scale || scale.descriptor.shape.every((size, at) => size === 1 || size === shape[at])) return undefined
  const own = scale.descriptor.shape
  const dims = shape.flatMap((size, axis) => {
    const block = size / own[axis]!
    return [
      { size: own[axis]!, axis, step: block },
      { size: block, axis },
    ]
  })
  const strides = denseStrides(own).flatMap((stride) => [stride, 0])
  const view = (value: Value): Operand => ({
    at: placement.at(value),
    type: value.descriptor.dataType as Operand['type'],
    strides,
    base: 0,
  })
  const head = { op: 'elementwise', dims, output: output!, computes: ['float32'] } as const
  const a = broadcastOperand(placement, input!, head)
  const stages: Stage[] =
    operator.name === 'quantizeLinear'
      ? [{ fn: 'div', y: 'b' }, { fn: 'roundEven' }, { fn: 'add', y: 'c' }]
      : [
          { fn: 'sub', y: 'c' },
          { fn: 'mul', y: 'b' },
        ]
  if (elementwise[operator.name]!.computes(operator).length === 0) refuse(INEXACT)
  return { ...head, operands: { a, b: view(scale), c: view(zeroPoint!) }, stages }
}

const INEXACT = 'a zero point of 32 bits is computed on the CPU'

/** An element-wise operator as head: A is its first operand that is not one number. */
export function elementwiseHead(operator: Operator, placement: Placement): Draft {
  const special = blockwise(operator, placement)
  if (special) return special
  const { computes, carries } = elementwise[operator.name]!
  const [output] = operator.outputs
  const values = Object.values(operator.inputs)
  const main = values.find((value) => numberOf(value, placement) === undefined) ?? values[0]!
  const own = computes(operator)
  if (own.length === 0) refuse(INEXACT)
  const dims = dimsOf(output!.descriptor.shape)
  const base = { op: 'elementwise', dims, output: output!, computes: own } as const
  const start: Draft = {
    ...base,
    takes: ['a', 'b', 'c'],
    operands: { a: broadcastOperand(placement, main, base) },
  }
  const done = new Group(start, main, placement).add(operator).draft()
  if (carries(operator)) return done
  const { takes: _, ...closed } = done
  return closed
}
