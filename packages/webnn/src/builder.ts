import { type BufferSource, bytesOf, mismatch } from './buffer.js'
import {
  type Context,
  type MLContext,
  type MLGraph,
  makeGraph,
  operationError,
  toContext,
} from './context.js'
import {
  checkDimensions,
  type MLOperandDataType,
  type MLOperandDescriptor,
  scalarBytes,
  toDataType,
  toOperandDescriptor,
} from './data-type.js'
import { type Operator, reach, type Value } from './graph.js'
import { resolve } from './limits.js'
import { type MLOperand, makeOperand, operandValue, type State, toOperand } from './operand.js'
import { label, type OperatorDefinition } from './operators/definition.js'
import { operators } from './operators/index.js'
import type { MLNumber, MLOperators } from './operators/methods.js'
import { MLTensor, tensorState } from './tensor.js'
import {
  bufferSource,
  dictionary,
  exposeInterface,
  type Member,
  mlNumber,
  record,
  sequence,
  usvString,
} from './web-idl.js'

/** Outputs of a graph by their names. */
export type MLNamedOperands = Readonly<Record<string, MLOperand>>

const invalidState = (message: string) => new DOMException(message, 'InvalidStateError')
const LOST = 'the context was lost'

/** Makes a node of a builder. */
let call: (
  builder: Builder,
  definition: OperatorDefinition,
  given: readonly unknown[],
) => MLOperand | MLOperand[]

class Builder {
  readonly #context: Context
  readonly #owner: MLContext
  readonly #inputs = new Set<string>()
  #hasBuilt = false

  constructor(context: MLContext) {
    const found = toContext(context, 'MLGraphBuilder')
    if (found.isLost) throw invalidState(LOST)
    this.#context = found
    this.#owner = context
  }

  static {
    call = (builder, definition, given) => builder.#call(definition, given)
    Object.defineProperty(Builder, 'name', { value: 'MLGraphBuilder' })
    exposeInterface(Builder)
  }

  /** A graph input of that name. */
  input(name: string, descriptor: MLOperandDescriptor): MLOperand {
    const text = usvString(name, 'input: name')
    const wanted = toOperandDescriptor(descriptor, 'input: descriptor')
    this.#check()
    if (text === '') throw new TypeError('input: a name is wanted')
    if (this.#inputs.has(text)) throw new TypeError(`input: there is an input ${text} already`)
    checkDescriptor(wanted, 'input')
    this.#inputs.add(text)
    return makeOperand(this, { descriptor: wanted, source: { kind: 'input', name: text } })
  }

  /** A constant: of these bytes, of that number, or of that tensor. */
  constant(descriptor: MLOperandDescriptor, buffer: BufferSource): MLOperand
  constant(dataType: MLOperandDataType, value: MLNumber): MLOperand
  constant(tensor: MLTensor): MLOperand
  constant(
    first: MLOperandDescriptor | MLOperandDataType | MLTensor,
    ...more: (BufferSource | MLNumber)[]
  ): MLOperand {
    if (first instanceof MLTensor) {
      const state = tensorState(first, 'constant')
      if (state.context !== this.#context) throw new TypeError('constant: the tensor is of another context')
      if (state.destroyed) throw new TypeError('constant: the tensor was destroyed')
      if (!state.constant)
        throw new TypeError('constant: the tensor is no constant; createConstantTensor makes them')
      this.#check()
      return makeOperand(this, { descriptor: state.descriptor, source: { kind: 'tensor', tensor: first } })
    }
    if (more.length === 0)
      throw new TypeError('constant: an MLTensor is wanted, or a descriptor or data type with its content')
    const [second] = more
    if (typeof first !== 'object') {
      const dataType = toDataType(first, 'constant: dataType')
      const value = mlNumber(second, 'constant: value')
      this.#check()
      const source = { kind: 'constant', bytes: scalarBytes(value, dataType) } as const
      return makeOperand(this, { descriptor: { dataType, shape: [] }, source })
    }
    const descriptor = toOperandDescriptor(first, 'constant: descriptor')
    const source = bufferSource(second, 'constant: buffer')
    this.#check()
    checkDescriptor(descriptor, 'constant')
    const wrong = mismatch(source, descriptor)
    if (wrong !== undefined) throw new TypeError(`constant: ${wrong}`)
    return makeOperand(this, { descriptor, source: { kind: 'constant', bytes: bytesOf(source).slice() } })
  }

  /** Makes the graph of these outputs ready. The builder is of no use afterwards. */
  async build(outputs: MLNamedOperands): Promise<MLGraph> {
    const given = record(toOperand)(outputs, 'build: outputs')
    this.#check()
    const refuse = (message: string): never => {
      throw new TypeError(`build: ${message}`)
    }
    if (given.size === 0) refuse('an output is wanted')
    const named = new Map<string, Value>()
    for (const [name, state] of given) {
      if (name === '') refuse('each output wants a name')
      const value = operandValue(this, state, `outputs.${name}`, refuse)
      named.set(name, value)
      const { source } = value
      if (source.kind !== 'operator') refuse(`the output ${name} is an input or a constant`)
    }
    const graph = reach(named)
    for (const { inputs } of graph.operators) {
      for (const { source } of Object.values(inputs)) {
        if (source.kind === 'tensor' && tensorState(source.tensor, 'build').destroyed)
          refuse('a constant tensor of the graph was destroyed')
      }
    }
    this.#hasBuilt = true
    const done = await this.#context.later(async () => {
      try {
        return await this.#context.backend.compile(graph)
      } catch (cause) {
        throw operationError(`build: ${(cause as Error).message}`, cause)
      }
    })
    if (done === undefined) throw invalidState(LOST)
    const descriptors = (values: ReadonlyMap<string, Value>) =>
      new Map(Array.from(values, ([name, { descriptor }]) => [name, descriptor]))
    const built = makeGraph({
      context: this.#owner,
      inputs: descriptors(graph.inputs),
      outputs: descriptors(graph.outputs),
      executable: done.value,
      destroyed: false,
    })
    this.#context.graphs.add(built)
    return built
  }

