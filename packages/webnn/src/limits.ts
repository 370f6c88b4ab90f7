import { dataTypes, MAX_RANK, MAX_TENSOR_BYTES, type MLOperandDataType } from './data-type.js'
import type { Limits } from './operators/definition.js'
import { operators } from './operators/index.js'
import type { MLOpSupportLimits, MLTensorLimits } from './support-limits.js'

/** The types and ranks of an operand, with those of another in place of its name. */
export function resolve(
  limits: Readonly<Record<string, Limits>>,
  name: string,
): { types: readonly MLOperandDataType[]; ranks: readonly [number, number] } {
  const { types, ranks } = limits[name]!
  return {
    types: 'sameAs' in types ? resolve(limits, types.sameAs).types : types,
    ranks: 'sameAs' in ranks ? resolve(limits, ranks.sameAs).ranks : ranks,
  }
}

function tensorLimits({ types, ranks }: ReturnType<typeof resolve>): MLTensorLimits {
  return { dataTypes: [...types], rankRange: { min: ranks[0], max: ranks[1] } }
}

/** What `MLContext.opSupportLimits()` answers: a fresh object each time. */
export function supportLimits(): MLOpSupportLimits {
  const any = () => tensorLimits({ types: dataTypes, ranks: [0, MAX_RANK] })
  const each = Array.from(operators.values(), ({ name, limits }) => [
    name,
    Object.fromEntries(
      Object.keys(limits).map((operand) => [operand, tensorLimits(resolve(limits, operand))]),
    ),
  ])
  return {
    preferredInputLayout: 'nchw',
    maxTensorByteLength: MAX_TENSOR_BYTES,
    input: any(),
    constant: any(),
    output: any(),
    ...Object.fromEntries(each),
  } as MLOpSupportLimits
}
