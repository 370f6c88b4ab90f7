import type { Backend, Executable, Memories } from './backend.js'
import { type BufferSource, bytesOf, mismatch } from './buffer.js'
import {
  byteLength,
  checkDimensions,
  type MLOperandDescriptor,
  type MLTensorDescriptor,
  toOperandDescriptor,
  toTensorDescriptor,
} from './data-type.js'
import { supportLimits } from './limits.js'
import type { Profile, Report } from './plan/report.js'
import { Reading } from './reading.js'
import { sameShape } from './shape.js'
import { Spin } from './spin.js'
import type { MLOpSupportLimits } from './support-limits.js'
import { type MLTensor, makeTensor, type TensorState, tensorState, toTensor } from './tensor.js'
import { Timeline } from './timeline.js'
import { bufferSource, checkConstructor, exposeInterface, internal, record } from './web-idl.js'

/** Tensors of a dispatch by the names of the graph's inputs or outputs. */
export type MLNamedTensors = Readonly<Record<string, MLTensor>>

/** `MLContextLostInfo`. */
export interface MLContextLostInfo {
  message: string
}

/** What tensors and graphs know of their context. */
export interface Context {
  readonly tensors: Set<MLTensor>
  readonly graphs: Set<MLGraph>
  readonly backend: Backend
  readonly isLost: boolean
  /** Runs when all that was asked for before has ended, and not at all once the context is lost: answers false then. */
  later<T>(work: () => T | Promise<T>): Promise<{ readonly value: T } | undefined>
}

interface GraphState {
  readonly context: MLContext
  readonly inputs: ReadonlyMap<string, MLOperandDescriptor>
  readonly outputs: ReadonlyMap<string, MLOperandDescriptor>
  readonly executable: Executable
  destroyed: boolean
}

let graphState: (graph: MLGraph) => GraphState | undefined
let makeGraph: (state: GraphState) => MLGraph
let contextOf: (context: MLContext) => Context | undefined
let profileOn: (
  context: MLContext,
  graph: MLGraph,
  inputs: MLNamedTensors,
  outputs: MLNamedTensors,
) => Promise<Profile>

/** `MLGraph`: a graph that was built, to be dispatched any number of times. */
export class MLGraph {
  readonly #state: GraphState

  private constructor(key: symbol, state: GraphState) {
    checkConstructor(key, 'MLGraphBuilder')
    this.#state = state
  }