  /** Makes a node: converts what was given, holds operands to their limits, and asks the operator for the rest. */
  #call(definition: OperatorDefinition, given: readonly unknown[]): MLOperand | MLOperand[] {
    const { name, limits } = definition
    const { operands: converted, values } = convertAll(definition, given)
    const { label: text, ...rest } = values as { label: string }
    const attributes: Record<string, unknown> = rest
    const refuse = (message: string): never => {
      throw new TypeError(`${prefixOf(text)}${name}: ${message}`)
    }
    this.#check()
    const inputs = Object.fromEntries(
      Object.entries(converted).map(([as, state]) => [as, operandValue(this, state, as, refuse)]),
    )
    const operands = Object.fromEntries(
      Object.entries(inputs).map(([as, { descriptor }]) => [as, descriptor]),
    )
    for (const as of Object.keys(operands)) checkOperand(limits, operands, as, refuse)
    const outputs = definition.infer({ operands, values: attributes, refuse })
    for (const descriptor of outputs) {
      if (!checkDimensions(descriptor))
        refuse(`an output of ${descriptor.dataType} [${descriptor.shape}] is more than the context takes`)
    }
    const operator: Operator = { name, label: text, inputs, attributes, outputs: [] }
    const made = outputs.map(({ dataType, shape }, output) => {
      const value: Value = {
        descriptor: { dataType, shape: [...shape] },
        source: { kind: 'operator', operator, output },
      }
      operator.outputs.push(value)
      return makeOperand(this, value)
    })
    return definition.many ? made : made[0]!
  }

  #check(): void {
    if (this.#context.isLost) throw invalidState(LOST)
    if (this.#hasBuilt) throw invalidState('the builder has built its graph: make another')
  }
}

/**
 * A label at the head of a message. What could make the message look like another one is escaped: control and format characters, those that change
 * the direction of text among them, and ends of lines.
 */
const prefixOf = (text: string) =>
  text === ''
    ? ''
    : `[${text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (found) => `\\u{${found.codePointAt(0)!.toString(16)}}`)}] `

/** The label of options that may be none. */
function labelOf(options: unknown): string {
  try {
    return usvString((options as { label?: unknown } | null | undefined)?.label ?? '', 'label')
  } catch {
    return ''
  }
}

