import type { QueryKind } from '@uaccel/uapi'
import { clean } from '../text.js'
import type { Value } from '../units.js'
import type { Snapshot } from './ask.js'

/** One thing that is told of a node, or of an entry of one of its lists. */
export interface Item {
  /** In JSON, with its unit; as a field, after the section's prefix. */
  readonly key: string
  /** Absent for plain numbers and texts; of an entry with a unit of its own it is `own`. `time`: a moment, CLOCK_REALTIME in ns. */
  readonly unit: string | undefined
  readonly meaning: string
  /** For people, where the key would not say it. */
  readonly label: string
  /** Of a list: the field `PREFIX.NAME` is this one. */
  readonly main: boolean
  /** Left out of tables for people, which have no room for all. */
  readonly terse: boolean
  /** What it needs of the node. */
  readonly kinds: readonly QueryKind[]
  readonly attributes: readonly string[]
}

/** A value with its unit. */
export interface Cell {
  readonly value: Value
  readonly unit: string | undefined
}

/** What is known of one thing, by key. */
export interface Entry {
  readonly name: string
  readonly cells: ReadonlyMap<string, Cell>
}

/** A part of what a node says of itself: of one thing, or of each of a list. */
export interface Section {
  /** The key in JSON. */
  readonly name: string
  readonly title: string
  /** What fields begin with; absent for a section that has none. */
  readonly prefix: string | undefined
  readonly list: boolean
  readonly items: readonly Item[]
  /** Nothing where the node knows nothing of it. */
  entries(snapshot: Snapshot): readonly Entry[]
}

/** The unit of a value that a device names itself. `time` is ours, and has values of its own: as a unit of others it says nothing. */
export const ownUnit = (unit: string): string | undefined =>
  unit === 'time' ? undefined : clean(unit) || undefined

interface ItemSpec<E> {
  readonly unit?: string | ((entry: E) => string)
  readonly meaning: string
  readonly label?: string
  readonly main?: boolean
  readonly terse?: boolean
  /** Where it needs other things than its section. */
  readonly kinds?: readonly QueryKind[]
  readonly attributes?: readonly string[]
  /** `undefined` and an empty text are unknown. */
  readonly read: (entry: E) => Value | undefined
}

interface SectionSpec<E> {
  readonly name: string
  readonly title: string
  readonly prefix?: string
  readonly kinds?: readonly QueryKind[]
  readonly attributes?: readonly string[]
  readonly items: Readonly<Record<string, ItemSpec<E>>>
}

/** A section about one thing. */
export function one<E>(
  spec: SectionSpec<E> & { readonly of: (snapshot: Snapshot) => E | undefined },
): Section {
  return section(spec, false, (snapshot) => {
    const found = spec.of(snapshot)
    return found === undefined ? [] : [{ name: '', entry: found }]
  })
}

/** A section about a list of things, which have names of their own. */
export function many<E>(
  spec: SectionSpec<E> & {
    readonly of: (snapshot: Snapshot) => readonly E[] | undefined
    readonly nameOf: (entry: E) => string
  },
): Section {
  return section(spec, true, (snapshot) =>
    (spec.of(snapshot) ?? []).map((entry) => ({ name: clean(spec.nameOf(entry)), entry })),
  )
}

function section<E>(
  { name, title, prefix, items, ...needs }: SectionSpec<E>,
  list: boolean,
  of: (snapshot: Snapshot) => readonly { readonly name: string; readonly entry: E }[],
): Section {
  const specs = Object.entries(items)
  const cell = ({ read, unit }: ItemSpec<E>, entry: E): Cell | undefined => {
    const value = read(entry)
    if (value === undefined || value === '') return undefined
    return {
      value: typeof value === 'string' ? clean(value) : value,
      unit: typeof unit === 'function' ? ownUnit(unit(entry)) : unit,
    }
  }
  return {
    ...{ name, title, prefix, list },
    items: specs.map(([key, { unit, meaning, label, main = false, terse = false, kinds, attributes }]) => ({
      key,
      unit: typeof unit === 'function' ? 'own' : unit,
      meaning,
      kinds: kinds ?? needs.kinds ?? [],
      attributes: attributes ?? needs.attributes ?? [],
      label: label ?? key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`),
      main,
      terse,
    })),
    entries: (snapshot) =>
      of(snapshot).map(({ name, entry }) => ({
        name,
        cells: new Map(
          specs.flatMap(([key, spec]) => {
            const found = cell(spec, entry)
            return found === undefined ? [] : [[key, found] as const]
          }),
        ),
      })),
  }
}
