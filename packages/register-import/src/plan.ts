import {
  type Access,
  bits,
  choice,
  type Field,
  flag,
  type Register,
  type RegisterBlock,
  type RegisterMap,
  reg8,
  reg16,
  reg32,
  reg64,
  regArray,
  registers,
  type Width,
} from '@uaccel/core'
import { accessWords, declaredAccess, hasEffect, isOrdinary } from './access.js'
import {
  at,
  type DescribedField,
  type DescribedGroup,
  type DescribedMember,
  type DescribedRegister,
  type Dimension,
  maskOf,
  type Place,
  type Warning,
  wrongAt,
} from './description.js'
import { layersOf } from './layers.js'
import { fieldName, mapName, Names, registerName } from './names.js'

/** A field with the name and kind that it gets. */
export interface PlannedField {
  readonly name: string
  readonly field: Field
  /** Lines for people. */
  readonly doc: readonly string[]
}

/** A register as a map declares it. */
export interface PlannedRegister {
  readonly kind: 'register'
  readonly name: string
  readonly doc: readonly string[]
  /** One line, for the map's own `doc`. */
  readonly line: string | undefined
  readonly width: Width
  readonly access: Access
  readonly offset: number
  readonly dimension?: Dimension
  readonly fields: readonly PlannedField[]
  readonly reset?: { readonly value: bigint; readonly mask: bigint }
}

/** An array of blocks. Offsets of its members count from the start of an element. */
export interface PlannedArray {
  readonly kind: 'array'
  readonly name: string
  readonly doc: readonly string[]
  readonly dimension: Dimension
  readonly members: readonly Planned[]
}

export type Planned = PlannedRegister | PlannedArray

/** A map as it is declared: by the file that is written, or at once by {@link toRegisterMap}. */
export interface PlannedMap {
  readonly name: string
  readonly doc: readonly string[]
  readonly members: readonly Planned[]
}

/** How a block becomes maps. */
export interface PlanOptions {
  /** Registers that overlap, although the file does not say that they are alternates, go into maps of their own too, and of fields that do the later is left out, with a warning; else both are refused. */
  readonly overlaps?: boolean
}

/** What a block becomes: a map, and others for registers that the file puts at the same places as alternates. */
export function planBlock(
  block: DescribedGroup,
  warn: (warning: Warning) => void,
  { overlaps = false }: PlanOptions = {},
): PlannedMap[] {
  return layersOf(block, overlaps).map((members, layer) => {
    const planner = new Planner(warn, overlaps)
    const name = mapName(block.name + (layer === 0 ? '' : `_alternate${layer === 1 ? '' : layer}`))
    if (layer > 0)
      warn({
        place: block.place,
        message: `${block.name}: registers at the places of others are in ${name}, a map of their own`,
      })
    const where = block.offset === 0 ? [] : [`At 0x${block.offset.toString(16)}.`]
    return {
      name,
      doc: [[block.name, block.doc].filter((part) => part).join(': '), ...where],
      members: planner.members(members, '', 0, new Names()),
    }
  })
}

class Planner {
  readonly #warn: (warning: Warning) => void
  readonly #overlaps: boolean

  constructor(warn: (warning: Warning) => void, overlaps: boolean) {
    this.#warn = warn
    this.#overlaps = overlaps
  }

  members(members: readonly DescribedMember[], prefix: string, base: number, names: Names): Planned[] {
    return members.flatMap((member): Planned[] => {
      const name = prefix + registerName(member.name)
      if (member.kind === 'register') return this.#register(member, name, base, names)
      const offset = base + member.offset
      if (!member.dimension) return this.members(member.members, `${name}_`, offset, names)
      const inner = this.members(member.members, '', offset, new Names())
      if (inner.length === 0) return []
      return [
        {
          kind: 'array',
          name: this.#take(names, name, member),
          doc: member.doc ? [member.doc] : [],
          dimension: member.dimension,
          members: inner,
        },
      ]
    })
  }

