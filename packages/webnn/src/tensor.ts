import type { AcceleratorMemory } from './accelerator.js'
import type { Context } from './context.js'
import type { MLOperandDataType, MLTensorDescriptor } from './data-type.js'
import { checkConstructor, exposeInterface, internal } from './web-idl.js'

export interface TensorState {
  readonly context: Context
  readonly descriptor: Required<MLTensorDescriptor>
  readonly constant: boolean
  /** Its memory, which is the context's: from when it was created to when it is destroyed. */
  memory: AcceleratorMemory | undefined
  /** Why its content is not known: the dispatch that was to write it failed. */
  failure: DOMException | undefined
  destroyed: boolean
  /** Readings that are under way, and end when it is destroyed. */
  readonly pending: Set<{ fail(reason: unknown): void }>
}

let stateOf: (tensor: MLTensor) => TensorState | undefined
let make: (state: TensorState) => MLTensor

/** `MLTensor`: memory of a context, for inputs, outputs and constants of graphs. */
export class MLTensor {
  readonly #state: TensorState
  readonly #shape: readonly number[]

  private constructor(key: symbol, state: TensorState) {
    checkConstructor(key, 'MLContext')
    this.#state = state
    this.#shape = Object.freeze([...state.descriptor.shape])
  }

  static {
    make = (state) => new MLTensor(internal, state)
    stateOf = (tensor) => (#state in tensor ? tensor.#state : undefined)
    exposeInterface(MLTensor)
  }

  get dataType(): MLOperandDataType {
    return this.#state.descriptor.dataType
  }
  get shape(): readonly number[] {
    return this.#shape
  }
  get readable(): boolean {
    return this.#state.descriptor.readable
  }
  get writable(): boolean {
    return this.#state.descriptor.writable
  }
  get constant(): boolean {
    return this.#state.constant
  }

  /** Gives its memory back, once what was asked for before has ended. Readings that are under way end with `InvalidStateError`. */
  destroy(): void {
    const state = this.#state
    if (state.destroyed) return
    state.destroyed = true
    for (const reading of state.pending)
      reading.fail(new DOMException('the tensor was destroyed', 'InvalidStateError'))
    state.pending.clear()
    const { context } = state
    context.later(() => {
      if (state.memory) context.backend.free(state.memory)
      state.memory = undefined
    })
    context.tensors.delete(this)
  }
}

export const makeTensor = (
  context: Context,
  descriptor: Required<MLTensorDescriptor>,
  constant: boolean,
): MLTensor =>
  make({
    context,
    descriptor,
    constant,
    memory: undefined,
    failure: undefined,
    destroyed: false,
    pending: new Set(),
  })

/** What is behind a tensor; a `TypeError` of anything else. */
export function tensorState(tensor: unknown, what: string): TensorState {
  const state = typeof tensor === 'object' && tensor !== null ? stateOf(tensor as MLTensor) : undefined
  if (state === undefined) throw new TypeError(`${what}: an MLTensor is wanted`)
  return state
}

export const toTensor = (value: unknown, what: string): MLTensor => {
  tensorState(value, what)
  return value as MLTensor
}
