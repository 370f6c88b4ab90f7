import { accelError } from '@uaccel/uapi'
import {
  type BitAccess,
  type DescribedField,
  type DescribedGroup,
  type DescribedMember,
  type DescribedRegister,
  type Description,
  maskOf,
  notTaken,
  oneSpace,
  type Place,
  type ReadEffect,
  type Warning,
  type WriteEffect,
  wrongAt,
} from '../description.js'
import { exactNumber } from '../numbers.js'
import type { Environment } from './evaluate.js'
import { type Instance, Instantiator } from './instances.js'
import { Parser } from './parser.js'
import { Placer } from './places.js'
import { preprocess } from './preprocess.js'
import { plainText } from './text.js'

/**
 * Reads a SystemRDL file (SystemRDL 2.0). Its last address map is the block, unless `top` names another.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_OUT_OF_RANGE, ERR_ACCEL_UNSUPPORTED with the place; ERR_ACCEL_NOT_FOUND for no such map
 */
export function readRdl(file: string, text: string, top?: string): Description {
  const parser = new Parser(preprocess(file, text))
  const root = parser.parse()
  const { warnings } = parser
  const maps = parser.addressMaps
  const chosen = top === undefined ? maps.at(-1) : maps.find(({ name }) => name === top)
  if (!chosen) {
    if (maps.length === 0) throw wrongAt({ file, line: 1, column: 1 }, 'there is no addrmap in it')
    const names = maps.map(({ name }) => name).join(', ')
    throw accelError('ERR_ACCEL_NOT_FOUND', `${file} has no addrmap ${top}; there are ${names}.`)
  }
  const environment: Environment = { definition: root, parameters: new Map(), outer: undefined }
  const instance = new Instantiator().top(chosen, environment)
  const block = new RdlReader(warnings).block(instance)
  const { doc } = block
  return {
    format: 'rdl',
    name: block.name,
    ...(doc === undefined ? {} : { doc }),
    blocks: [block],
    warnings,
  }
}

/** The values of `sw` (SystemRDL 2.0, table 16). */
const software: Readonly<Record<string, readonly [read: boolean, write: boolean, once: boolean]>> = {
  rw: [true, true, false],
  wr: [true, true, false],
  r: [true, false, false],
  w: [false, true, false],
  rw1: [true, true, true],
  w1: [false, true, true],
  na: [false, false, false],
}

/** The values of `onread` and `onwrite`, and the properties of the same names (tables 20 and 21). */
const reads: Readonly<Record<string, ReadEffect>> = { rclr: 'clears', rset: 'sets', ruser: 'other' }
const writes: Readonly<Record<string, WriteEffect>> = {
  woclr: 'oneClears',
  woset: 'oneSets',
  wot: 'oneToggles',
  wzc: 'zeroClears',
  wzs: 'zeroSets',
  wzt: 'zeroToggles',
  wclr: 'clears',
  wset: 'sets',
  wuser: 'other',
}

class RdlReader {
  readonly #warnings: Warning[]
  readonly #placer: Placer

  constructor(warnings: Warning[]) {
    this.#warnings = warnings
    this.#placer = new Placer()
  }

