import {
  type BitAccess,
  type DescribedField,
  type DescribedGroup,
  type DescribedMember,
  type DescribedRegister,
  type Description,
  type Dimension,
  maskOf,
  type NamedValue,
  notTaken,
  oneSpace,
  type Place,
  type Warning,
  wrongAt,
} from './description.js'
import { parseIpxactNumber } from './ipxact-numbers.js'
import { countOf, exactNumber } from './numbers.js'
import { type Element, parseXml } from './xml.js'
import { bitAccess } from './xml-access.js'

/** The namespaces of IEEE 1685-2009, -2014 and -2022, and of SPIRIT's 1.4 and 1.5 before it, whose registers are the same. */
const NAMESPACE =
  /^http:\/\/www\.(spiritconsortium\.org\/XMLSchema\/SPIRIT\/|accellera\.org\/XMLSchema\/IPXACT\/)[\w.-]+\/?$/

/**
 * Reads an IP-XACT component (IEEE 1685-2009, -2014, -2022). Each memory map is a block; its address blocks are groups in it.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT, ERR_ACCEL_OUT_OF_RANGE or ERR_ACCEL_UNSUPPORTED, with the place
 */
export function readIpxact(file: string, text: string): Description {
  const root = parseXml(file, text)
  if (root.name !== 'component')
    throw wrongAt(root.place, `the root is <${root.name}>, wanted <component> of an IP-XACT file`)
  if (!NAMESPACE.test(root.namespace))
    throw notTaken(
      root.place,
      `its namespace "${root.namespace}" is none of IP-XACT (IEEE 1685-2009, -2014, -2022)`,
    )
  const reader = new IpxactReader(root)
  const doc = root.textOf('description')
  return {
    format: 'ipxact',
    name: root.required('name'),
    ...(doc ? { doc: oneSpace(doc) } : {}),
    blocks: reader.maps(),
    warnings: reader.warnings,
  }
}

/** Bits that a register may have. */
const WIDTHS: ReadonlySet<number> = new Set([8, 16, 32, 64])

class IpxactReader {
  readonly warnings: Warning[] = []
  readonly #root: Element
  /** Parameters of the component, by name and by id. */
  readonly #parameters = new Map<string, string>()

  constructor(root: Element) {
    this.#root = root
    const collect = (element: Element): void => {
      for (const child of element.children) {
        if (child.name === 'parameter') {
          const value = child.textOf('value')
          const id = child.attributes.parameterId
          if (value !== undefined && id !== undefined) this.#parameters.set(id, value)
        } else if (child.name === 'parameters') collect(child)
      }
    }
    collect(root)
  }

  maps(): DescribedGroup[] {
    const maps = this.#root.child('memoryMaps')?.all('memoryMap') ?? []
    if (maps.length === 0)
      throw wrongAt(this.#root.place, 'the component has no <memoryMaps>: is the file cut off?')
    return maps.map((map) => {
      const unit = map.child('addressUnitBits')
      if (unit && this.#number(unit) !== 8n)
        throw notTaken(unit.place, `addresses count units of ${unit.text} bits, wanted bytes (8)`)
      for (const other of map.all('bank', 'subspaceMap', 'memoryRemap', 'memoryMapDefinitionRef'))
        this.#warn(other, `<${other.name}> is left out`)
      const blocks = map.all('addressBlock').flatMap((block) => this.#addressBlock(block))
      return {
        kind: 'group',
        ...described(map),
        offset: 0,
        alternate: false,
        members: blocks.length === 1 && !blocks[0].dimension ? shifted(blocks[0]) : blocks,
      }
    })
  }

  #addressBlock(element: Element): DescribedGroup[] {
    const usage = element.textOf('usage')
    if (usage === 'memory' || usage === 'reserved') {
      this.#warn(element, `an address block of usage ${usage} is left out`)
      return []
    }
    const access = element.textOf('access') ?? policy(element)
    return [
      {
        kind: 'group',
        ...described(element),
        offset: this.#exact(element, 'baseAddress'),
        ...this.#dimension(element, () => this.#exact(element, 'range')),
        alternate: false,
        members: this.#members(element, access, this.#busWidth(element)),
      },
    ]
  }

  /** Bits of an access, for registers of fewer. */
  #busWidth(block: Element): number {
    const width = block.child('width') ? this.#exact(block, 'width') : 0
    return WIDTHS.has(width) ? width : 0
  }

  #members(container: Element, access: string | undefined, busWidth: number): DescribedMember[] {
    return container.all('register', 'registerFile').flatMap((element): DescribedMember[] => {
      if (element.name === 'register') return this.#registers(element, access, busWidth)
      return [
        {
          kind: 'group',
          ...described(element),
          offset: this.#exact(element, 'addressOffset'),
          ...this.#dimension(element, () => this.#exact(element, 'range')),
          alternate: false,
          members: this.#members(element, element.textOf('access') ?? access, busWidth),
        },
      ]
    })
  }

