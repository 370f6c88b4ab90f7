import { isAccelError } from '@uaccel/uapi'
import { parseScaled } from './numbers.js'
import type { Definition } from './rdl/ast.js'
import { type Environment, numberOf, type Value } from './rdl/evaluate.js'
import { ExpressionParser } from './rdl/expressions.js'
import { preprocess } from './rdl/preprocess.js'

/** How deep a parameter may stand for another. */
const MAX_STEPS = 16

/**
 * A number of IP-XACT: as the 2009 schema has it (`10`, `0x1F`, `4K`), or an expression of SystemVerilog (2014: `'h1F`, `8'b1`, `2*width`), whose
 * names are parameters. Its numbers and signs are those of SystemRDL too. `undefined` where it is none.
 */
export function parseIpxactNumber(
  text: string,
  parameter: (id: string) => string | undefined,
  steps = MAX_STEPS,
): bigint | undefined {
  const trimmed = text.trim()
  const plain = trimmed.startsWith('#') ? undefined : parseScaled(trimmed.replaceAll('_', ''))
  if (plain !== undefined || trimmed === '') return plain
  try {
    return new ExpressionText(trimmed).evaluate((name) => {
      const value = steps > 0 ? parameter(name) : undefined
      return value === undefined ? undefined : parseIpxactNumber(value, parameter, steps - 1)
    })
  } catch (cause) {
    if (isAccelError(cause)) return undefined
    throw cause
  }
}

const nowhere = { file: '', line: 1, column: 1 }
const scope: Definition = {
  kind: 'root',
  name: undefined,
  place: nowhere,
  outer: undefined,
  parameters: [],
  defaults: new Map(),
  body: [],
}

class ExpressionText extends ExpressionParser {
  constructor(text: string) {
    // what has no width of its own, or is signed, is 64 bits here as there
    super(
      preprocess(
        '',
        text.replace(
          /(?<![\w])(\d*)\s*'s?([hdb])\s*(?=[0-9a-f])/gi,
          (_, bits, radix) => `${bits || 64}'${radix}`,
        ),
      ),
    )
  }

  protected override get scope(): Definition {
    return scope
  }

  protected override enumeration(): undefined {
    return undefined
  }

  /** Parameters are looked up as their names come, so that only those that are used need to be numbers. */
  evaluate(parameter: (name: string) => bigint | undefined): bigint | undefined {
    const expression = this.expression()
    if (this.peek().kind !== 'end') return undefined
    const parameters = { get: (name: string): Value | undefined => parameter(name) }
    const environment: Environment = { definition: scope, parameters, outer: undefined }
    return numberOf(expression, environment)
  }
}
