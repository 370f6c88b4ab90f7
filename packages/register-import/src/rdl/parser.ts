import { notTaken, oneSpace, type Place, type Warning, wrongAt } from '../description.js'
import { MAX_DEPTH } from '../limits.js'
import type {
  Assignment,
  Definition,
  Enumeration,
  Expression,
  Instantiation,
  Kind,
  Parameter,
} from './ast.js'
import { ExpressionParser } from './expressions.js'
import type { Token } from './lexer.js'
import { interruptWords, properties } from './properties.js'
import { plainText } from './text.js'

const KINDS: ReadonlySet<string> = new Set(['addrmap', 'regfile', 'reg', 'field', 'mem', 'signal'])

/** Names that a component's braces enclose. */
interface Scope {
  readonly definition: Definition
  readonly types: Map<string, Definition>
  readonly enums: Map<string, Enumeration>
  readonly defaults: Map<string, Assignment>
}

/** Reads the words of SystemRDL files as definitions (SystemRDL 2.0, annex B). Types are found while reading: they stand before their use. */
export class Parser extends ExpressionParser {
  readonly warnings: Warning[] = []
  /** Those that stand in no other component, in order. */
  readonly addressMaps: Definition[] = []
  readonly #scopes: Scope[] = []
  readonly #userProperties = new Set<string>()

  constructor(tokens: readonly Token[]) {
    super(tokens)
  }