/** Converts what a call was given, in the order of Web IDL. What is said of a value that cannot be converted has the label, too. */
function convertAll(
  definition: OperatorDefinition,
  given: readonly unknown[],
): {
  readonly operands: Readonly<Record<string, State>>
  readonly values: Readonly<Record<string, unknown>>
} {
  const { name, parameters } = definition
  const count = Object.keys(parameters).length
  const operands: Record<string, State> = {}
  const values: Record<string, unknown> = {}
  const take = (as: string, value: unknown) => {
    operands[as] = toOperand(value, `${name}: ${as}`)
  }
  try {
    if (given.length < count)
      throw new TypeError(`${name}: ${count} arguments are wanted, found ${given.length}`)
    Object.entries(parameters).forEach(([parameter, kind], at) => {
      const value = given[at]
      if (kind === 'operand') take(parameter, value)
      else if (kind === 'operands')
        for (const [index, each] of sequence((one) => one)(value, `${name}: ${parameter}`).entries())
          take(`${parameter}[${index}]`, each)
      else values[parameter] = kind(value, `${name}: ${parameter}`)
    })
    for (const [option, value] of Object.entries(optionsOf(definition)(given[count], `${name}: options`))) {
      if (definition.options[option] === 'operand') take(option, value)
      else values[option] = value
    }
    return { operands, values }
  } catch (error) {
    // What getters and iterators of the caller throw is the caller's.
    if (!(error instanceof TypeError && error.message.startsWith(`${name}: `))) throw error
    throw new TypeError(`${prefixOf(labelOf(given[count]))}${error.message}`)
  }
}

function checkDescriptor(descriptor: MLOperandDescriptor, what: string): void {
  if (!checkDimensions(descriptor))
    throw new TypeError(`${what}: a tensor of [${descriptor.shape}] cannot be`)
}

/** Holds one operand to its limits. Those of a list have the limits of the list. */
function checkOperand(
  limits: OperatorDefinition['limits'],
  operands: Readonly<Record<string, MLOperandDescriptor>>,
  as: string,
  refuse: (message: string) => never,
): void {
  const name = as.replace(/\[\d+\]$/, '')
  const { types, ranks } = limits[name]!
  const { dataType, shape } = operands[as]!
  const allowed = resolve(limits, name)
  if (!allowed.types.includes(dataType))
    refuse(`${as} wants one of ${allowed.types.join(', ')}, found ${dataType}`)
  if ('sameAs' in types && operands[types.sameAs]!.dataType !== dataType)
    refuse(
      `${as} wants the data type of ${types.sameAs}, ${operands[types.sameAs]!.dataType}, found ${dataType}`,
    )
  const [least, greatest] = allowed.ranks
  if (shape.length < least || shape.length > greatest)
    refuse(
      `${as} wants ${least === greatest ? least : `${least} to ${greatest}`} dimensions, found ${shape.length}`,
    )
  if ('sameAs' in ranks && operands[ranks.sameAs]!.shape.length !== shape.length)
    refuse(
      `${as} wants as many dimensions as ${ranks.sameAs}, ${operands[ranks.sameAs]!.shape.length}, found ${shape.length}`,
    )
}

const converters = new Map<OperatorDefinition, ReturnType<typeof dictionary>>()

function optionsOf(definition: OperatorDefinition): ReturnType<typeof dictionary> {
  let found = converters.get(definition)
  if (found === undefined) {
    const operand: Member<unknown> = { convert: (value) => value }
    const members = Object.entries(definition.options).map(([name, member]) => [
      name,
      member === 'operand' ? operand : member,
    ])
    found = dictionary({ label }, Object.fromEntries(members))
    converters.set(definition, found)
  }
  return found
}

for (const definition of operators.values()) {
  const { name, parameters } = definition
  const method = {
    [name](this: Builder, ...given: unknown[]) {
      return call(this, definition, given)
    },
  }[name]!
  Object.defineProperty(method, 'length', { value: Object.keys(parameters).length })
  Object.defineProperty(Builder.prototype, name, {
    configurable: true,
    enumerable: true,
    writable: true,
    value: method,
  })
}

/** `MLGraphBuilder`, with a method for each operator of the specification. */
export type MLGraphBuilder = Pick<Builder, 'input' | 'constant' | 'build'> & MLOperators
export const MLGraphBuilder = Builder as unknown as new (context: MLContext) => MLGraphBuilder
export type { MLOperand }
