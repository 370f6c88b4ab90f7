import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { arrayOf, type MLOperandDataType, type MLOperandDescriptor, type TypedArray } from '../data-type.js'
import { halfBits } from '../half.js'

interface Tensor {
  /** Numbers, strings where they do not fit one, or one number for all elements. */
  readonly data: readonly (number | string)[] | number | string
  readonly descriptor: MLOperandDescriptor
  readonly constant?: boolean
}

/** A case of the suite: a graph, what goes in, and what is expected. */
export interface Case {
  readonly name: string
  readonly graph: {
    readonly inputs: Readonly<Record<string, Tensor>>
    readonly operators: readonly {
      readonly name: string
      readonly arguments: readonly Readonly<Record<string, unknown>>[]
      readonly outputs: string | readonly string[]
    }[]
    readonly expectedOutputs: Readonly<Record<string, Tensor>>
  }
}

/** The cases of a folder, by file. */
export function casesOf(folder: string): Map<string, Case[]> {
  const files = readdirSync(folder).filter((file) => file.endsWith('.json'))
  return new Map(
    files.sort().map((file) => [
      file.replace('.json', ''),
      // NaN and Infinity stand in the files as such; JSON knows neither.
      (
        JSON.parse(
          readFileSync(join(folder, file), 'utf8').replace(
            /([[\s:,])(-?Infinity|NaN)(?=[\],\s}])/g,
            '$1"$2"',
          ),
        ) as { tests: Case[] }
      ).tests,
    ]),
  )
}

/** The elements of a tensor of a case. */
export function elementsOf({ data, descriptor: { dataType, shape } }: Tensor): TypedArray {
  const Elements = arrayOf[dataType]
  const count = shape.reduce((all, size) => all * size, 1)
  const list = typeof data === 'object' ? data : new Array<number | string>(count).fill(data)
  const convert = (value: number | string) =>
    dataType === 'int64' || dataType === 'uint64'
      ? BigInt(String(value).replace(/n$/, ''))
      : dataType === 'float16'
        ? halfBits(Number(value))
        : Number(value)
  return new (Elements as unknown as new (list: (number | bigint)[]) => TypedArray)(list.map(convert))
}

/** How many values of the type lie between the two; halves are their bits. */
export function ulpDistance(a: number, b: number, dataType: MLOperandDataType): number {
  if (dataType === 'float16') {
    const ordered = (bits: number) => (bits < 0x8000 ? bits : 0x8000 - bits)
    return Math.abs(ordered(a) - ordered(b))
  }
  if (dataType !== 'float32') return Math.abs(a - b)
  if (Object.is(a, b) || a === b || (Number.isNaN(a) && Number.isNaN(b))) return 0
  const bits = new Int32Array(new Float32Array([a, b]).buffer)
  const ordered = (bit: number) => (bit < 0 ? -0x8000_0000 - bit : bit)
  return Math.abs(ordered(bits[0]!) - ordered(bits[1]!))
}
