import type { Operator } from '@uaccel/webnn'
import type { Placement } from '@uaccel/webnn/accelerator'
import { type Draft, dimsOf, type Operand, operand, refuse } from './draft.js'
import { elementwiseHead } from './group.js'
import { everyType, type Lowering } from './lowering.js'
import { denseStrides } from './strides.js'

/** The lower or the upper word of elements of 64 bits, of which the device computes none. */
const word = (of: Operand, which: 0 | 1): Operand => ({
  at: of.at,
  type: 'int32',
  strides: of.strides.map((stride) => 2 * stride),
  base: 2 * (of.base ?? 0) + which,
})

function cast(operator: Operator, placement: Placement): Draft[] {
  const {
    inputs: { input },
    outputs: [output],
  } = operator
  const [from, to] = [input!.descriptor.dataType, output!.descriptor.dataType]
  const isWide = [from, to].map((type) => type.endsWith('64')) as [boolean, boolean]
  if (!isWide[0] && !isWide[1]) return [elementwiseHead(operator, placement)]
  if (from === 'float32' || to === 'float32') refuse(`${from} to ${to} is computed on the CPU`)
  const { shape } = output!.descriptor
  const strides = denseStrides(shape)
  const [a, d] = [operand(placement, input!, strides), operand(placement, output!, strides)]
  const whole = { op: 'elementwise', dims: dimsOf(shape), output: output! } as const
  if (isWide[0] && isWide[1])
    return [{ ...whole, operands: { a: { ...a, type: d.type } }, d, computes: ['none'] }]
  if (isWide[0]) return [{ ...whole, operands: { a: word(a, 0) }, d, computes: ['int32'] }]
  const sign: Draft['stages'] = from.startsWith('u')
    ? [{ fn: 'move', x: 'alpha', alpha: 0 }]
    : [{ fn: 'lesser', y: 'alpha', alpha: 0 }, { fn: 'neg' }]
  return [
    { ...whole, operands: { a }, d: word(d, 0), computes: ['int32'] },
    { ...whole, operands: { a }, d: word(d, 1), computes: ['int32'], stages: sign },
  ]
}

/** Between integers the low bits are taken, and signs are carried on. */
export const casts: Readonly<Record<string, Lowering>> = {
  cast: { types: { input: everyType, output: everyType }, drafts: cast },
}
