import {
  type DescribedField,
  type DescribedGroup,
  type DescribedMember,
  type DescribedRegister,
  type Description,
  type Dimension,
  maskOf,
  type NamedValue,
  oneSpace,
  type Place,
  type Warning,
  wrongAt,
} from './description.js'
import { countOf, exactNumber, parseScaled } from './numbers.js'
import { Element, parseXml } from './xml.js'
import { bitAccess } from './xml-access.js'

/** What registers inherit from the elements around them (CMSIS-SVD, registerPropertiesGroup). */
interface Inherited {
  readonly size?: string
  readonly access?: string
  readonly resetValue?: string
  readonly resetMask?: string
}

/**
 * Reads a CMSIS-SVD file (Arm, CMSIS-SVD 1.3). Each peripheral is a block.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_OUT_OF_RANGE or ERR_ACCEL_UNSUPPORTED, with the place
 */
export function readSvd(file: string, text: string): Description {
  const root = parseXml(file, text)
  if (root.name !== 'device')
    throw wrongAt(root.place, `the root is <${root.name}>, wanted <device> of a CMSIS-SVD file`)
  const reader = new SvdReader(root)
  const doc = root.textOf('description')
  return {
    format: 'svd',
    name: root.required('name'),
    ...(doc ? { doc: oneSpace(doc) } : {}),
    blocks: reader.peripherals(),
    warnings: reader.warnings,
  }
}

/** What an array's elements have in common is not what makes it an array. */
const notDerived = new Set(['dim', 'dimIncrement', 'dimIndex', 'dimName', 'dimArrayIndex'])

class SvdReader {
  readonly warnings: Warning[] = []
  readonly #root: Element
  /** Those being derived, against circles. */
  readonly #deriving = new Set<Element>()

  constructor(root: Element) {
    this.#root = root
  }

