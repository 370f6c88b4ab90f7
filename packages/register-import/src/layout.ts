/** The project's line width (biome.json). */
const LINE_WIDTH = 110

/** Code to be laid out: as it is, a call, or an object whose entries may have comments above them. */
export type Code =
  | string
  | { readonly call: string; readonly args: readonly Code[] }
  | { readonly entries: readonly Entry[] }

export interface Entry {
  readonly key: string
  readonly value: Code
  /** Lines of a doc comment. */
  readonly doc?: readonly string[]
}

/**
 * Lays code out as Biome does: on one line where that has room, else with the object in the last argument broken, else with each
 * argument on a line of its own. `column` is where it begins, `after` how many characters follow on its last line.
 */
export function layOut(code: Code, indent: string, column: number, after: number): string {
  const flat = flatOf(code)
  if (flat !== undefined && column + flat.length + after <= LINE_WIDTH) return flat
  if (typeof code === 'string') return code
  const inner = `${indent}  `
  if ('entries' in code) {
    const lines = code.entries.map(
      ({ key, value, doc = [] }) =>
        `${comment(doc, inner)}${inner}${key}: ${layOut(value, inner, inner.length + key.length + 2, 1)},\n`,
    )
    return `{\n${lines.join('')}${indent}}`
  }
  const { call, args } = code
  const last = args[args.length - 1]
  const head = args.slice(0, -1).map(flatOf)
  if (hugs(args) && head.every((arg) => arg !== undefined)) {
    const start = `${call}(${head.map((arg) => `${arg}, `).join('')}`
    if (column + start.length + 1 <= LINE_WIDTH)
      return `${start}${layOut(last, indent, Number.POSITIVE_INFINITY, 0)})`
  }
  return `${call}(\n${args.map((arg) => `${inner}${layOut(arg, inner, inner.length, 1)},\n`).join('')}${indent})`
}

/** The last argument is broken alone where it is an object and the one before it is none. */
function hugs(args: readonly Code[]): boolean {
  const isObject = (code: Code | undefined) =>
    code !== undefined && typeof code !== 'string' && 'entries' in code
  const last = args[args.length - 1]
  return isObject(last) && flatOf(last) !== '{}' && !isObject(args[args.length - 2])
}

/** On one line; `undefined` where a comment stands in it. */
function flatOf(code: Code): string | undefined {
  if (typeof code === 'string') return code
  const parts =
    'entries' in code
      ? code.entries.map(({ key, value, doc }) => {
          const flat = doc && doc.length > 0 ? undefined : flatOf(value)
          return flat === undefined ? undefined : `${key}: ${flat}`
        })
      : code.args.map(flatOf)
  if (parts.includes(undefined)) return undefined
  if ('call' in code) return `${code.call}(${parts.join(', ')})`
  return parts.length === 0 ? '{}' : `{ ${parts.join(', ')} }`
}

/** A doc comment: on one line where it has room. Nothing in the text can end it. */
export function comment(lines: readonly string[], indent: string): string {
  const texts = lines.map((line) => clean(line).replaceAll('*/', '*\\/')).filter((line) => line !== '')
  if (texts.length === 0) return ''
  const [only] = texts
  if (texts.length === 1 && indent.length + only.length + 7 <= LINE_WIDTH) return `${indent}/** ${only} */\n`
  const room = LINE_WIDTH - indent.length - 3
  const wrapped = texts.flatMap((text) => wrap(text, room))
  return `${indent}/**\n${wrapped.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`
}

function wrap(text: string, room: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

/** A string literal with the quotes that need fewer escapes. */
export function quoted(text: string): string {
  const plain = clean(text).replaceAll('\\', '\\\\')
  const count = (quote: string) => plain.split(quote).length
  const quote = count("'") > count('"') ? '"' : "'"
  return quote + plain.replaceAll(quote, `\\${quote}`) + quote
}

/** Text from a file on one line, without what an editor or a terminal would obey: control characters, turns of the writing direction. */
export const clean = (text: string): string =>
  text
    .replace(/[\s\u2028\u2029]+/g, ' ')
    .replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, '')
    .trim()
