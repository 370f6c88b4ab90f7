import { type Place, wrongAt } from './description.js'
import { MAX_REGISTERS } from './limits.js'

/** Bytes, bits and counts are numbers: past 2^53 they are refused with what they were for. */
export function exactNumber(value: bigint, what: string, place: Place): number {
  if (value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  throw wrongAt(
    place,
    `${what} is 0x${value.toString(16).replace('-', '')}${value < 0n ? ' below zero' : ''}, wanted 0 to 2^53 - 1`,
    'ERR_ACCEL_OUT_OF_RANGE',
  )
}

/** How often something is there. */
export function countOf(value: bigint, what: string, place: Place): number {
  if (value >= 1n && value <= BigInt(MAX_REGISTERS)) return Number(value)
  throw wrongAt(place, `${what} is ${value}, wanted 1 to ${MAX_REGISTERS}`, 'ERR_ACCEL_OUT_OF_RANGE')
}

const scales: Readonly<Record<string, bigint>> = { '': 0n, k: 10n, m: 20n, g: 30n, t: 40n }

/**
 * A number as CMSIS-SVD's scaledNonNegativeInteger and IP-XACT 2009's of the same name write it: `10`, `0x1F`, `#101`, `0b101`, `4k`.
 * `undefined` where it is none.
 */
export function parseScaled(text: string): bigint | undefined {
  const hex = /^\+?0x([0-9a-f]+)([kmgt]?)$/i.exec(text)
  if (hex) return BigInt(`0x${hex[1]}`) << scales[hex[2].toLowerCase()]
  const other = /^\+?(#|0b)?(\d+)([kmgt]?)$/i.exec(text)
  if (!other || (other[1] && !/^[01]+$/.test(other[2]))) return undefined
  return BigInt(`${other[1] ? '0b' : ''}${other[2]}`) << scales[other[3].toLowerCase()]
}
