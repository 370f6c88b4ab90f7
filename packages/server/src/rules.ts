import type { JsonMember, JsonNode } from './json.js'

/** Something wrong in a configuration. `path` is where: `devices[0].mode`. */
export interface Problem {
  readonly path: string
  readonly line: number
  readonly text: string
}

/** What a value of the configuration may be: its check and its documentation are made of the same. */
export interface Rule<T> {
  /** In words, for the reference and for messages: `a number from 0 to 10`. */
  readonly wants: string
  readonly doc: string
  /** As the reference shows it. */
  readonly standard?: string | undefined
  /** Of an object. */
  readonly fields?: Fields
  /** Of a list. */
  readonly items?: Rule<unknown>
  /** The value; what is wrong with it goes to `problems`. */
  check(node: JsonNode, path: string, problems: Problem[]): T | undefined
}

export type Fields = Readonly<Record<string, Rule<unknown>>>
/** What an object of these fields is: each may be absent. */
export type ValueOf<F extends Fields> = { readonly [K in keyof F]?: F[K] extends Rule<infer T> ? T : never }

function describe({ value }: JsonNode): string {
  if (value instanceof Map) return 'an object'
  return Array.isArray(value) ? 'a list' : JSON.stringify(value)
}

/** A rule for a single value: `read` gives `undefined` for what it does not take. */
function rule<T>(
  wants: string,
  doc: string,
  standard: unknown,
  read: (value: unknown) => T | undefined,
): Rule<T> {
  return {
    wants,
    doc,
    standard: standard === undefined ? undefined : JSON.stringify(standard),
    check(node, path, problems) {
      const value = read(node.value)
      if (value === undefined)
        problems.push({ path, line: node.line, text: `wants ${wants}, found ${describe(node)}` })
      return value
    },
  }
}

export const truth = (doc: string, standard: boolean): Rule<boolean> =>
  rule('true or false', doc, standard, (value) => (typeof value === 'boolean' ? value : undefined))

export const integer = (doc: string, min: number, max: number, standard?: number): Rule<number> =>
  rule(`a whole number from ${min} to ${max}`, doc, standard, (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max ? value : undefined,
  )

/** Text of a form, and what it stands for, where that is not the text itself. */
export const parsed = <T>(
  wants: string,
  doc: string,
  form: RegExp,
  read: (text: string) => T | undefined,
  standard?: string,
): Rule<T> =>
  rule(wants, doc, standard, (value) =>
    typeof value === 'string' && form.test(value) ? read(value) : undefined,
  )

export const text = (wants: string, doc: string, form: RegExp, standard?: string): Rule<string> =>
  parsed(wants, doc, form, (found) => found, standard)

export const oneOf = <const T extends string>(doc: string, choices: readonly T[], standard?: T): Rule<T> =>
  rule(choices.map((choice) => `"${choice}"`).join(', '), doc, standard, (value) =>
    choices.find((choice) => choice === value),
  )

/** A user or group, by number or name. */
export const account = (kind: 'user' | 'group', doc: string): Rule<string | number> =>
  rule(`the name or number of a ${kind}`, doc, undefined, (value) =>
    (typeof value === 'string' && /^[a-zA-Z_][\w.@-]*\$?$/.test(value)) ||
    (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32 - 1)
      ? value
      : undefined,
  )

export const list = <T>(doc: string, items: Rule<T>, standard?: string): Rule<readonly T[]> => ({
  wants: 'a list',
  doc,
  standard,
  items,
  check(node, path, problems) {
    if (!Array.isArray(node.value)) {
      problems.push({ path, line: node.line, text: `wants a list, found ${describe(node)}` })
      return undefined
    }
    const before = problems.length
    const values = (node.value as JsonNode[]).map((item, i) => items.check(item, `${path}[${i}]`, problems))
    return problems.length === before ? (values as T[]) : undefined
  },
})

export const object = <F extends Fields>(doc: string, fields: F): Rule<ValueOf<F>> => ({
  wants: 'an object',
  doc,
  fields,
  check(node, path, problems) {
    if (!(node.value instanceof Map)) {
      problems.push({ path, line: node.line, text: `wants an object, found ${describe(node)}` })
      return undefined
    }
    const values: Record<string, unknown> = {}
    for (const [key, member] of node.value as ReadonlyMap<string, JsonMember>) {
      const place = path === '' ? key : `${path}.${key}`
      if (Object.hasOwn(fields, key)) {
        const value = fields[key]!.check(member, place, problems)
        if (value !== undefined) values[key] = value
      } else {
        const like = nearest(key, Object.keys(fields))
        const hint = like === undefined ? `there are ${Object.keys(fields).join(', ')}` : `is it "${like}"?`
        problems.push({ path: place, line: member.keyLine, text: `is not known; ${hint}` })
      }
    }
    return values as ValueOf<F>
  },
})

/** The name that `key` may have been meant to be: at most a third of its letters are wrong. */
function nearest(key: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((name) => ({ name, distance: editDistance(key.toLowerCase(), name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  return best && best.distance <= Math.max(1, Math.floor(best.name.length / 3)) ? best.name : undefined
}

/** Letters to insert, remove, replace, or swap with their neighbour, to get from one word to the other. */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, before[j - 2]! + 1)
      next.push(least)
    }
    before = row
    row = next
  }
  return row[b.length]!
}
