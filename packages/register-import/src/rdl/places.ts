import { wrongAt } from '../description.js'
import { exactNumber } from '../numbers.js'
import type { Instance } from './instances.js'

/** An instance with its place in what it stands in. */
export interface Placed {
  readonly instance: Instance
  readonly offset: bigint
  readonly stride: bigint
}

/** The rules of an address map for all that is in it. */
interface Rules {
  readonly addressing: string
  readonly alignment: bigint
  readonly msb0: boolean
}

/** Works out where things are (SystemRDL 2.0, clauses 5.1.2.2, 10.7 and 13.4). */
export class Placer {
  readonly #rules = new Map<Instance, Rules>()
  readonly #sizes = new Map<Instance, bigint>()

  /** The children of an address map or register file, with their places. */
  place(parent: Instance, outer?: Rules): Placed[] {
    const rules = this.#rulesOf(parent, outer)
    const isBridge = parent.properties.get('bridge')?.value === true
    const placed: Placed[] = []
    let next = 0n
    for (const instance of parent.children) {
      const { definition, address, alignment, count, name, place } = instance
      if (definition.kind === 'signal') continue
      if (definition.kind === 'field') throw wrongAt(place, `the field ${name} stands in no register`)
      const size = this.#sizeOf(instance, rules)
      const stride = instance.stride ?? size
      const total = stride * BigInt(count - 1) + size
      if (alignment !== undefined && alignment < 1n)
        throw wrongAt(place, `${name} is aligned to ${alignment} bytes`)
      const step = max(rules.alignment, alignment ?? 1n, this.#step(instance, rules, size, total))
      const offset = address ?? roundUp(isBridge ? 0n : next, step)
      if (offset % rules.alignment !== 0n)
        throw wrongAt(place, `${name} at 0x${offset.toString(16)} is not aligned to ${rules.alignment} bytes`)
      placed.push({ instance, offset, stride })
      next = offset + total
    }
    return placed
  }

  /** `regwidth`, a power of two from 8 bits on. */
  registerWidth(register: Instance): bigint {
    return power(register, 'regwidth') ?? 32n
  }

  /** `accesswidth`, which is the register's where it is not set. */
  accessWidth(register: Instance): bigint {
    return power(register, 'accesswidth') ?? this.registerWidth(register)
  }

  /** The fields of a register with their bits. */
  fields(register: Instance): { instance: Instance; hi: number; lo: number }[] {
    const regwidth = exactNumber(this.registerWidth(register), 'regwidth', register.place)
    const fields = register.children.filter(({ definition }) => definition.kind === 'field')
    const other = register.children.find(({ definition }) => !['field', 'signal'].includes(definition.kind))
    if (other) throw wrongAt(other.place, `the ${other.definition.kind} ${other.name} stands in a register`)
    const rising = fields.find(({ range }) => range && range[0] < range[1])
    const falling = fields.find(({ range }) => range && range[0] > range[1])
    if (rising && falling)
      throw wrongAt(rising.place, `${rising.name} counts bits upwards and ${falling.name} downwards`)
    const msb0 = falling ? false : rising ? true : (this.#rules.get(register)?.msb0 ?? false)
    let next = msb0 ? regwidth - 1 : 0
    return fields.map((instance) => {
      const { name, place, range, properties } = instance
      const small = (value: bigint) => exactNumber(value, `a bit of ${name}`, place)
      const fieldwidth = properties.get('fieldwidth')
      const declared = typeof fieldwidth?.value === 'bigint' ? small(fieldwidth.value) : undefined
      const ends = range?.map(small)
      const width = ends
        ? Math.abs(ends[0] - ends[1]) + 1
        : instance.width === undefined
          ? (declared ?? 1)
          : small(instance.width)
      if (width < 1 || (declared !== undefined && declared !== width))
        throw wrongAt(place, `${name} has ${width} bits, and its type ${declared ?? 'at least 1'}`)
      const lo = ends ? Math.min(...ends) : msb0 ? next - width + 1 : next
      const hi = lo + width - 1
      if (lo < 0 || hi >= regwidth)
        throw wrongAt(place, `${name} is bits ${hi}:${lo} of a register of ${regwidth} bits`)
      next = msb0 ? lo - 1 : hi + 1
      return { instance, hi, lo }
    })
  }

  #rulesOf(parent: Instance, outer: Rules | undefined): Rules {
    const known = this.#rules.get(parent)
    if (known) return known
    const { properties, definition } = parent
    const isMap = definition.kind === 'addrmap'
    const addressing = properties.get('addressing')
    const mode =
      addressing && typeof addressing.value === 'object' && 'word' in addressing.value
        ? addressing.value.word
        : undefined
    if (addressing && !['compact', 'regalign', 'fullalign'].includes(mode ?? ''))
      throw wrongAt(addressing.place, 'addressing takes compact, regalign or fullalign')
    const set = (name: string) => properties.get(name)?.value === true
    const rules: Rules = {
      addressing: isMap ? (mode ?? 'regalign') : (outer?.addressing ?? 'regalign'),
      alignment: power(parent, 'alignment') ?? (isMap ? 1n : (outer?.alignment ?? 1n)),
      msb0: isMap ? set('msb0') : (outer?.msb0 ?? false),
    }
    this.#rules.set(parent, rules)
    return rules
  }

  /** Bytes of one element. */
  #sizeOf(instance: Instance, rules: Rules): bigint {
    const known = this.#sizes.get(instance)
    if (known !== undefined) return known
    const { kind } = instance.definition
    let size: bigint
    if (kind === 'reg') {
      this.#rules.set(instance, rules)
      size = this.registerWidth(instance) / 8n
    } else if (kind === 'mem') {
      const width = power(instance, 'memwidth') ?? 32n
      size = (number(instance, 'mementries') ?? 1n) * (width / 8n)
    } else {
      size = this.place(instance, rules).reduce((end, { instance: child, offset, stride }) => {
        const last =
          offset + stride * BigInt(child.count - 1) + this.#sizeOf(child, this.#rulesOf(instance, rules))
        return max(end, last)
      }, 0n)
    }
    if (size < 1n) throw wrongAt(instance.place, `${instance.name} is empty`)
    this.#sizes.set(instance, size)
    return size
  }

  /** What the addressing mode aligns to. Sizes are rounded up to powers of two. */
  #step(instance: Instance, { addressing }: Rules, size: bigint, total: bigint): bigint {
    if (addressing === 'compact')
      return instance.definition.kind === 'reg' ? max(this.accessWidth(instance) / 8n, 1n) : 1n
    return ceilPower(addressing === 'fullalign' ? total : size)
  }
}

const max = (...values: bigint[]): bigint => values.reduce((a, b) => (a > b ? a : b))
const roundUp = (value: bigint, step: bigint): bigint => ((value + step - 1n) / step) * step
const ceilPower = (value: bigint): bigint =>
  1n << BigInt((value - 1n).toString(2).length * Number(value > 1n))

function number({ properties }: Instance, name: string): bigint | undefined {
  const property = properties.get(name)
  if (!property) return undefined
  if (typeof property.value === 'bigint' && property.value > 0n) return property.value
  throw wrongAt(property.place, `${name} takes a number above zero`)
}

function power(instance: Instance, name: string): bigint | undefined {
  const value = number(instance, name)
  if (value === undefined || ((value & (value - 1n)) === 0n && (name === 'alignment' || value >= 8n)))
    return value
  throw wrongAt(
    instance.properties.get(name)!.place,
    `${name} is ${value}, wanted a power of two${name === 'alignment' ? '' : ' from 8 on'}`,
  )
}
