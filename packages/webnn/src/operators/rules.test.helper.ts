import { inspect } from 'node:util'
import type { MLOperandDataType } from '../data-type.js'
import { MLGraphBuilder, type MLOperand, ml } from '../index.js'

export type Shape = readonly number[]
export type Options = Readonly<Record<string, unknown>>

/** An operand that is an option, or of another type than float32. */
export class Of {
  readonly shape: Shape
  readonly dataType: MLOperandDataType
  constructor(shape: Shape, dataType: MLOperandDataType) {
    this.shape = shape
    this.dataType = dataType
  }
}
export const of = (...shape: number[]) => new Of(shape, 'float32')
export const int32 = (...shape: number[]) => new Of(shape, 'int32')
export const uint8 = (...shape: number[]) => new Of(shape, 'uint8')

interface Call {
  readonly operands: readonly (Shape | Of)[]
  readonly rest: readonly unknown[]
  readonly options: Options
}
/** Operands alone, with arguments behind them, with options. */
export const on = (...operands: (Shape | Of)[]): Call => ({ operands, rest: [], options: {} })
export const args = (operands: Call['operands'], ...rest: unknown[]): Call => ({
  operands,
  rest,
  options: {},
})
export const opts = (operands: Call['operands'], options: Options, ...rest: unknown[]): Call => ({
  operands,
  rest,
  options,
})

/** In the place of an output: the call is refused. */
export const no = 'refused'
type Row = readonly [call: Call, ...outputs: (Shape | typeof no)[]]
const table: (readonly [operator: string, row: Row])[] = []
/** Says of operators which calls are taken, with the shapes of their outputs, and which are refused. */
export function rules(operators: string, ...rows: readonly Row[]): void {
  for (const operator of operators.split(' ')) for (const row of rows) table.push([operator, row])
}

const context = await ml.createContext()

/** What is wrong with a call, if anything is. */
function wrongWith(operator: string, [{ operands, rest, options }, ...outputs]: Row): string | undefined {
  const builder = new MLGraphBuilder(context)
  let names = 0
  const operand = (given: Shape | Of) => {
    const { shape, dataType } = given instanceof Of ? given : of(...given)
    return builder.input(`x${names++}`, { dataType, shape })
  }
  const given = operands.map(operand)
  const members = Object.entries(options).map(([name, value]) => [
    name,
    value instanceof Of ? operand(value) : value,
  ])
  const methods = builder as unknown as Record<string, (...given: unknown[]) => MLOperand | MLOperand[]>
  try {
    const made = methods[operator]!(...(operator === 'concat' ? [given] : given), ...rest, {
      ...Object.fromEntries(members),
      label: 'a#1',
    })
    const shapes = JSON.stringify([made].flat().map(({ shape }) => shape))
    return shapes === JSON.stringify(outputs) ? undefined : `shapes ${shapes}`
  } catch (error) {
    const { name, message } = error as Error
    return outputs[0] === no && name === 'TypeError' && message.startsWith('[a#1] ')
      ? undefined
      : String(error)
  }
}

/** Makes each call that the rules have. */
export const outcomes = (): { readonly what: string; readonly wrong: string | undefined }[] =>
  table.map(([operator, row]) => ({
    what: `${operator} ${inspect(row, { depth: 4, breakLength: Number.POSITIVE_INFINITY })}`,
    wrong: wrongWith(operator, row),
  }))