  static {
    makeGraph = (state) => new MLGraph(internal, state)
    graphState = (graph) => (#state in graph ? graph.#state : undefined)
    exposeInterface(MLGraph)
  }

  /** Gives what it holds back, once what was dispatched before has ended. */
  destroy(): void {
    if (this.#state.destroyed) return
    this.#state.destroyed = true
    const context = contextOf(this.#state.context)!
    context.graphs.delete(this)
    context.later(() => this.#state.executable.destroy())
  }
}

export { makeGraph }

const toGraph = (value: unknown, what: string): GraphState => {
  const state = typeof value === 'object' && value !== null ? graphState(value as MLGraph) : undefined
  if (state === undefined) throw new TypeError(`${what}: an MLGraph is wanted`)
  return state
}

const toTensors = record(toTensor)
const invalidState = (message: string) => new DOMException(message, 'InvalidStateError')
export const operationError = (message: string, cause: unknown): DOMException =>
  Object.assign(new DOMException(message, 'OperationError'), { cause })
const LOST = 'the context was lost'

/** `MLContext`: a device, its memory, and what it is asked to do, in the order in which it was asked. */
export class MLContext {
  readonly #context: Context
  readonly #lost: Promise<MLContextLostInfo>
  #tellLost!: (info: MLContextLostInfo) => void
  #isLost = false
  readonly #timeline = new Timeline()
  readonly #spin: Spin | undefined

  /** @internal `ml.createContext` makes them. */
  constructor(backend: Backend) {
    if (typeof backend?.compile !== 'function')
      throw new TypeError('Illegal constructor: ml.createContext makes them')
    this.#lost = new Promise((resolve) => {
      this.#tellLost = resolve
    })
    const isLost = () => this.#isLost
    this.#context = {
      tensors: new Set(),
      graphs: new Set(),
      backend,
      get isLost() {
        return isLost()
      },
      later: (work) => this.#later(work),
    }
    if (backend.polling !== undefined && backend.polling.forUs > 0) this.#spin = new Spin(backend.polling)
    backend.lost?.then((reason) => this.#lose(reason))
  }

  static {
    contextOf = (context) => (#context in context ? context.#context : undefined)
    exposeInterface(MLContext)
    profileOn = async (context, graph, inputs, outputs) => {
      const { executable, from, to } = context.#prepare('profile', graph, inputs, outputs)
      let profiled: Profile | undefined
      const done = await context.#later(
        () =>
          new Promise<DOMException | undefined>((resolve) => {
            settle(
              from,
              to,
              (inputs, outputs, ended) => {
                executable.profile(inputs, outputs).then((profile) => {
                  profiled = profile
                  ended(undefined)
                }, ended)
              },
              resolve,
            )
          }),
      )
      if (done === undefined) throw invalidState(LOST)
      if (done.value !== undefined) throw done.value
      return profiled!
    }
  }

  /** Whether an accelerator computes. */
  get accelerated(): boolean {
    return this.#context.backend.accelerated
  }

  get lost(): Promise<MLContextLostInfo> {
    return this.#lost
  }

  opSupportLimits(): MLOpSupportLimits {
    toContext(this, 'opSupportLimits')
    return supportLimits()
  }

  /** Runs a graph. Its inputs are read, and its outputs written, when what was asked for before has ended. */
  dispatch(graph: MLGraph, inputs: MLNamedTensors, outputs: MLNamedTensors): void {
    const { executable, from, to } = this.#prepare('dispatch', graph, inputs, outputs)
    this.#timeline.add({
      begin: (ended) => {
        if (this.#isLost) ended()
        else settle(from, to, (inputs, outputs, told) => executable.run(inputs, outputs, told), ended)
      },
    })
  }

  async createTensor(descriptor: MLTensorDescriptor): Promise<MLTensor> {
    const wanted = toTensorDescriptor(descriptor, 'createTensor: descriptor')
    if (this.#isLost) throw invalidState(LOST)
    if (!checkDimensions(wanted)) throw new TypeError(`createTensor: a tensor of [${wanted.shape}] cannot be`)
    return this.#create(wanted, false)
  }

  async createConstantTensor(descriptor: MLOperandDescriptor, inputData: BufferSource): Promise<MLTensor> {
    const wanted = toOperandDescriptor(descriptor, 'createConstantTensor: descriptor')
    const source = bufferSource(inputData, 'createConstantTensor: inputData')
    if (this.#isLost) throw invalidState(LOST)
    if (!checkDimensions(wanted))
      throw new TypeError(`createConstantTensor: a tensor of [${wanted.shape}] cannot be`)
    const wrong = mismatch(source, wanted)
    if (wrong !== undefined) throw new TypeError(`createConstantTensor: ${wrong}`)
    return this.#create({ ...wanted, readable: false, writable: false }, true, bytesOf(source).slice())
  }

  readTensor(tensor: MLTensor): Promise<ArrayBuffer>
  readTensor(tensor: MLTensor, outputData: BufferSource): Promise<undefined>
  async readTensor(tensor: MLTensor, ...more: BufferSource[]): Promise<ArrayBuffer | undefined> {
    // Which of the two it is is told by the count of arguments: an undefined buffer is none.
    const into = more.length === 0 ? undefined : bufferSource(more[0], 'readTensor: outputData')
    const state = this.#own(tensor, 'readTensor')
    if (!state.descriptor.readable)
      throw new TypeError('readTensor: the tensor was not created with readable: true')
    const wrong = into && mismatch(into, state.descriptor)
    if (wrong !== undefined) throw new TypeError(`readTensor: ${wrong}`)
    const reading = new Reading(state, into)
    state.pending.add(reading)
    this.#timeline.add(reading)
    await undefined
    reading.allow()
    if (!reading.settled) {
      const worth = this.#spin?.look(reading) ?? false
      if (!reading.settled) await (this.#spin?.wait(reading, worth) ?? reading.whenSettled())
    }
    state.pending.delete(reading)
    return reading.take()
  }

  writeTensor(tensor: MLTensor, inputData: BufferSource): void {
    const source = bufferSource(inputData, 'writeTensor: inputData')
    const state = this.#own(tensor, 'writeTensor')
    if (!state.descriptor.writable)
      throw new TypeError('writeTensor: the tensor was not created with writable: true')
    const wrong = mismatch(source, state.descriptor)
    if (wrong !== undefined) throw new TypeError(`writeTensor: ${wrong}`)
    let bytes = bytesOf(source)
    let isWritten = false
    this.#later(() => {
      memoryOf(state).bytes.set(bytes)
      state.failure = undefined
      isWritten = true
    })
    // What has to wait is written as it is now.
    if (!isWritten) bytes = bytes.slice()
  }

  /** Ends the context: its graphs and tensors are destroyed, and `lost` resolves. */
  destroy(): void {
    this.#lose('destroy() was called')
  }

  /** Checks what is to be run, and finds what stands behind it. */
  #prepare(
    what: string,
    graph: MLGraph,
    inputs: MLNamedTensors,
    outputs: MLNamedTensors,
  ): { readonly executable: Executable; readonly from: TensorState[]; readonly to: TensorState[] } {
    const state = toGraph(graph, what)
    const [ofInputs, ofOutputs] = [`${what}: inputs`, `${what}: outputs`]
    const [ins, outs] = [toTensors(inputs, ofInputs), toTensors(outputs, ofOutputs)]
    if (state.context !== this) throw new TypeError(`${what}: the graph is of another context`)
    if (state.destroyed) throw invalidState(`${what}: the graph was destroyed`)
    const from = this.#behind(ins, state.inputs, ofInputs)
    const to = this.#behind(outs, state.outputs, ofOutputs)
    const all = from.concat(to)
    for (let at = 1; at < all.length; at++)
      if (all.indexOf(all[at]) < at) throw new TypeError(`${what}: a tensor is given twice`)
    return { executable: state.executable, from, to }
  }

  /** "Validate tensors with descriptors". Answers what stands behind the tensors, in the graph's order. */
  #behind(
    given: ReadonlyMap<string, MLTensor>,
    wanted: ReadonlyMap<string, MLOperandDescriptor>,
    what: string,
  ): TensorState[] {
    if (given.size !== wanted.size)
      throw new TypeError(`${what} wants ${wanted.size} tensors, found ${given.size}`)
    const states = new Array<TensorState>(wanted.size)
    let at = 0
    for (const [name, { dataType, shape }] of wanted) {
      const tensor = given.get(name)
      if (tensor === undefined) {
        const stray = [...given.keys()].find((name) => !wanted.has(name))
        throw new TypeError(`${what}.${stray} is not in the graph`)
      }
      const state = this.#own(tensor, what)
      if (state.constant) throw new TypeError(`${what}.${name} is a constant tensor`)
      const found = state.descriptor
      if (found.dataType !== dataType || !sameShape(found.shape, shape))
        throw new TypeError(
          `${what}.${name} wants ${dataType} [${shape}], found ${found.dataType} [${found.shape}]`,
        )
      states[at++] = state
    }
    return states
  }

