import { type Access, type Fields, type RegisterEntry, type RegisterMap, registers } from '@uaccel/core'

/** Registers that a file may name in all, and how deep its blocks may be. */
const MAX_REGISTERS = 2 ** 16
const MAX_DEPTH = 8
const MAX_NAME = 64

/** What the numbers in a trace stand for, as its file says. Anything that a file says wrongly is as if it had not said it. */
export class TraceNames {
  device = ''
  driver = ''
  /** As they stand in the file, those that say nothing that is known here too. */
  readonly lines: string[] = []
  /** How many of them are those. */
  unknown = 0
  readonly #commands = new Map<number, string>()
  readonly #registers = new Map<string, RegisterEntry[]>()
  #room = MAX_REGISTERS

  /** Takes one line of the names. */
  add(line: string): void {
    this.lines.push(line)
    if (!this.#take(line)) this.unknown++
  }

  /** The name of a command of the driver. */
  command(number: number): string | undefined {
    return this.#commands.get(number)
  }

  /** The register that an access of so many bytes reaches. */
  register(region: number, offset: bigint, bytes: number, write: boolean): RegisterEntry | undefined {
    const there = this.#registers.get(`${region}:${offset}`)?.filter(({ width }) => width === 8 * bytes)
    const fits = (access: Access) => (write ? access !== 'ro' && access !== 'rc' : access !== 'wo')
    return there?.find(({ access }) => fits(access)) ?? there?.[0]
  }

  #take(line: string): boolean {
    const said = parse(line)
    if (said === undefined) return false
    const { device, driver, commands, region, registers: definitions } = said
    if (typeof device === 'string') {
      this.device = device.slice(0, 256)
      if (typeof driver === 'string') this.driver = driver.slice(0, MAX_NAME)
      return true
    }
    if (isObject(commands)) {
      for (const [name, number] of Object.entries(commands).slice(0, 1024)) {
        if (isName(name) && Number.isInteger(number)) this.#commands.set(number as number, name)
      }
      return true
    }
    const map = Number.isInteger(region) && isObject(definitions) ? this.#map(definitions) : undefined
    for (const entry of map?.entries ?? []) {
      const key = `${region}:${entry.offset}`
      const there = this.#registers.get(key)
      if (there === undefined) this.#registers.set(key, [entry])
      else if (!there.some(({ name }) => name === entry.name)) there.push(entry)
    }
    return map !== undefined
  }

  /** A map that is checked in its form before it is spelt out, which takes memory. */
  #map(definitions: Readonly<Record<string, unknown>>): RegisterMap | undefined {
    const count = countRegisters(definitions, 0)
    if (!(count <= this.#room)) return undefined
    this.#room -= count
    try {
      return registers(definitions as never) as RegisterMap
    } catch {
      return undefined // names that contradict themselves
    }
  }
}

type Json = Readonly<Record<string, unknown>>

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const isName = (name: string) => name.length > 0 && name.length <= MAX_NAME

function parse(line: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/** How many registers a block spells out to; NaN where it is none. */
function countRegisters(block: Json, depth: number): number {
  if (depth > MAX_DEPTH) return Number.NaN
  let sum = 0
  for (const [name, item] of Object.entries(block)) {
    if (!isName(name) || !isObject(item)) return Number.NaN
    if (item.kind === 'array') {
      const { count, strideBytes, element } = item
      if (!isCount(count, MAX_REGISTERS) || !isCount(strideBytes, 2 ** 32) || !isObject(element))
        return Number.NaN
      sum +=
        count * (element.kind === 'register' ? checkRegister(element) : countRegisters(element, depth + 1))
    } else sum += checkRegister(item)
    if (!(sum <= MAX_REGISTERS)) return Number.NaN
  }
  return sum
}

const isCount = (value: unknown, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= most

/** 1 for a register, NaN for anything else. */
function checkRegister({ kind, width, access, offset, fields, doc }: Json): number {
  const fine =
    kind === 'register' &&
    [8, 16, 32, 64].includes(width as number) &&
    ['ro', 'wo', 'rw', 'w1c', 'rc'].includes(access as string) &&
    isCount(offset, Number.MAX_SAFE_INTEGER) &&
    (doc === undefined || typeof doc === 'string') &&
    isObject(fields) &&
    Object.entries(fields).every(([name, field]) => isName(name) && isField(field))
  return fine ? 1 : Number.NaN
}

function isField(field: unknown): field is Fields[string] {
  if (!isObject(field) || !isCount(field.hi, 63) || !isCount(field.lo, 63)) return false
  if (field.kind === 'bits' || field.kind === 'flag') return true
  return (
    field.kind === 'choice' &&
    isObject(field.choices) &&
    Object.entries(field.choices).every(([name, value]) => isName(name) && typeof value === 'number')
  )
}
