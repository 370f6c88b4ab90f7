import { accelError } from '@uaccel/uapi'

/** A value of a file, and the line where it begins. */
export interface JsonNode {
  readonly line: number
  readonly value: string | number | boolean | null | readonly JsonNode[] | ReadonlyMap<string, JsonMember>
}

/** A member of an object: `keyLine` is where its name stands. */
export interface JsonMember extends JsonNode {
  readonly keyLine: number
}

const MAX_DEPTH = 32
const SPACE = /(?:[ \t\r\n]|\/\/[^\n]*)*/y
const STRING = /"(?:[ !#-[\]-\u{10ffff}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const WORD = /true|false|null/y

/**
 * JSON (RFC 8259) with the line of each value, for messages, and with comments from `//` to the end of the line. A name that an
 * object has twice is refused.
 *
 * @throws ERR_ACCEL_INVALID_ARGUMENT with the line
 */
export function parseJson(text: string, file: string): JsonNode {
  let at = text.startsWith('\ufeff') ? 1 : 0
  let line = 1

  const fail = (problem: string): never => {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${file}:${line}: ${problem}`, { details: { file, line } })
  }
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at
    const found = pattern.exec(text)?.[0]
    if (found === undefined) return undefined
    at += found.length
    for (const character of found) if (character === '\n') line++
    return found
  }
  const here = () =>
    at < text.length ? JSON.stringify(text.slice(at).split(/[\s,]/, 1)[0]) : 'the end of the file'
  /** The next sign after white space, taken where it is one of `signs`. */
  const sign = (signs: string): string | undefined => {
    take(SPACE)
    const next = text[at]
    if (next === undefined || !signs.includes(next)) return undefined
    at++
    return next
  }
  /** What stands between brackets, separated by commas. */
  const list = (close: string, item: () => void): void => {
    if (sign(close)) return
    for (;;) {
      item()
      const next = sign(`,${close}`) ?? fail(`wanted "," or "${close}", found ${here()}`)
      if (next === close) return
    }
  }

  function node(depth: number): JsonNode {
    if (depth > MAX_DEPTH) fail(`more than ${MAX_DEPTH} values within each other`)
    const bracket = sign('{[')
    const start = line
    if (bracket === '[') {
      const items: JsonNode[] = []
      list(']', () => items.push(node(depth + 1)))
      return { line: start, value: items }
    }
    if (bracket === '{') {
      const members = new Map<string, JsonMember>()
      list('}', () => {
        take(SPACE)
        const keyLine = line
        const key = JSON.parse(take(STRING) ?? fail(`wanted a name in quotes, found ${here()}`)) as string
        if (members.has(key)) fail(`"${key}" stands here again, after line ${members.get(key)!.keyLine}`)
        sign(':') ?? fail(`wanted ":" after "${key}", found ${here()}`)
        members.set(key, { keyLine, ...node(depth + 1) })
      })
      return { line: start, value: members }
    }
    const token = take(STRING) ?? take(NUMBER) ?? take(WORD) ?? fail(`wanted a value, found ${here()}`)
    return { line: start, value: JSON.parse(token) as string | number | boolean | null }
  }

  const root = node(0)
  take(SPACE)
  if (at < text.length) fail(`wanted the end of the file, found ${here()}`)
  return root
}

/** A value of a program in the form of a parsed file, all in line 0. */
export function jsonNode(value: unknown): JsonNode {
  if (Array.isArray(value)) return { line: 0, value: value.map(jsonNode) }
  if (typeof value !== 'object' || value === null)
    return { line: 0, value: value as string | number | boolean | null }
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .map(([key, member]): [string, JsonMember] => [key, { keyLine: 0, ...jsonNode(member) }])
  return { line: 0, value: new Map(members) }
}
