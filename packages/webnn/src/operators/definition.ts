import type { MLOperandDataType, MLOperandDescriptor } from '../data-type.js'
import { dataTypes, MAX_RANK } from '../data-type.js'
import type { Converter, Member } from '../web-idl.js'
import { usvString } from '../web-idl.js'

/** What an operand may be: data types and ranks, each given or those of another operand. */
export interface Limits {
  readonly types: readonly MLOperandDataType[] | { readonly sameAs: string }
  readonly ranks: readonly [least: number, greatest: number] | { readonly sameAs: string }
}

/** A parameter that is an operand, or a list of them. */
export type Parameter = 'operand' | 'operands' | Converter<unknown>

/** What a call has given, converted: operands by name (those that are lists as `name[0]`, ...), all else by name. */
export interface Given {
  readonly operands: Readonly<Record<string, MLOperandDescriptor>>
  readonly values: Record<string, unknown>
  /** Ends the call with a `TypeError`. */
  refuse(message: string): never
}

/**
 * An operator of the specification, as data. The builder converts the arguments, holds operands to `limits`, asks `infer` for what only this
 * operator knows, and makes the node. Values that `infer` stores into `given.values` (defaults that depend on shapes) are the node's attributes.
 */
export interface OperatorDefinition {
  readonly name: string
  /** Positional parameters, in order. */
  readonly parameters: Readonly<Record<string, Parameter>>
  /** Members of the dictionary of options; those that are operands have no converter. */
  readonly options: Readonly<Record<string, Member<unknown> | 'operand'>>
  /** Limits of operands and outputs, by the names that `opSupportLimits()` uses. */
  readonly limits: Readonly<Record<string, Limits>>
  /** The outputs of a call, or its refusal. */
  readonly infer: (given: Given) => readonly MLOperandDescriptor[]
  /** True where the call answers a sequence also of one output. */
  readonly many?: boolean
}

export const label: Member<string> = { convert: usvString, default: '' }

export const anyType: Limits['types'] = dataTypes
export const floats: Limits['types'] = ['float32', 'float16']
export const signed: Limits['types'] = ['float32', 'float16', 'int64', 'int32', 'int8']
export const wide: Limits['types'] = ['float32', 'float16', 'int32', 'uint32', 'int64', 'uint64']
export const indexTypes: Limits['types'] = ['int32', 'uint32', 'int64']
export const uint8: Limits['types'] = ['uint8']
export const same = (sameAs: string): { readonly sameAs: string } => ({ sameAs })
export const anyRank = [0, MAX_RANK] as const
export const ranked = [1, MAX_RANK] as const
export const rank = (least: number, greatest: number = least): readonly [number, number] => [least, greatest]

/** One input, and an output of its type and rank. */
export const oneInput = (
  types: Limits['types'],
  ranks: Limits['ranks'] = anyRank,
  outputRanks: Limits['ranks'] = same('input'),
) => ({
  input: { types, ranks },
  output: { types: same('input'), ranks: outputRanks },
})
