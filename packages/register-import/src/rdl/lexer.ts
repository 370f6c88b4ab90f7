import { notTaken, type Place, wrongAt } from '../description.js'

/** One word of a SystemRDL file. */
export interface Token {
  readonly kind: 'name' | 'number' | 'string' | 'sign' | 'directive' | 'end'
  /** As it stands there; of a string what is in it, of a directive its name. */
  readonly text: string
  /** Of a number. */
  readonly value?: bigint
  /** First on its line: directives end at the next such token. */
  readonly place: Place
}

/** Signs, the longer ones first (SystemRDL 2.0, annex B). */
const SIGNS = /\*\*|<<|>>|<=|>=|==|!=|&&|\|\||~&|~\||~\^|\^~|\+=|%=|->|::|[{}()[\];:,.=<>+\-*/%!~&|^?#@']/y
const NAME = /\\?[A-Za-z_][A-Za-z0-9_]*/y
const NUMBER =
  /0[xX][0-9a-fA-F][0-9a-fA-F_]*|[0-9]+'[bB][01][01_]*|[0-9]+'[dD][0-9][0-9_]*|[0-9]+'[hH][0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*/y
const SPACE = /(?:\s+|\/\/[^\n]*)+/y
const DIRECTIVE = /`([A-Za-z_][A-Za-z0-9_]*)/y

/** Divides a file into words. Comments are left out. */
export class Lexer {
  readonly #file: string
  readonly #text: string
  #position = 0
  #line = 1
  #lineStart = 0
  #seen = 0

  constructor(file: string, text: string) {
    this.#file = file
    this.#text = text.replace(/^\ufeff/, ' ')
  }

  get #place(): Place {
    for (; this.#seen < this.#position; this.#seen++) {
      if (this.#text.charCodeAt(this.#seen) !== 10) continue
      this.#line++
      this.#lineStart = this.#seen + 1
    }
    return { file: this.#file, line: this.#line, column: this.#position - this.#lineStart + 1 }
  }

  next(): Token {
    this.#skip()
    const place = this.#place
    if (this.#position >= this.#text.length) return { kind: 'end', text: 'the end of the file', place }
    if (this.#text.startsWith('<%', this.#position))
      throw notTaken(place, 'it embeds Perl, which is not taken: run its preprocessor first')
    if (this.#text[this.#position] === '"') return this.#string(place)
    const directive = this.#match(DIRECTIVE)
    if (directive) return { kind: 'directive', text: directive.slice(1), place }
    const number = this.#match(NUMBER)
    if (number) return { kind: 'number', text: number, value: numberOf(number, place), place }
    const name = this.#match(NAME)
    if (name) return { kind: 'name', text: name.replace(/^\\/, ''), place }
    const sign = this.#match(SIGNS)
    if (sign) return { kind: 'sign', text: sign, place }
    throw wrongAt(place, `${JSON.stringify(this.#text[this.#position])} has no meaning in SystemRDL`)
  }

  /** The rest of the line, continued where it ends with a backslash, for `define. */
  restOfLine(): { text: string; place: Place } {
    const place = this.#place
    const start = this.#position
    let end = start
    do {
      const newline = this.#text.indexOf('\n', end === start ? end : end + 1)
      end = newline < 0 ? this.#text.length : newline
    } while (end < this.#text.length && /\\\r?$/.test(this.#text.slice(start, end)))
    this.#position = end
    return { text: this.#text.slice(start, end).replace(/\\\r?\n/g, ' '), place }
  }

  #skip(): void {
    for (;;) {
      this.#match(SPACE)
      if (!this.#text.startsWith('/*', this.#position)) return
      const place = this.#place
      const end = this.#text.indexOf('*/', this.#position + 2)
      if (end < 0) throw wrongAt(place, 'the comment has no end')
      this.#position = end + 2
    }
  }

  #string(place: Place): Token {
    let end = this.#position + 1
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === '\\' ? 2 : 1
    if (end >= this.#text.length) throw wrongAt(place, 'the string has no end')
    const text = this.#text.slice(this.#position + 1, end).replace(/\\(["\\])/g, '$1')
    this.#position = end + 1
    return { kind: 'string', text, place }
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#position
    const match = pattern.exec(this.#text)?.[0]
    if (match !== undefined) this.#position += match.length
    return match
  }
}

function numberOf(text: string, place: Place): bigint {
  const digits = text.replaceAll('_', '')
  const sized = /^(\d+)'([bdh])(.*)$/i.exec(digits)
  if (!sized) return BigInt(digits)
  const [, width, radix, rest] = sized
  const value = BigInt({ b: '0b', d: '', h: '0x' }[radix.toLowerCase()] + rest)
  if (Number(width) < 1 || Number(width) > 4096 || value >> BigInt(width) !== 0n)
    throw wrongAt(place, `${text} does not fit ${width} bits`)
  return value
}