  block(instance: Instance): DescribedGroup {
    const placed = this.#placer.place(instance)
    return {
      kind: 'group',
      ...described(instance),
      offset: 0,
      alternate: false,
      members: placed.flatMap((child) => this.#member(child.instance, child.offset, child.stride)),
    }
  }

  #member(instance: Instance, offset: bigint, stride: bigint): DescribedMember[] {
    const { definition, place, name, count, dimensions } = instance
    if (!isPresent(instance)) return []
    if (definition.kind === 'mem') {
      this.#warn(place, `the memory ${name} is left out: it has no registers`)
      return []
    }
    if (dimensions.length > 1)
      this.#warn(
        place,
        `the ${dimensions.length} dimensions of ${name}, ${dimensions.join(' by ')}, are one of ${count}`,
      )
    const about = {
      ...described(instance),
      offset: exactNumber(offset, `the address of ${name}`, place),
      ...(dimensions.length > 0
        ? { dimension: { count, strideBytes: exactNumber(stride, `the stride of ${name}`, place) } }
        : {}),
      alternate: false,
    }
    if (definition.kind === 'reg') return [{ kind: 'register', ...about, ...this.#register(instance) }]
    if (flag(instance, 'bigendian'))
      this.#warn(place, `${name} is big-endian, and registers here are little-endian`)
    return [
      {
        kind: 'group',
        ...about,
        members: this.#placer
          .place(instance)
          .flatMap((child) => this.#member(child.instance, child.offset, child.stride)),
      },
    ]
  }

  #register(instance: Instance): Pick<DescribedRegister, 'width' | 'access' | 'fields' | 'reset'> {
    const width = exactNumber(this.#placer.registerWidth(instance), 'regwidth', instance.place)
    const bus = this.#placer.accessWidth(instance)
    if (bus < BigInt(width))
      this.#warn(
        instance.place,
        `${instance.name} has ${width} bits, which its bus takes ${bus} at a time; here they are one access`,
      )
    const fields: DescribedField[] = []
    let value = 0n
    let mask = 0n
    for (const { instance: field, hi, lo } of this.#placer.fields(instance)) {
      if (!isPresent(field)) continue
      const bits = maskOf(hi, lo)
      fields.push({ ...described(field), hi, lo, access: accessOf(field), values: valuesOf(field) })
      const reset = field.properties.get('reset')
      if (!reset) continue
      if (typeof reset.value !== 'bigint' && typeof reset.value !== 'boolean') {
        this.#warn(
          reset.place,
          `the reset of ${instance.name}.${field.name} is another signal: it is not known here`,
        )
        continue
      }
      const shifted = BigInt(reset.value) << BigInt(lo)
      if ((shifted & ~bits) !== 0n)
        throw wrongAt(
          reset.place,
          `the reset ${reset.value} of ${field.name} does not fit ${hi - lo + 1} bits`,
        )
      value |= shifted
      mask |= bits
    }
    if (fields.length === 0) throw wrongAt(instance.place, `the register ${instance.name} has no fields`)
    return {
      width,
      access: { read: 'plain', write: 'plain', once: false },
      fields,
      ...(mask === 0n ? {} : { reset: { value, mask } }),
    }
  }

  #warn(place: Place, message: string): void {
    this.#warnings.push({ place, message })
  }
}

function described({ name, place, properties }: Instance): { name: string; doc?: string; place: Place } {
  const text = (property: string) => {
    const value = properties.get(property)?.value
    return typeof value === 'string' ? oneSpace(plainText(value)) : undefined
  }
  const title = text('name')
  const desc = text('desc')
  const doc = [title && desc ? title.replace(/\.?$/, '.') : title, desc].filter((part) => part).join(' ')
  return { name, ...(doc ? { doc } : {}), place }
}

function isPresent(instance: Instance): boolean {
  return !instance.properties.has('ispresent') || flag(instance, 'ispresent')
}

/** A property that is true or false; false where it is not set. */
function flag({ properties }: Instance, name: string): boolean {
  const property = properties.get(name)
  if (!property) return false
  if (typeof property.value === 'boolean') return property.value
  if (typeof property.value === 'bigint') return property.value !== 0n
  throw wrongAt(property.place, `${name} is true or false`)
}

/** A property that is a word of a table; a flag of the word's own name says the same. */
function wordOf<T>(instance: Instance, name: string, table: Readonly<Record<string, T>>): T | undefined {
  const set = Object.keys(table).find((word) => instance.properties.has(word) && flag(instance, word))
  if (set !== undefined) return table[set]
  const property = instance.properties.get(name)
  if (!property) return undefined
  const { value, place } = property
  if (typeof value === 'object' && 'reference' in value)
    throw notTaken(place, `${name} is ${value.reference}, which is no parameter with one plain value`)
  const word = typeof value === 'object' && 'word' in value ? value.word : undefined
  if (word !== undefined && Object.hasOwn(table, word)) return table[word]
  throw wrongAt(place, `${name} takes one of ${Object.keys(table).join(', ')}`)
}

function accessOf(field: Instance): BitAccess {
  const [read, write, once] = wordOf(field, 'sw', software) ?? software.rw
  // swacc tells the hardware of a read, which may then do anything: a queue gives its next element
  const watched = field.properties.has('swacc') && flag(field, 'swacc')
  return {
    read: read ? (wordOf(field, 'onread', reads) ?? (watched ? 'other' : 'plain')) : 'none',
    write: write ? (wordOf(field, 'onwrite', writes) ?? 'plain') : 'none',
    once,
  }
}

function valuesOf({ properties }: Instance): DescribedField['values'] {
  const encode = properties.get('encode')
  if (!encode) return []
  if (typeof encode.value === 'object' && 'type' in encode.value) return encode.value.type.values
  throw wrongAt(encode.place, 'encode takes the name of an enumeration')
}