  #own(tensor: MLTensor, what: string) {
    const state = tensorState(tensor, what)
    if (state.context !== this.#context) throw new TypeError(`${what}: the tensor is of another context`)
    if (state.destroyed) throw new TypeError(`${what}: the tensor was destroyed`)
    return state
  }

  async #create(
    descriptor: Required<MLTensorDescriptor>,
    constant: boolean,
    content?: Uint8Array,
  ): Promise<MLTensor> {
    const tensor = makeTensor(this.#context, descriptor, constant)
    const done = await this.#later(() => {
      try {
        const state = tensorState(tensor, 'tensor')
        state.memory = this.#context.backend.allocate(byteLength(descriptor))
        if (content) state.memory.bytes.set(content)
      } catch (cause) {
        throw Object.assign(
          new DOMException(
            `no memory for ${byteLength(descriptor)} bytes: ${(cause as Error).message}`,
            'UnknownError',
          ),
          { cause },
        )
      }
    })
    if (done === undefined) throw invalidState(LOST)
    if (this.#isLost) {
      // It was made, and then the context was lost before anybody had it.
      tensor.destroy()
      throw invalidState(LOST)
    }
    this.#context.tensors.add(tensor)
    return tensor
  }

  #later<T>(work: () => T | Promise<T>): Promise<{ readonly value: T } | undefined> {
    return new Promise((resolve, reject) => {
      this.#timeline.add({
        begin: (ended) => {
          if (this.#isLost) {
            resolve(undefined)
            ended()
            return
          }
          // What fails is told to who waits for it, and holds up nothing behind it.
          const told =
            <V>(tell: (value: V) => void) =>
            (value: V) => {
              tell(value)
              ended()
            }
          try {
            const value = work()
            if (value instanceof Promise)
              value.then(
                told((value: T) => resolve({ value })),
                told(reject),
              )
            else told(resolve)({ value })
          } catch (error) {
            told(reject)(error)
          }
        },
      })
    })
  }

  #lose(message: string): void {
    if (this.#isLost) return
    this.#isLost = true
    for (const graph of [...this.#context.graphs]) graph.destroy()
    for (const tensor of [...this.#context.tensors]) tensor.destroy()
    this.#tellLost({ message })
    // A run that is under way ends first: a device may be at its memory until then.
    this.#timeline.add({
      begin: (ended) => {
        // Nobody waits for it: what fails is told to the process, and does not end it.
        Promise.resolve(this.#context.backend.close())
          .catch((error) => process.emitWarning(error))
          .finally(ended)
      },
    })
  }
}

/** Tensors that are in use have memory: it is taken back on the timeline, behind what uses it. */
const memoryOf = (state: TensorState) => state.memory!

/**
 * Runs a graph. What fails leaves outputs of which nothing is known: who reads one is told why, also by way of graphs that were run with it. `ended`
 * is told why, too.
 */
function settle(
  inputs: readonly TensorState[],
  outputs: readonly TensorState[],
  run: (inputs: Memories, outputs: Memories, ended: (error: Error | undefined) => void) => void,
  ended: (failure: DOMException | undefined) => void,
): void {
  const end = (failure: DOMException | undefined) => {
    for (const state of outputs) state.failure = failure
    ended(failure)
  }
  const failure = inputs.find((state) => state.failure !== undefined)?.failure
  if (failure !== undefined) end(failure)
  else
    run(inputs.map(memoryOf), outputs.map(memoryOf), (error) => {
      if (error === undefined) end(undefined)
      // Where the device was lost, the context is told so, by a promise, before those who wait for the run.
      else setImmediate(end, operationError(`dispatch: ${error.message}`, error))
    })
}

/** What was decided for a graph: where each operator runs, and why; what is copied, and how much memory is held. */
export const explain = (graph: MLGraph): Report => toGraph(graph, 'explain').executable.report

/**
 * Dispatches a graph, and answers what each part of it took. Each group of operators has a doorbell of its own here, so that the sum is more than a
 * dispatch takes.
 */
export const profile = (graph: MLGraph, inputs: MLNamedTensors, outputs: MLNamedTensors): Promise<Profile> =>
  profileOn(toGraph(graph, 'profile').context, graph, inputs, outputs)

export function toContext(value: unknown, what: string): Context {
  const context = typeof value === 'object' && value !== null ? contextOf(value as MLContext) : undefined
  if (context === undefined) throw new TypeError(`${what}: an MLContext is wanted`)
  return context
}
