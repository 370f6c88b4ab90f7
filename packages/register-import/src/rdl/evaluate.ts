import { notTaken, wrongAt } from '../description.js'
import type { Definition, Enumeration, Expression } from './ast.js'

/** What an expression comes to. A reference to something of the design is not followed. */
export type Value =
  | bigint
  | boolean
  | string
  | { readonly word: string }
  | { readonly type: Enumeration }
  | { readonly reference: string }

/** The parameters of what is around an expression. */
export interface Environment {
  readonly definition: Definition
  readonly parameters: Pick<ReadonlyMap<string, Value>, 'get'>
  readonly outer: Environment | undefined
}

/** Numbers of SystemRDL have 64 bits, as longint unsigned has (SystemRDL 2.0, clause 6.2). */
const wrap = (value: bigint): bigint => BigInt.asUintN(64, value)

/** The value of an expression, with parameters as `environment` has them. */
export function evaluate(expression: Expression, environment: Environment): Value {
  const { place } = expression
  switch (expression.form) {
    case 'number':
    case 'string':
    case 'boolean':
      return expression.value
    case 'word':
      return { word: expression.word }
    case 'enum':
      return { type: expression.type }
    case 'aggregate':
      return { reference: 'an array or structure' }
    case 'reference':
      return { reference: expression.text }
    case 'name':
      return parameter(expression.name, expression.scope, environment) ?? { reference: expression.name }
    case 'unary': {
      const value = evaluate(expression.operand, environment)
      if (expression.sign === '!') return !truth(value, expression.operand)
      const number = numberIn(value, expression.operand)
      return expression.sign === '-' ? wrap(-number) : number
    }
    case 'choice': {
      const holds = truth(evaluate(expression.condition, environment), expression.condition)
      return evaluate(holds ? expression.yes : expression.no, environment)
    }
    case 'cast': {
      const value = evaluate(expression.of, environment)
      if (expression.to === 'boolean') return truth(value, expression.of)
      const number = numberIn(value, expression.of)
      if (expression.to === 'longint') return number
      const bits = expression.to === 'bit' ? 1n : numberOf(expression.to, environment)
      if (bits < 1n || bits > 64n) throw wrongAt(place, `a cast to ${bits} bits`)
      return BigInt.asUintN(Number(bits), number)
    }
    case 'binary':
      return binary(expression, environment)
  }
}

/** The value of an expression that has to be a number. */
export function numberOf(expression: Expression, environment: Environment): bigint {
  return numberIn(evaluate(expression, environment), expression)
}

function numberIn(value: Value, { place }: Expression): bigint {
  if (typeof value === 'bigint') return value
  if (typeof value === 'boolean') return BigInt(value)
  if (typeof value === 'object' && 'reference' in value)
    throw wrongAt(place, `wanted a number, and ${value.reference} is no parameter here`)
  throw wrongAt(place, `wanted a number, found ${typeof value === 'string' ? 'a string' : 'a word'}`)
}

function truth(value: Value, expression: Expression): boolean {
  return numberIn(value, expression) !== 0n
}

function parameter(name: string, scope: Definition, environment: Environment): Value | undefined {
  for (let env: Environment | undefined = environment; env; env = env.outer) {
    if (!encloses(env.definition, scope)) continue
    const value = env.parameters.get(name)
    if (value !== undefined) return value
  }
  return undefined
}

function encloses(outer: Definition, inner: Definition): boolean {
  for (let scope: Definition | undefined = inner; scope; scope = scope.outer) if (scope === outer) return true
  return false
}

function binary(
  { sign, left, right, place }: Extract<Expression, { form: 'binary' }>,
  environment: Environment,
): Value {
  const first = evaluate(left, environment)
  const second = evaluate(right, environment)
  if (sign === '==' || sign === '!=') {
    const same = key(first) === key(second)
    return same === (sign === '==')
  }
  const a = numberIn(first, left)
  const b = numberIn(second, right)
  if ((sign === '/' || sign === '%') && b === 0n) throw wrongAt(place, `${sign} by zero`)
  if ((sign === '<<' || sign === '>>' || sign === '**') && b > 64n && a > (sign === '**' ? 1n : 0n))
    return sign === '>>' ? 0n : refuseSize(place, sign)
  const operation = operations[sign]
  const result = operation?.(a, b)
  if (typeof result === 'bigint' && result >> 64n !== 0n) return refuseSize(place, sign)
  if (result !== undefined) return result
  throw notTaken(
    place,
    `${sign} depends on how many bits its operands have, which is not taken: write the number out`,
  )
}

function refuseSize(place: Expression['place'], sign: string): never {
  throw wrongAt(place, `the result of ${sign} does not fit 64 bits`, 'ERR_ACCEL_OUT_OF_RANGE')
}

const key = (value: Value): string =>
  typeof value === 'bigint' || typeof value === 'boolean'
    ? `${BigInt(value)}`
    : JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `${part}` : part))

const operations: Readonly<Record<string, (a: bigint, b: bigint) => Value>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
  '**': (a, b) => a ** (a > 1n ? b : b > 0n ? 1n : 0n),
  '<<': (a, b) => a << (a === 0n ? 0n : b),
  '>>': (a, b) => a >> b,
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
  '&&': (a, b) => a !== 0n && b !== 0n,
  '||': (a, b) => a !== 0n || b !== 0n,
}
