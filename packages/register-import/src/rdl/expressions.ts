import type { AccelError } from '@uaccel/uapi'
import { notTaken, type Place, wrongAt } from '../description.js'
import { MAX_DEPTH } from '../limits.js'
import type { Definition, Enumeration, Expression } from './ast.js'
import type { Token } from './lexer.js'
import { valueWords } from './properties.js'

/** How tight the signs between two operands bind (SystemRDL 2.0, table 12). */
const LEVELS: readonly (readonly string[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^', '~^', '^~'],
  ['&'],
  ['==', '!='],
  ['<', '<=', '>', '>='],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/', '%'],
  ['**'],
]

/** Reads words one after the other, and expressions of them. */
export abstract class ExpressionParser {
  readonly #tokens: readonly Token[]
  #next = 0
  #depth = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  protected abstract get scope(): Definition
  protected abstract enumeration(name: string): Enumeration | undefined

  protected peek(ahead = 0): Token {
    return this.#tokens[Math.min(this.#next + ahead, this.#tokens.length - 1)]
  }

  protected get place(): Place {
    return this.peek().place
  }

  protected take(): Token {
    const token = this.peek()
    this.#next++
    return token
  }

  protected accept(sign: string): boolean {
    const { kind, text } = this.peek()
    if ((kind !== 'sign' && kind !== 'name') || text !== sign) return false
    this.#next++
    return true
  }

  protected expect(sign: string): void {
    if (!this.accept(sign)) throw this.unexpected(`'${sign}'`)
  }

  protected name(what: string): string {
    if (this.peek().kind !== 'name') throw this.unexpected(what)
    return this.take().text
  }

  protected unexpected(wanted: string): AccelError {
    const { kind, text, place } = this.peek()
    return wrongAt(place, `wanted ${wanted}, found ${kind === 'end' ? text : JSON.stringify(text)}`)
  }

  protected expression(): Expression {
    if (++this.#depth > MAX_DEPTH) throw notTaken(this.place, `the expression is more than ${MAX_DEPTH} deep`)
    const condition = this.#binary(0)
    let result = condition
    if (this.peek().text === '?' && this.peek().kind === 'sign') {
      const { place } = this.take()
      const yes = this.expression()
      this.expect(':')
      result = { form: 'choice', condition, yes, no: this.expression(), place }
    }
    this.#depth--
    return result
  }

  #binary(level: number): Expression {
    if (level === LEVELS.length) return this.#unary()
    let left = this.#binary(level + 1)
    while (this.peek().kind === 'sign' && LEVELS[level].includes(this.peek().text)) {
      const { text: sign, place } = this.take()
      left = { form: 'binary', sign, left, right: this.#binary(level + 1), place }
    }
    return left
  }

  #unary(): Expression {
    const { kind, text, place } = this.peek()
    if (kind !== 'sign' || !['+', '-', '!', '~', '&', '|', '^', '~&', '~|', '~^', '^~'].includes(text))
      return this.#primary()
    if (!['+', '-', '!'].includes(text))
      throw notTaken(
        place,
        `${text} depends on how many bits its operand has, which is not taken: write the number out`,
      )
    this.take()
    return { form: 'unary', sign: text, operand: this.#primary(), place }
  }

  #primary(): Expression {
    const { kind, text, value, place } = this.peek()
    if (kind === 'number') {
      this.take()
      return this.#cast({ form: 'number', value: value!, place })
    }
    if (kind === 'string') {
      this.take()
      return { form: 'string', value: text, place }
    }
    if (this.accept('(')) {
      const inner = this.expression()
      this.expect(')')
      return this.#cast(inner)
    }
    if (text === '{') throw notTaken(place, 'a concatenation: write the number out')
    if (text === "'" && kind === 'sign') return this.#aggregate(place)
    if (kind !== 'name') throw this.unexpected('a value')
    this.take()
    if (text === 'true' || text === 'false') return { form: 'boolean', value: text === 'true', place }
    if ((text === 'boolean' || text === 'bit' || text === 'longint') && this.accept("'"))
      return { form: 'cast', to: text, of: this.#parenthesized(), place }
    if (this.accept('::')) return this.#enumerator(text, place)
    if (this.peek().text === "'" && this.peek(1).text === '{') return this.#aggregate(place)
    if (valueWords.has(text)) return { form: 'word', word: text, place }
    const type = this.enumeration(text)
    if (type && !['.', '[', '->'].includes(this.peek().text)) return { form: 'enum', type, place }
    return this.#reference(text, place)
  }

  /** What a name leads to in the design: only a name alone can be a parameter. */
  #reference(first: string, place: Place): Expression {
    let path = first
    for (;;) {
      if (this.accept('.')) path += `.${this.name('an instance')}`
      else if (this.accept('->')) path += `->${this.name('a property')}`
      else if (this.accept('[')) {
        this.expression()
        this.expect(']')
        path += '[]'
      } else break
    }
    return path === first
      ? { form: 'name', name: first, scope: this.scope, place }
      : { form: 'reference', text: path, place }
  }

  #enumerator(type: string, place: Place): Expression {
    const word = this.name('the name of a value')
    const value = this.enumeration(type)?.values.find(({ name }) => name === word)?.value
    if (value === undefined) throw wrongAt(place, `there is no ${type}::${word} up to here`)
    return { form: 'number', value, place }
  }

  #cast(expression: Expression): Expression {
    if (this.peek().text !== "'" || this.peek(1).text !== '(') return expression
    const { place } = this.take()
    return { form: 'cast', to: expression, of: this.#parenthesized(), place }
  }

  #parenthesized(): Expression {
    this.expect('(')
    const inner = this.expression()
    this.expect(')')
    return inner
  }

  /** `'{...}`: of any content, since nothing here looks at it. */
  #aggregate(place: Place): Expression {
    this.expect("'")
    this.expect('{')
    for (let open = 1; open > 0; ) {
      const token = this.take()
      if (token.kind === 'end') throw wrongAt(place, 'the braces are never closed')
      if (token.kind === 'sign') open += token.text === '{' ? 1 : token.text === '}' ? -1 : 0
    }
    return { form: 'aggregate', place }
  }
}
