import { dirname, isAbsolute, join } from 'node:path'
import { notTaken, type Place, wrongAt } from '../description.js'
import { readText } from '../files.js'
import { MAX_DEPTH } from '../limits.js'
import { Lexer, type Token } from './lexer.js'

/** Words of a file with all that it includes and defines: the largest public ones have some 10^5. */
const MAX_TOKENS = 1_000_000

/**
 * The words of a file, with `include, `define, `undef, `ifdef, `ifndef, `elsif, `else and `endif carried out (SystemRDL 2.0, clause 16.2,
 * after Verilog). Macros with arguments are not taken.
 */
export function preprocess(file: string, text: string): Token[] {
  const state: State = { tokens: [], macros: new Map() }
  const end = scan(file, text, state, 0)
  state.tokens.push(end)
  return state.tokens
}

interface State {
  readonly tokens: Token[]
  readonly macros: Map<string, readonly Token[]>
}

/** A condition: whether it holds now, and whether one of its branches held before. */
interface Branch {
  readonly place: Place
  active: boolean
  done: boolean
}

function scan(file: string, text: string, state: State, depth: number): Token {
  if (depth > MAX_DEPTH)
    throw notTaken({ file, line: 1, column: 1 }, `files include each other more than ${MAX_DEPTH} deep`)
  const lexer = new Lexer(file, text)
  const branches: Branch[] = []
  for (;;) {
    const token = lexer.next()
    const active = branches.every((branch) => branch.active)
    if (token.kind === 'end') {
      const open = branches.at(-1)
      if (open) throw wrongAt(open.place, 'the condition has no `endif')
      return token
    }
    if (token.kind !== 'directive') {
      if (active) push(state, token)
    } else if (!condition(token, lexer, branches, state) && active)
      directive(token, lexer, file, state, depth)
  }
}

function condition({ text, place }: Token, lexer: Lexer, branches: Branch[], { macros }: State): boolean {
  if (text === 'ifdef' || text === 'ifndef') {
    const holds = macros.has(nameAfter(lexer, text)) === (text === 'ifdef')
    branches.push({ place, active: holds, done: holds })
    return true
  }
  if (!['elsif', 'else', 'endif'].includes(text)) return false
  const branch = branches.at(-1)
  if (!branch) throw wrongAt(place, `\`${text} without \`ifdef`)
  if (text === 'endif') branches.pop()
  else {
    const holds = text === 'else' || macros.has(nameAfter(lexer, text))
    branch.active = holds && !branch.done
    branch.done ||= holds
  }
  return true
}

function directive({ text, place }: Token, lexer: Lexer, file: string, state: State, depth: number): void {
  if (text === 'include') {
    const name = lexer.next()
    if (name.kind !== 'string') throw notTaken(name.place, '`include takes a "file" in quotes')
    const path = isAbsolute(name.text) ? name.text : join(dirname(file), name.text)
    let included: string
    try {
      included = readText(path)
    } catch (cause) {
      throw wrongAt(name.place, `cannot include: ${(cause as Error).message}`, 'ERR_ACCEL_NOT_FOUND')
    }
    scan(path, included, state, depth + 1)
  } else if (text === 'define') {
    const name = nameAfter(lexer, text)
    const rest = lexer.restOfLine()
    if (rest.text.startsWith('('))
      throw notTaken(place, `the macro ${name} has arguments, which are not taken`)
    state.macros.set(name, words(rest.text, rest.place, state))
  } else if (text === 'undef') {
    state.macros.delete(nameAfter(lexer, text))
  } else {
    const body = state.macros.get(text)
    if (!body) throw wrongAt(place, `\`${text} is no directive and no macro that is defined`)
    for (const word of body) push(state, { ...word, place })
  }
}

/** The words of a macro, those of other macros put in their place. */
function words(text: string, place: Place, state: State): Token[] {
  const lexer = new Lexer(place.file, text)
  const found: State = { tokens: [], macros: state.macros }
  for (let token = lexer.next(); token.kind !== 'end'; token = lexer.next()) {
    const body = token.kind === 'directive' ? state.macros.get(token.text) : [token]
    if (!body) throw wrongAt(place, `\`${token.text} is no macro that is defined`)
    for (const word of body) push(found, { ...word, place })
  }
  return found.tokens
}

function nameAfter(lexer: Lexer, directive: string): string {
  const token = lexer.next()
  if (token.kind === 'name') return token.text
  throw wrongAt(token.place, `\`${directive} takes a name, found ${token.text}`)
}

function push({ tokens }: State, token: Token): void {
  if (tokens.length >= MAX_TOKENS)
    throw wrongAt(token.place, `more than ${MAX_TOKENS} words, macros spelt out`, 'ERR_ACCEL_OUT_OF_RANGE')
  tokens.push(token)
}