  /** All that stands outside of any component. */
  parse(): Definition {
    const root = this.#definition('root', undefined, this.place)
    this.#within(root, () => {
      while (this.peek().kind !== 'end') this.#statement()
    })
    return root
  }

  protected override get scope(): Definition {
    return this.#scopes[this.#scopes.length - 1].definition
  }

  protected override enumeration(name: string): Enumeration | undefined {
    return this.#lookUp((scope) => scope.enums.get(name))
  }

  #lookUp<T>(get: (scope: Scope) => T | undefined): T | undefined {
    for (let i = this.#scopes.length - 1; i >= 0; i--) {
      const found = get(this.#scopes[i])
      if (found !== undefined) return found
    }
    return undefined
  }

  #definition(kind: Definition['kind'], name: string | undefined, place: Place): Definition {
    const defaults = new Map(this.#scopes.flatMap((scope) => [...scope.defaults]))
    return { kind, name, place, outer: this.#scopes.at(-1)?.definition, parameters: [], defaults, body: [] }
  }

  #within(definition: Definition, read: () => void): Scope {
    if (this.#scopes.length > MAX_DEPTH)
      throw notTaken(definition.place, `components stand more than ${MAX_DEPTH} deep in each other`)
    const scope = { definition, types: new Map(), enums: new Map(), defaults: new Map() }
    this.#scopes.push(scope)
    read()
    this.#scopes.pop()
    return scope
  }

  #statement(): void {
    const { text, kind } = this.peek()
    if (kind !== 'name') throw this.unexpected('a component, an instance or a property')
    if (KINDS.has(text) || ((text === 'external' || text === 'internal') && KINDS.has(this.peek(1).text)))
      this.#component()
    else if (text === 'enum') this.#enum()
    else if (text === 'property') this.#userProperty()
    else if (text === 'struct' || text === 'abstract' || text === 'constraint') this.#skipDefinition(text)
    else if (text === 'default') {
      this.take()
      const assignment = this.#assignment()
      this.#scopes.at(-1)!.defaults.set(assignment.name, assignment)
    } else if (['=', ';'].includes(this.peek(1).text) || interruptWords.has(text)) {
      if (this.scope.kind === 'root') throw this.unexpected('a component: a property stands in one')
      this.scope.body.push(this.#assignment())
    } else if (['.', '->', '['].includes(this.peek(1).text)) this.#dynamic()
    else this.#explicit()
    this.expect(';')
  }

  /** `reg name #(...) { ... } instance, instance` with what may be left out. */
  #component(): void {
    if (!KINDS.has(this.peek().text)) this.take()
    const place = this.place
    const kind = this.take().text as Kind
    const name = this.peek().kind === 'name' ? this.take().text : undefined
    const definition = this.#definition(kind, name, place)
    this.#within(definition, () => {
      if (this.accept('#')) definition.parameters.push(...this.#parameters())
      this.expect('{')
      while (!this.accept('}')) {
        if (this.peek().kind === 'end') throw wrongAt(place, `the braces of this ${kind} are never closed`)
        this.#statement()
      }
    })
    if (name !== undefined) {
      const { types } = this.#scopes.at(-1)!
      const before = types.get(name)
      if (before)
        throw wrongAt(place, `there is a ${before.kind} ${name} already, in line ${before.place.line}`)
      types.set(name, definition)
    }
    if (['external', 'internal'].includes(this.peek().text)) this.take()
    if (kind === 'addrmap' && this.scope.kind === 'root') {
      definition.name ??= this.peek().text
      this.addressMaps.push(definition)
    }
    if (this.peek().text !== ';') this.#instances(definition)
    else if (name === undefined) throw wrongAt(place, `this ${kind} has neither a name nor an instance`)
  }

  #explicit(): void {
    if (['external', 'internal'].includes(this.peek().text)) this.take()
    if (this.peek().text === 'alias') {
      this.take()
      this.name('the register that it is an alias of')
    }
    const place = this.place
    const name = this.name('a component')
    const type = this.#lookUp((scope) => scope.types.get(name))
    if (!type) throw wrongAt(place, `there is no component ${name} up to here`)
    this.#instances(type)
  }

  #instances(type: Definition): void {
    const given = new Map<string, Expression>()
    if (this.accept('#')) {
      this.expect('(')
      do {
        this.expect('.')
        const place = this.place
        const name = this.name('a parameter')
        if (!type.parameters.some((parameter) => parameter.name === name))
          throw wrongAt(place, `${type.name ?? type.kind} has no parameter ${name}`)
        this.expect('(')
        given.set(name, this.expression())
        this.expect(')')
      } while (this.accept(','))
      this.expect(')')
    }
    do this.scope.body.push(this.#instance(type, given))
    while (this.accept(','))
  }

  #instance(type: Definition, given: ReadonlyMap<string, Expression>): Instantiation {
    const place = this.place
    const name = this.name('the name of an instance')
    if (this.scope.kind === 'root' && type.kind !== 'signal' && type.kind !== 'addrmap')
      throw notTaken(place, `the ${type.kind} ${name} stands outside of any address map`)
    const dimensions: Expression[] = []
    let range: Instantiation['range']
    while (this.accept('[')) {
      const left = this.expression()
      if (this.accept(':')) range = { left, right: this.expression() }
      else dimensions.push(left)
      this.expect(']')
    }
    const after = (sign: string) => (this.accept(sign) ? this.expression() : undefined)
    const reset = after('=')
    const address = after('@')
    const stride = after('+=')
    const alignment = after('%=')
    return {
      form: 'instance',
      type,
      name,
      place,
      arguments: given,
      dimensions,
      range,
      reset,
      address,
      stride,
      alignment,
    }
  }

  #parameters(): Parameter[] {
    const list: Parameter[] = []
    this.expect('(')
    do {
      const type = this.take()
      if (type.text === 'longint' || type.text === 'bit') this.accept('unsigned')
      const { place } = this
      const name = this.name('a parameter')
      if (this.accept('[')) throw notTaken(place, `the parameter ${name} is an array, which is not taken`)
      list.push({ name, initial: this.accept('=') ? this.expression() : undefined, place })
    } while (this.accept(','))
    this.expect(')')
    return list
  }

  #assignment(): Assignment {
    const { place } = this
    const first = this.name('a property')
    if (interruptWords.has(first) && this.peek().kind === 'name') {
      const name = this.name('intr')
      if (name !== 'intr') throw wrongAt(place, `${first} is for intr, found ${name}`)
      return { form: 'assignment', name, value: { form: 'boolean', value: true, place }, place }
    }
    if (this.#userProperties.has(first)) this.#warnOnce(place, `the user's property ${first}`)
    else if (!properties.has(first)) throw wrongAt(place, `there is no property ${first}`)
    const value: Expression = this.accept('=') ? this.expression() : { form: 'boolean', value: true, place }
    return { form: 'assignment', name: first, value, place }
  }

  #dynamic(): void {
    const path: string[] = []
    do {
      path.push(this.name('an instance'))
      if (this.peek().text === '[')
        throw notTaken(this.place, 'a property of one element of an array: all elements are of one kind here')
    } while (this.accept('.'))
    this.expect('->')
    this.scope.body.push({ form: 'dynamic', path, assignment: this.#assignment() })
  }

  #enum(): void {
    this.take()
    const { place } = this
    const name = this.name('an enumeration')
    const values: { name: string; value: bigint; doc?: string }[] = []
    this.expect('{')
    while (!this.accept('}')) {
      const at = this.place
      const key = this.name('the name of a value')
      let value = values.length === 0 ? 0n : values[values.length - 1].value + 1n
      if (this.accept('=')) {
        const given = this.expression()
        if (given.form !== 'number') throw notTaken(at, `the value ${key} of ${name} is no plain number`)
        value = given.value
      }
      let doc: string | undefined
      if (this.accept('{')) {
        while (!this.accept('}')) {
          const property = this.name('name or desc')
          this.expect('=')
          const text = this.expression()
          if (text.form !== 'string') throw wrongAt(text.place, `${property} of ${key} is no string`)
          if (property === 'desc' || doc === undefined) doc = oneSpace(plainText(text.value))
          this.expect(';')
        }
      }
      this.expect(';')
      values.push({ name: key, value, ...(doc === undefined ? {} : { doc }) })
    }
    const { enums } = this.#scopes.at(-1)!
    if (enums.has(name)) throw wrongAt(place, `there is an enumeration ${name} already`)
    enums.set(name, { name, values })
  }

  #userProperty(): void {
    this.take()
    this.#userProperties.add(this.name('a property'))
    this.#skipBraces()
  }

  /** Structures and constraints say nothing that a register map holds. */
  #skipDefinition(what: string): void {
    this.#warnOnce(this.place, `a ${what === 'constraint' ? what : 'struct'}`)
    while (!['{', ';', 'the end of the file'].includes(this.peek().text)) this.take()
    this.#skipBraces()
    while (![';', 'the end of the file'].includes(this.peek().text)) this.take()
  }

  #skipBraces(): void {
    const { place } = this
    this.expect('{')
    for (let open = 1; open > 0; ) {
      const token = this.take()
      if (token.kind === 'end') throw wrongAt(place, 'the braces are never closed')
      if (token.kind === 'sign') open += token.text === '{' ? 1 : token.text === '}' ? -1 : 0
    }
  }

  #warnOnce(place: Place, what: string): void {
    const message = `${what} is left out: it says nothing of where registers are`
    if (!this.warnings.some((warning) => warning.message === message)) this.warnings.push({ place, message })
  }
}