  /** A register and its alternates, which are at the same place. */
  #registers(element: Element, outer: string | undefined, busWidth: number): DescribedRegister[] {
    const size = this.#exact(element, 'size')
    const width = WIDTHS.has(size) || size > busWidth ? size : busWidth
    if (width !== size) this.#warn(element, `it has ${size} bits: here it has the ${width} of its bus`)
    const offset = this.#exact(element, 'addressOffset')
    const dimension = this.#dimension(element, () => width / 8)
    const alternates = element.child('alternateRegisters')?.all('alternateRegister') ?? []
    return [element, ...alternates].map((one) => {
      const access = one.textOf('access') ?? policy(one) ?? outer
      const own = this.#access(one, access)
      const fields = one.all('field').flatMap((field) => this.#field(field, access))
      const reset = this.#reset(one, size, fields)
      return {
        kind: 'register',
        ...described(one),
        offset,
        width,
        ...dimension,
        access: own,
        fields: fields.map(({ field }) => field),
        ...(reset.mask === 0n ? {} : { reset }),
        alternate: one !== element,
      }
    })
  }

  #field(
    element: Element,
    outer: string | undefined,
  ): { field: DescribedField; reset: { value: bigint; mask: bigint } }[] {
    const width = this.#exact(element, 'bitWidth')
    if (width < 1) throw wrongAt(element.place, `the field is ${width} bits wide`)
    const first = this.#exact(element, 'bitOffset')
    const dimension = this.#dimension(element, () => width).dimension
    const access = this.#access(element, element.textOf('access') ?? policy(element) ?? outer)
    const values = this.#values(element)
    const resets = element.child('resets')?.all('reset') ?? element.all('reset')
    const [reset] = this.#chosen(resets)
    const { name, ...about } = described(element)
    return Array.from({ length: dimension?.count ?? 1 }, (_, i) => {
      const lo = first + i * (dimension?.strideBytes ?? 0) // of a field, the stride is in bits
      const known = reset === undefined ? 0n : this.#mask(reset, width)
      const value = reset === undefined ? 0n : this.#number(this.#child(reset, 'value')) & known
      return {
        field: {
          ...about,
          name: dimension ? `${name}${i}` : name,
          hi: lo + width - 1,
          lo,
          access,
          values,
        },
        reset: { value: value << BigInt(lo), mask: known << BigInt(lo) },
      }
    })
  }

  /** Of the register (2009), or of its fields (2014). */
  #reset(
    element: Element,
    width: number,
    fields: readonly { readonly reset: { value: bigint; mask: bigint } }[],
  ): { value: bigint; mask: bigint } {
    const [own] = this.#chosen(element.all('reset'))
    if (own) {
      const mask = this.#mask(own, width)
      return { value: this.#number(this.#child(own, 'value')) & mask, mask }
    }
    return fields.reduce(
      (sum, { reset }) => ({ value: sum.value | reset.value, mask: sum.mask | reset.mask }),
      { value: 0n, mask: 0n },
    )
  }

  /** Where there are several kinds of reset, the one that is called hard, or else the first without a name of its own. */
  #chosen(resets: readonly Element[]): Element[] {
    const kind = ({ attributes }: Element) => attributes.resetTypeRef
    return resets.length < 2
      ? [...resets]
      : [resets.find((reset) => [undefined, 'HARD'].includes(kind(reset))) ?? resets[0]]
  }

  #mask(reset: Element, width: number): bigint {
    const all = maskOf(Math.max(width, 1) - 1, 0)
    const mask = reset.child('mask')
    return mask ? this.#number(mask) & all : all
  }

  #values(field: Element): NamedValue[] {
    const list = field.child('enumeratedValues')
    if (field.child('enumerationDefinitionRef'))
      this.#warn(field, 'the names of its values are in another file: they are left out')
    return (list?.all('enumeratedValue') ?? []).flatMap((element) => {
      if (element.attributes.usage === 'write') {
        this.#warn(element, 'a name for writing only is left out')
        return []
      }
      const doc = element.textOf('description')
      return [
        {
          name: element.required('name'),
          value: this.#number(this.#child(element, 'value')),
          ...(doc ? { doc: oneSpace(doc) } : {}),
        },
      ]
    })
  }

  #access(element: Element, access: string | undefined): BitAccess {
    const within = element.child('fieldAccessPolicies')?.child('fieldAccessPolicy') ?? element
    const modified = within.textOf('modifiedWriteValue')
    const action = within.textOf('readAction')
    return bitAccess(element.place, access, modified || undefined, action || undefined)
  }

  /** `dim`, several of which make one array here: its last index counts fastest. */
  #dimension(element: Element, sizeBytes: () => number): { dimension?: Dimension } {
    const array = element.child('array')
    const all = (array ?? element).all('dim')
    const dims = all.filter((dim) => this.#number(dim) !== 0n) // an editor's way to say that it is no array
    if (dims.length < all.length) this.#warn(element, 'a <dim> of 0 is taken for none')
    if (dims.length === 0) return {}
    const count = countOf(
      dims.reduce((product, dim) => product * this.#number(dim), 1n),
      'dim',
      element.place,
    )
    if (dims.length > 1)
      this.#warn(
        element,
        `its ${dims.length} dimensions, ${dims.map(({ text }) => text).join(' by ')}, are one of ${count}`,
      )
    const stride = array?.child('stride') ?? array?.child('bitStride') ?? element.child('stride')
    return {
      dimension: {
        count,
        strideBytes: stride ? exactNumber(this.#number(stride), 'stride', stride.place) : sizeBytes(),
      },
    }
  }

  #exact(element: Element, name: string): number {
    const child = this.#child(element, name)
    return exactNumber(this.#number(child), `<${name}>`, child.place)
  }

  #child(element: Element, name: string): Element {
    const child = element.child(name)
    if (child && child.text !== '') return child
    throw wrongAt(element.place, `<${element.name}> ${element.textOf('name') ?? ''} has no <${name}>`)
  }

  #number(element: Element): bigint {
    const value = parseIpxactNumber(element.text, (id) => this.#parameters.get(id))
    if (value !== undefined) return value
    throw notTaken(
      element.place,
      `<${element.name}> is "${element.text}": taken are numbers such as 12, 0x1f or 8'h1f, parameters of the component, and what is computed of them`,
    )
  }

  #warn(element: Element, message: string): void {
    this.warnings.push({
      place: element.place,
      message: `${element.textOf('name') ?? element.name}: ${message}`,
    })
  }
}

/** The members of an address block that is alone in its map: they need no prefix. */
function shifted({ offset, members }: DescribedGroup): DescribedMember[] {
  return members.map((member) => ({ ...member, offset: member.offset + offset }))
}

/** IP-XACT 2022 has the access of everything in a list of policies; the first is for all modes. */
function policy(element: Element): string | undefined {
  const policies = element.child('accessPolicies') ?? element.child('fieldAccessPolicies')
  return (policies?.child('accessPolicy') ?? policies?.child('fieldAccessPolicy'))?.textOf('access')
}

function described(element: Element): { name: string; doc?: string; place: Place } {
  const doc = element.textOf('description') || element.textOf('displayName')
  return { name: element.required('name'), ...(doc ? { doc: oneSpace(doc) } : {}), place: element.place }
}