  peripherals(): DescribedGroup[] {
    const list = this.#root.child('peripherals')?.all('peripheral') ?? []
    if (list.length === 0)
      throw wrongAt(this.#root.place, 'the device has no <peripherals>: is the file cut off?')
    const defaults = inherit({}, this.#root)
    return list.flatMap((own) => {
      const base = own.attributes.derivedFrom
      if (base !== undefined && own.child('registers'))
        this.#warn(own, `it has registers of its own, which stand for all of those of ${base}`)
      const element = this.#derive(own)
      const inherited = inherit(defaults, element)
      const members = this.#members(element.child('registers'), inherited)
      return this.#instances(element, 'baseAddress', true).map(({ name, offset }) => ({
        kind: 'group' as const,
        ...described(element, name),
        offset,
        alternate: element.child('alternatePeripheral') !== undefined,
        members,
      }))
    })
  }

  #members(container: Element | undefined, inherited: Inherited): DescribedMember[] {
    return (
      container?.all('register', 'cluster').flatMap((own): DescribedMember[] => {
        const element = this.#derive(own)
        return element.name === 'register'
          ? this.#register(element, inherited)
          : this.#cluster(element, inherited)
      }) ?? []
    )
  }

  #cluster(element: Element, outer: Inherited): DescribedGroup[] {
    const members = this.#members(element, inherit(outer, element))
    return this.#instances(element, 'addressOffset').map(({ name, offset, dimension }) => ({
      kind: 'group',
      ...described(element, name),
      offset,
      ...(dimension ? { dimension } : {}),
      alternate: element.child('alternateCluster') !== undefined,
      members,
    }))
  }

  #register(element: Element, outer: Inherited): DescribedRegister[] {
    const { size = '32', access, resetValue, resetMask } = inherit(outer, element)
    const width = exactNumber(scaled(size, 'size', element), 'size', element.place)
    const own = bitAccess(
      element.place,
      access,
      element.textOf('modifiedWriteValues'),
      element.textOf('readAction'),
    )
    const fields =
      element
        .child('fields')
        ?.all('field')
        .flatMap((field) => this.#field(this.#derive(field), element, access)) ?? []
    const mask =
      resetMask === undefined ? maskOf(Math.max(width, 1) - 1, 0) : scaled(resetMask, 'resetMask', element)
    const reset =
      resetValue === undefined || mask === 0n
        ? {}
        : { reset: { value: scaled(resetValue, 'resetValue', element) & mask, mask } }
    return this.#instances(element, 'addressOffset').map(({ name, offset, dimension }) => ({
      kind: 'register',
      ...described(element, name),
      offset,
      width,
      ...(dimension ? { dimension } : {}),
      access: own,
      fields,
      ...reset,
      alternate: ['alternateRegister', 'alternateGroup'].some((word) => element.child(word) !== undefined),
    }))
  }

  #field(element: Element, register: Element, outer: string | undefined): DescribedField[] {
    const [hi, lo] = bitRange(element)
    const access = bitAccess(
      element.place,
      element.textOf('access') ?? outer,
      element.textOf('modifiedWriteValues') ?? register.textOf('modifiedWriteValues'),
      element.textOf('readAction') ?? register.textOf('readAction'),
    )
    const values = this.#values(element)
    return this.#instances(element, undefined, true).map(({ name, offset }) => ({
      ...described(element, name),
      hi: hi + offset,
      lo: lo + offset,
      access,
      values,
    }))
  }

  #values(field: Element): NamedValue[] {
    const lists = field.all('enumeratedValues').map((list) => this.#derive(list))
    const chosen = lists.find((list) => list.textOf('usage') !== 'write') ?? lists[0]
    for (const list of lists) {
      if (list !== chosen)
        this.#warn(
          list,
          `field ${field.textOf('name')} has names for reading and for writing: the latter are left out`,
        )
    }
    return (chosen?.all('enumeratedValue') ?? []).flatMap((element) => {
      const name = element.textOf('name')
      const text = element.textOf('value')
      if (text === undefined && /^(true|1)$/.test(element.textOf('isDefault') ?? '')) return []
      if (!name) return []
      const value = parseScaled(element.required('value'))
      if (value === undefined) {
        this.#warn(element, `${name} is "${text}", which is no single value: its name is left out`)
        return []
      }
      const doc = element.textOf('description')
      return [{ name, value, ...(doc ? { doc: oneSpace(doc) } : {}) }]
    })
  }

  /** With what it leaves out filled in from the element that it is derived from. */
  #derive(element: Element): Element {
    const path = element.attributes.derivedFrom
    if (path === undefined) return element
    if (this.#deriving.has(element)) throw wrongAt(element.place, `${path} is derived from itself`)
    this.#deriving.add(element)
    const base = this.#derive(this.#find(element, path))
    this.#deriving.delete(element)
    const derived = new Element(
      element.name,
      element.namespace,
      element.attributes,
      element.place,
      element.parent,
    )
    derived.children.push(...element.children)
    // the kinds of a cluster's children may be there many times
    const has = (name: string) =>
      element.child(name) !== undefined ||
      (['register', 'cluster'].includes(name) && element.all('register', 'cluster').length > 0)
    for (const child of base.children) {
      if (!has(child.name) && !notDerived.has(child.name)) derived.children.push(child)
    }
    return derived
  }

  /** What `derivedFrom` names: beside the element, or by its path from a peripheral on, names joined by dots. */
  #find(element: Element, path: string): Element {
    const named = (list: readonly Element[], name: string) =>
      list.find((one) => one.textOf('name') === name && one !== element)
    const beside = named(element.parent?.all(element.name) ?? [], path)
    if (beside) return beside
    const words = path.split('.')
    // the scopes around it, then the device: a path may leave out what both have in common
    for (let scope = element.parent; scope; scope = scope.parent) {
      const found = words.reduce<Element | undefined>(
        (from, word) =>
          from &&
          named(
            [from, from.child('registers'), from.child('fields'), from.child('peripherals')].flatMap(
              (inner) => inner?.children ?? [],
            ),
            word,
          ),
        scope,
      )
      if (found && found.name === element.name) return found
    }
    if (element.name === 'enumeratedValues') {
      const list = [...walk(this.#root)].find(
        (one) => one.name === 'enumeratedValues' && one.textOf('name') === words.at(-1) && one !== element,
      )
      if (list) return list
    }
    throw wrongAt(element.place, `it is derived from ${path}, and there is no such <${element.name}>`)
  }

  /** The places of an element that may be there `dim` times: one array where its indices are 0 to n - 1, else each by its name. */
  #instances(
    element: Element,
    offsetName: string | undefined,
    spellOut = false,
  ): { name: string; offset: number; dimension?: Dimension }[] {
    const pattern = element.required('name')
    const number = (child: string) => scaled(element.required(child), child, element)
    const offset = offsetName === undefined ? 0 : exactNumber(number(offsetName), offsetName, element.place)
    if (!element.child('dim')) return [{ name: pattern, offset }]
    const count = countOf(number('dim'), 'dim', element.place)
    const strideBytes = exactNumber(number('dimIncrement'), 'dimIncrement', element.place)
    const indices = dimIndices(element, count)
    const base = /^(.+?)(\[%s\]|%s)$/.exec(pattern)
    if (!pattern.includes('%s'))
      throw wrongAt(element.place, `it is there ${count} times, and its name ${pattern} has no %s`)
    const counted = indices.every((index, i) => index === `${i}`)
    if (base && !spellOut && (counted || base[2] === '[%s]')) {
      if (!counted)
        this.#warn(element, `its indices are ${indices.slice(0, 4).join(', ')}...: here they count from 0`)
      return [{ name: base[1], offset, dimension: { count, strideBytes } }]
    }
    return indices.map((index, i) => ({
      name: pattern.replace(/\[%s\]|%s/, index),
      offset: offset + i * strideBytes,
    }))
  }

  #warn(element: Element, message: string): void {
    this.warnings.push({
      place: element.place,
      message: `${element.textOf('name') ?? element.name}: ${message}`,
    })
  }
}

