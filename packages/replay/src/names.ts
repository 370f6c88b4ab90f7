import {
  type Access,
  type Field,
  type Register,
  type RegisterEntry,
  type Fields as RegisterFields,
  type RegisterMap,
  reg8,
  reg16,
  reg32,
  reg64,
  registers,
  type Width,
} from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import { Fields } from './header.js'

/** A place in a region. */
export interface RegisterPlace {
  readonly region: number
  readonly offset: number
  readonly width: number
}

/** By width. */
const define: Readonly<Record<Width, (offset: number, access: Access, fields: RegisterFields) => Register>> =
  {
    8: reg8,
    16: reg16,
    32: reg32,
    64: reg64,
  }
const accesses = ['ro', 'wo', 'rw', 'w1c', 'rc'] as const

/** A register map as JSON, as a recording keeps it. */
export function encodeRegisters(map: RegisterMap): Buffer {
  const list = map.entries.map(({ name, offset, width, access, fields }) => ({
    name,
    offset,
    width,
    access,
    fields,
  }))
  return Buffer.from(JSON.stringify(list))
}

/** Reads what {@link encodeRegisters} wrote; throws what `wrong` makes of it where it is something else. */
export function decodeRegisters(bytes: Buffer, wrong: (what: string) => Error): RegisterMap {
  let list: unknown
  try {
    list = JSON.parse(bytes.toString())
  } catch {
    throw wrong('the names of registers are not JSON')
  }
  if (!Array.isArray(list)) throw wrong('the names of registers are no list')
  const block: Record<string, Register> = Object.create(null)
  for (const item of list) {
    const it = new Fields(item, 'a register', wrong)
    const width = it.count('width', 64)
    const access = accesses.find((known) => known === it.text('access'))
    if (access === undefined || (width !== 8 && width !== 16 && width !== 32 && width !== 64))
      throw wrong(`the register ${it.text('name')}`)
    const fields = new Fields(it.get('fields'), 'the fields of a register', wrong)
    const decoded = Object.fromEntries(
      fields.entries().map(([name, field]) => [name, decodeField(field, wrong)]),
    )
    block[it.text('name')] = define[width](it.count('offset', Number.MAX_SAFE_INTEGER), access, decoded)
  }
  try {
    return registers(block)
  } catch (error) {
    throw isAccelError(error) ? wrong(error.message) : error
  }
}

function decodeField(json: unknown, wrong: (what: string) => Error): Field {
  const it = new Fields(json, 'a field', wrong)
  const [kind, hi, lo] = [it.text('kind'), it.count('hi', 63), it.count('lo', 63)]
  if (kind === 'flag' || kind === 'bits') return { kind, hi, lo }
  if (kind !== 'choice') throw wrong(`a field of kind ${kind}`)
  const choices = new Fields(it.get('choices'), 'the choices of a field', wrong)
  return {
    kind,
    hi,
    lo,
    choices: Object.fromEntries(
      choices.entries().map(([name]) => [name, choices.count(name, Number.MAX_SAFE_INTEGER)]),
    ),
  } satisfies RegisterFields[string]
}

/** What registers are called, by region. */
export class RegisterNames {
  readonly #maps = new Map<number, RegisterMap>()

  /** Takes over the registers of a region, in the place of what was known of it. */
  set(region: number, map: RegisterMap): void {
    this.#maps.set(region, map)
  }

  /** The register at a place; `reading` tells apart two that share one. */
  find({ region, offset, width }: RegisterPlace, reading: boolean): RegisterEntry | undefined {
    const held = this.#maps.get(region)?.entries.filter((entry) => entry.offset === offset)
    const fits = held?.filter((entry) => entry.width === width * 8) ?? []
    return (
      fits.find(({ access }) => (reading ? access !== 'wo' : access !== 'ro' && access !== 'rc')) ?? fits[0]
    )
  }

  /** `STATUS (BAR 0 + 0x20)`, or the place alone where nobody named it. */
  place(place: RegisterPlace, reading: boolean): string {
    const where = `${regionName(place.region)} + 0x${place.offset.toString(16)}`
    const entry = this.find(place, reading)
    if (entry !== undefined) return `${entry.name} (${where})`
    return place.width === 0 ? where : `${where} (${place.width * 8} bits)`
  }

  /** `0x80 (computing=false irqOnDone=true)`. */
  value(place: RegisterPlace, reading: boolean, value: bigint): string {
    const raw = `0x${value.toString(16)}`
    const entry = this.find(place, reading)
    if (entry === undefined) return raw
    const fields = entry.width === 64 ? entry.codec.decode64(value) : entry.codec.decode(Number(value))
    const decoded = Object.entries(fields).map(([name, part]) => `${name}=${part}`)
    return decoded.length === 0 ? raw : `${raw} (${decoded.join(' ')})`
  }
}

/** `BAR 0`, `ROM`, `config space`. */
export function regionName(region: number): string {
  if (region <= 5) return `BAR ${region}`
  return region === 6 ? 'ROM' : region === 7 ? 'config space' : `region ${region}`
}
