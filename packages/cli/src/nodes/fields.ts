import type { QueryKind } from '@uaccel/uapi'
import { clean } from '../text.js'
import type { Snapshot, Wanted } from './ask.js'
import { type Cell, type Item, ownUnit, type Section } from './section.js'
import { sections } from './sections.js'

/** Something that can be asked for by name. */
export interface Field {
  readonly name: string
  /** Absent where the device decides it. */
  readonly unit: string | undefined
  readonly kinds: readonly QueryKind[]
  readonly attributes: readonly string[]
  read(snapshot: Snapshot): Cell | undefined
}

/** A line of the help of fields: of a list, NAME stands for its names. */
export interface FieldHelp {
  readonly name: string
  readonly unit: string | undefined
  readonly meaning: string
  /** Title of the section. */
  readonly title: string
}

const ATTRIBUTE = 'attr.'
const fieldSections = sections.filter(({ prefix }) => prefix !== undefined)

const nameOf = ({ prefix, list }: Section, { key, main }: Item): string => {
  const before = prefix === '' ? '' : `${prefix}.`
  return list ? `${before}NAME${main ? '' : `.${key}`}` : before + key
}

/** What can be asked for: a list's name is said by the field. */
const itemsOf = ({ list, items }: Section) =>
  list ? items.filter(({ key }) => key !== 'name' && key !== 'code') : items

/** All fields, those of the summary first. */
export const fieldHelp: readonly FieldHelp[] = [
  ...[...fieldSections].reverse().filter(({ name }) => name === 'summary'),
  ...fieldSections.filter(({ name }) => name !== 'summary'),
]
  .flatMap((section) =>
    itemsOf(section).map((item) => ({
      name: nameOf(section, item),
      unit: item.unit === 'own' ? 'its own' : item.unit,
      meaning: item.meaning,
      title: section.title,
    })),
  )
  .concat({
    name: `${ATTRIBUTE}PATH`,
    unit: 'its own',
    meaning: 'an attribute: `uaccel attr NODE` lists them',
    title: 'Attributes',
  })

/** The field of that name; `undefined` where there is none. */
export function fieldOf(name: string): Field | undefined {
  if (name.startsWith(ATTRIBUTE) && name.length > ATTRIBUTE.length) return attributeField(name)
  for (const section of fieldSections) {
    const found = section.list ? ofList(section, name) : ofOne(section, name)
    if (found) return found
  }
  return undefined
}

function ofOne(section: Section, name: string): Field | undefined {
  const item = section.items.find((each) => nameOf(section, each) === name)
  return item && field(name, section, item, (entries) => entries[0]?.cells.get(item.key))
}

/** `PREFIX.NAME`, or `PREFIX.NAME.KEY`: names may have dots, keys have none. */
function ofList(section: Section, name: string): Field | undefined {
  if (!name.startsWith(`${section.prefix}.`)) return undefined
  const rest = name.slice(section.prefix!.length + 1)
  const end = rest.lastIndexOf('.')
  const items = itemsOf(section)
  const item =
    items.find(({ key }) => end > 0 && key === rest.slice(end + 1)) ??
    items.find(({ main }) => main && rest !== '')
  if (!item) return undefined
  const wanted = end > 0 && item.key === rest.slice(end + 1) ? rest.slice(0, end) : rest
  return field(name, section, item, (entries) =>
    entries.find((entry) => entry.name === wanted)?.cells.get(item.key),
  )
}

function field(
  name: string,
  section: Section,
  { unit, kinds, attributes }: Item,
  find: (entries: ReturnType<Section['entries']>) => Cell | undefined,
): Field {
  return {
    ...{ name, kinds, attributes },
    unit: unit === 'own' ? undefined : unit,
    read: (snapshot) => find(section.entries(snapshot)),
  }
}

function attributeField(name: string): Field {
  const path = name.slice(ATTRIBUTE.length)
  return {
    name,
    unit: undefined,
    kinds: [],
    attributes: [path],
    read({ attributes }) {
      const shown = attributes.get(path)
      if (!shown) return undefined
      const { type, value, unit } = shown
      const read = type === 'text' ? clean(value) : type === 'boolean' ? value === '1' : Number(value)
      return { value: read, unit: ownUnit(unit) }
    },
  }
}

/** What to ask a node for to read these. */
export function wantedBy(parts: Iterable<Pick<Field, 'kinds' | 'attributes'>>): Wanted {
  const all = [...parts]
  return {
    kinds: new Set(all.flatMap(({ kinds }) => kinds)),
    attributes: new Set(all.flatMap(({ attributes }) => attributes)),
  }
}

/** The names most like one that is wrong, the nearest first. */
export function nearest(wrong: string, names: readonly string[], count = 3): string[] {
  const lower = wrong.toLowerCase()
  return names
    .map((name) => ({ name, distance: distance(lower, name.toLowerCase()) }))
    .filter(
      ({ name, distance }) =>
        distance <= wrong.length / 2 || (lower.length > 2 && name.toLowerCase().includes(lower)),
    )
    .sort((a, b) => a.distance - b.distance)
    .slice(0, count)
    .map(({ name }) => name)
}

/** Insertions, deletions and substitutions between two texts (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
