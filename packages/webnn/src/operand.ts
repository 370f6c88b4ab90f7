import type { MLOperandDataType } from './data-type.js'
import type { Value } from './graph.js'
import { checkConstructor, exposeInterface, internal } from './web-idl.js'

/** What is behind an operand. */
export interface State {
  /** The builder that made it, which alone takes it. */
  readonly builder: object
  readonly value: Value
}

let stateOf: (operand: MLOperand) => State | undefined
let make: (state: State) => MLOperand

/** `MLOperand`: an immutable value of a graph that is being built. */
export class MLOperand {
  readonly #state: State
  readonly #shape: readonly number[]

  private constructor(key: symbol, state: State) {
    checkConstructor(key, 'MLGraphBuilder')
    this.#state = state
    this.#shape = Object.freeze([...state.value.descriptor.shape])
  }

  static {
    make = (state) => new MLOperand(internal, state)
    stateOf = (operand) => (#state in operand ? operand.#state : undefined)
    exposeInterface(MLOperand)
  }

  get dataType(): MLOperandDataType {
    return this.#state.value.descriptor.dataType
  }

  get shape(): readonly number[] {
    return this.#shape
  }
}

export const makeOperand = (builder: object, value: Value): MLOperand => make({ builder, value })

/** The conversion to an `MLOperand`, of whichever builder: anything else is a `TypeError`. */
export function toOperand(operand: unknown, what: string): State {
  const state = typeof operand === 'object' && operand !== null ? stateOf(operand as MLOperand) : undefined
  if (state === undefined) throw new TypeError(`${what}: an MLOperand is wanted`)
  return state
}

/** "Validate operand": its value; it is refused where another builder made it. */
export function operandValue(
  builder: object,
  state: State,
  what: string,
  refuse: (message: string) => never,
): Value {
  if (state.builder !== builder) refuse(`${what} is of another MLGraphBuilder`)
  return state.value
}