function* walk(element: Element): Generator<Element> {
  yield element
  for (const child of element.children) yield* walk(child)
}

function described(element: Element, name: string): { name: string; doc?: string; place: Place } {
  const doc = element.textOf('description') ?? element.textOf('displayName')
  return { name, ...(doc ? { doc: oneSpace(doc) } : {}), place: element.place }
}

function inherit(outer: Inherited, element: Element): Inherited {
  const own = (name: keyof Inherited) => {
    const text = element.textOf(name) ?? outer[name]
    return text === undefined ? {} : { [name]: text }
  }
  return { ...own('size'), ...own('access'), ...own('resetValue'), ...own('resetMask') }
}

function scaled(text: string, what: string, { place }: Element): bigint {
  const value = parseScaled(text)
  if (value !== undefined) return value
  throw wrongAt(place, `${what} "${text}" is no number; one is 10, 0x1f or #101`)
}

/** CMSIS-SVD has three ways to say which bits: bitRange, lsb and msb, bitOffset and bitWidth. */
function bitRange(field: Element): [hi: number, lo: number] {
  const number = (name: string) => exactNumber(scaled(field.required(name), name, field), name, field.place)
  if (field.child('bitRange')) {
    const match = /^\[(\d+):(\d+)\]$/.exec(field.required('bitRange'))
    if (!match) throw wrongAt(field.place, `bitRange "${field.textOf('bitRange')}" is not like [7:0]`)
    return [Number(match[1]), Number(match[2])]
  }
  if (field.child('lsb')) return [number('msb'), number('lsb')]
  const lo = number('bitOffset')
  return [lo + (field.child('bitWidth') ? number('bitWidth') : 1) - 1, lo]
}

function dimIndices(element: Element, count: number): string[] {
  const text = element.textOf('dimIndex')
  if (!text) return Array.from({ length: count }, (_, i) => `${i}`)
  const range = /^(\d+)\s*-\s*(\d+)$/.exec(text) ?? /^([A-Z])\s*-\s*([A-Z])$/.exec(text)
  if (!range) {
    const list = text.split(',').map((part) => part.trim())
    if (list.length === count) return list
    throw wrongAt(element.place, `dimIndex names ${list.length} of ${count}`)
  }
  const letters = !/\d/.test(range[1])
  const [first, last] = [range[1], range[2]].map((end) => (letters ? end.charCodeAt(0) : Number(end)))
  if (last - first + 1 !== count)
    throw wrongAt(element.place, `dimIndex ${text} names ${last - first + 1} of ${count}`)
  return Array.from({ length: count }, (_, i) => (letters ? String.fromCharCode(first + i) : `${first + i}`))
}