  #register(register: DescribedRegister, wanted: string, base: number, names: Names): PlannedRegister[] {
    const { place, doc, fields, dimension, reset } = register
    const parts = fields.length > 0 ? fields.map(({ access }) => access) : [register.access]
    const kinds = declaredAccess(parts)
    if (!kinds) {
      this.#warn({ place, message: `${register.name} is left out: software can neither read nor write it` })
      return []
    }
    const shared = kinds.length === 1 && overlapping(fields) && kinds[0] === 'rw'
    const declared: readonly Access[] = shared ? ['ro', 'wo'] : kinds
    const words = fields.length === 0 ? accessWords(register.access) : ''
    const name = this.#take(names, wanted, register)
    const writeName = declared.length > 1 ? this.#take(names, `${name}_WRITE`, register) : ''
    const effects = [
      ...(fields.length === 0 && (!isOrdinary(register.access) || declared.length > 1) ? [words] : []),
      ...fields
        .filter(({ access }) => !isOrdinary(access) || (declared.length > 1 && hasEffect(access)))
        .map((field) => `${field.name}: ${accessWords(field.access)}`),
    ]
    if (effects.length > 0 || declared.length > 1)
      this.#warn({
        place,
        message: [
          ...effects,
          declared.length > 1
            ? `${name} is to read it, ${writeName} to write it`
            : `${name} is ${declared[0]}`,
        ].join('; '),
      })
    return declared.map((access, i): PlannedRegister => {
      const reads = declared.length === 1 || i === 0
      const writes = declared.length === 1 || i === 1
      const own = fields.filter(
        (field) => (reads && field.access.read !== 'none') || (writes && field.access.write !== 'none'),
      )
      const counterpart =
        declared.length > 1 ? [i === 0 ? `Written as ${writeName}.` : `Read as ${name}.`] : []
      const wide = own.filter(({ hi, lo }) => hi - lo >= 53)
      const line = doc && firstSentence(doc)
      return {
        kind: 'register',
        name: i === 0 ? name : writeName,
        doc: [
          ...(doc ? [doc] : []),
          ...(words ? [`${words[0].toUpperCase()}${words.slice(1)}.`] : []),
          ...wide.map(
            (field) => `Bits ${field.hi}:${field.lo}: ${field.name}${field.doc ? `, ${field.doc}` : ''}`,
          ),
          ...counterpart,
        ],
        line,
        width: register.width as Width,
        access,
        offset: base + register.offset,
        ...(dimension ? { dimension } : {}),
        fields: this.#fields(register, own, access),
        ...(reset && i === 0 && access !== 'wo' ? { reset } : {}),
      }
    })
  }

  #fields(register: DescribedRegister, fields: readonly DescribedField[], kind: Access): PlannedField[] {
    const names = new Names()
    const taken = new Map<number, DescribedField>()
    return [...fields]
      .sort((a, b) => b.lo - a.lo)
      .flatMap((field): PlannedField[] => {
        const { hi, lo, place } = field
        const title = `field ${field.name} of ${register.name}`
        if (!(hi >= lo && lo >= 0 && hi < register.width))
          throw wrongAt(place, `${title} is bits ${hi}:${lo}, wanted ${register.width - 1} >= hi >= lo >= 0`)
        const shared = Array.from({ length: hi - lo + 1 }, (_, i) => lo + i).find((bit) => taken.has(bit))
        if (shared !== undefined) {
          const { name, place: there } = taken.get(shared)!
          const message = `${title} has bit ${shared}, as has ${name} (${at(there)})`
          if (!this.#overlaps) throw wrongAt(place, message)
          this.#warn({ place, message: `${message}: it is left out` })
          return []
        }
        for (let bit = lo; bit <= hi; bit++) taken.set(bit, field)
        if (field.access.read === 'none' && field.access.write === 'none') return []
        if (hi - lo >= 53) {
          if (hi - lo + 1 < register.width)
            this.#warn({
              place,
              message: `${title} has ${hi - lo + 1} bits, and fields up to 53: it is a comment`,
            })
          return []
        }
        const named = this.#choices(field, title)
        const words = accessWords(field.access, kind)
        return [
          {
            name: this.#take(names, fieldName(field.name), field),
            field:
              named.length > 0
                ? choice(hi, lo, Object.fromEntries(named.map(({ key, value }) => [key, value])))
                : hi === lo
                  ? flag(lo)
                  : bits(hi, lo),
            doc: [
              ...(field.doc ? [field.doc] : []),
              ...(words ? [`${words[0].toUpperCase()}${words.slice(1)}.`] : []),
              ...named.filter(({ doc }) => doc).map(({ key, doc }) => `- ${key}: ${doc}`),
            ],
          },
        ]
      })
  }

  #choices(field: DescribedField, title: string): { key: string; value: number; doc?: string }[] {
    const names = new Names()
    const values = new Set<bigint>()
    const limit = maskOf(field.hi, field.lo) >> BigInt(field.lo)
    return field.values.flatMap(({ name, value, doc }) => {
      if (value > limit || value < 0n || values.has(value)) {
        const why = values.has(value) ? 'has a name already' : 'does not fit'
        this.#warn({ place: field.place, message: `${title}: ${name} is ${value}, which ${why}` })
        return []
      }
      values.add(value)
      const key = this.#take(names, fieldName(name), { name, place: field.place })
      return [{ key, value: Number(value), ...(doc ? { doc } : {}) }]
    })
  }

  #take(names: Names, wanted: string, { name, place }: { name: string; place: Place }): string {
    return names.take(wanted, (other) =>
      this.#warn({ place, message: `${name}: the name ${wanted} is taken, here it is ${other}` }),
    )
  }
}

/** True where fields share bits, some of them to be read only and the others to be written only. */
function overlapping(fields: readonly DescribedField[]): boolean {
  const sorted = [...fields].sort((a, b) => a.lo - b.lo)
  return sorted.some((field, i) => i > 0 && field.lo <= sorted[i - 1].hi)
}

/** What fits one line of a table. */
function firstSentence(text: string): string {
  const sentence = /^.*?[.!?](?=\s|$)/.exec(text)?.[0] ?? text
  return sentence.length <= 90 ? sentence : `${sentence.slice(0, 87).trimEnd()}...`
}

const define: Readonly<Record<Width, (...is: Parameters<typeof reg32>) => Register>> = {
  8: reg8,
  16: reg16,
  32: reg32,
  64: reg64,
}

/** The map itself, without a file in between. */
export function toRegisterMap(map: PlannedMap): RegisterMap {
  return registers(blockOf(map.members))
}

function blockOf(members: readonly Planned[]): RegisterBlock {
  return Object.fromEntries(
    members.map((member) => {
      if (member.kind === 'array')
        return [
          member.name,
          regArray(member.dimension.count, member.dimension.strideBytes, blockOf(member.members)),
        ]
      const { width, offset, access, fields, line, reset, dimension } = member
      const declared: Register = define[width](
        offset,
        access,
        Object.fromEntries(fields.map(({ name, field }) => [name, field])),
        {
          ...(line === undefined ? {} : { doc: line }),
          ...(reset === undefined ? {} : { reset: reset.value, resetMask: reset.mask }),
        },
      )
      return [member.name, dimension ? regArray(dimension.count, dimension.strideBytes, declared) : declared]
    }),
  )
}
