import type { Accelerator, AcceleratorMemory, CommandList, OperatorSupport, Place } from '../accelerator.js'
import { kernels, operandOver } from '../cpu/kernels.js'
import { byteLength } from '../data-type.js'
import type { Operator, Value } from '../graph.js'

interface Command {
  readonly operators: readonly Operator[]
  readonly places: ReadonlyMap<Value, Place>
  /** Is overwritten by the command: it may be nobody else's while it runs. */
  readonly scratch: Place
  readonly scratchBytes: number
  /** Is expected to be there when the command runs. */
  readonly kept: Place
  readonly keptBytes: Uint8Array
}

export interface TestAcceleratorOptions {
  /** Which operators it does; default all. */
  readonly does?: (name: string) => boolean
  readonly refuses?: (operator: Operator) => string | undefined
  /** Operators that are done with those before; default none. */
  readonly follows?: (group: readonly Operator[], next: Operator) => boolean
  readonly types?: OperatorSupport<Command>['types']
}

/** An accelerator in this process, whose commands are kernels of the CPU. It works at memory that the commands name, and at nothing else. */
export class TestAccelerator implements Accelerator<Command> {
  readonly name = 'test'
  readonly operators: Readonly<Record<string, OperatorSupport<Command>>>
  readonly lost: Promise<string>
  lose!: (reason: string) => void
  /** Ends the next submission with this. */
  failure: Error | undefined
  /** Submissions do not end. */
  hangs = false
  closed = false
  doorbells = 0
  lists = 0
  binds = 0
  allocatedBytes = 0
  readonly memories = new Set<AcceleratorMemory>()
  readonly #options: TestAcceleratorOptions

  constructor(options: TestAcceleratorOptions = {}) {
    const { does = () => true, refuses, types = {} } = options
    this.#options = options
    this.operators = Object.fromEntries(
      Object.keys(kernels)
        .filter(does)
        .map((name) => [name, { types, ...(refuses === undefined ? {} : { refuses }), lower }]),
    )
    this.lost = new Promise((resolve) => {
      this.lose = resolve
    })
  }

  follows(group: readonly Operator[], next: Operator): boolean {
    return this.#options.follows?.(group, next) ?? false
  }

  allocate(sizeBytes: number): AcceleratorMemory {
    const memory: AcceleratorMemory = {
      bytes: new Uint8Array(sizeBytes),
      free: () => {
        if (!this.memories.delete(memory)) throw new Error('memory is freed twice')
        memory.bytes.fill(0xee)
      },
    }
    this.memories.add(memory)
    this.allocatedBytes += sizeBytes
    return memory
  }

  prepare(commands: readonly Command[], memories: readonly (AcceleratorMemory | undefined)[]): CommandList {
    this.lists++
    const known = [...memories]
    let steps: (() => void)[] | undefined
    let done: ((error: Error | undefined, micros: number | undefined) => void) | undefined
    const end = () => {
      const { failure } = this
      this.failure = undefined
      if (failure === undefined) for (const step of steps!) step()
      done!(failure, failure === undefined ? 5 : undefined)
    }
    return {
      bind: (buffer, memory) => {
        this.binds++
        known[buffer] = memory
        steps = undefined
      },
      submit: (told) => {
        this.doorbells++
        done = told
        steps ??= commands.flatMap((command) => bind(command, known))
        if (!this.hangs) setImmediate(end)
      },
      free: () => {
        this.lists--
      },
    }
  }

  async close(): Promise<void> {
    this.closed = true
  }
}

const lower: OperatorSupport<Command>['lower'] = (operator, followers, placement) => {
  const operators = [operator, ...followers]
  const inside = new Set(operators.slice(0, -1).flatMap(({ outputs }) => outputs))
  const values = [
    ...operators.flatMap(({ inputs }) => Object.values(inputs)).filter((value) => !inside.has(value)),
    ...operators.at(-1)!.outputs,
  ]
  const keptBytes = new TextEncoder().encode(operator.name)
  const scratchBytes = 40 + byteLength(operator.outputs[0].descriptor)
  return [
    {
      operators,
      places: new Map(values.map((value) => [value, placement.at(value)])),
      scratch: placement.scratch(scratchBytes),
      scratchBytes,
      kept: placement.keep(keptBytes),
      keptBytes,
    },
  ]
}

function bind(
  { operators, places, scratch, scratchBytes, kept, keptBytes }: Command,
  memories: readonly (AcceleratorMemory | undefined)[],
): (() => void)[] {
  const at = ({ buffer, offset = 0 }: Place, sizeBytes: number) => {
    const memory = memories[buffer]
    if (memory === undefined) throw new Error(`no memory is bound to ${buffer}`)
    if (offset % 64 !== 0 || offset + sizeBytes > memory.bytes.length)
      throw new RangeError(`${sizeBytes} bytes at ${offset} of ${memory.bytes.length}`)
    return memory.bytes.subarray(offset, offset + sizeBytes)
  }
  const inside = new Map<Value, Uint8Array>()
  const bytesOf = (value: Value): Uint8Array => {
    const sizeBytes = byteLength(value.descriptor)
    const place = places.get(value)
    if (place !== undefined) return at(place, sizeBytes)
    const found = inside.get(value) ?? new Uint8Array(sizeBytes)
    inside.set(value, found)
    return found
  }
  const operand = (value: Value) => operandOver(value.descriptor, bytesOf(value))
  const work = operators.map(({ name, inputs, attributes, outputs }) =>
    kernels[name]({
      name,
      attributes,
      inputs: Object.fromEntries(Object.entries(inputs).map(([as, value]) => [as, operand(value)])),
      outputs: outputs.map(operand),
    }),
  )
  const [dirty, constant] = [at(scratch, scratchBytes), at(kept, keptBytes.length)]
  return [
    () => {
      if (Buffer.compare(constant, keptBytes) !== 0) throw new Error('a constant was overwritten')
    },
    () => dirty.fill(0xaa),
    ...work,
    () => dirty.fill(0x55),
  ]
}
