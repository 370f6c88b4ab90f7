import fc from 'fast-check'
import t from 'tap'
import { arrayOf, byteLength, type MLOperandDataType } from '../data-type.js'
import { type MLContext, MLGraphBuilder, type MLOperand, type MLTensor, ml } from '../index.js'
import { serveNpu } from '../wpt/served.test.helper.js'
import { type Call, calls, type Kind, kindsOf } from './calls.test.helper.js'
import { specified } from './limits.test.helper.js'

/*
 * Calls that are near to one that is taken: each is refused with a `TypeError` that has the label, or its graph is built and runs, on the CPU as on an
 * NPU. `UACCEL_CALLS` says how many of each operator, `UACCEL_SEED` which.
 */

const RUNS = Number(process.env.UACCEL_CALLS ?? 5)
const SEED = Number(process.env.UACCEL_SEED ?? 1)

const npu = await serveNpu()
t.teardown(() => npu.close())
const contexts = { CPU: await ml.createContext(), NPU: await ml.createContext({ device: npu.node }) }

const small = fc.integer({ min: 0, max: 4 })
const enums = [
  'nchw',
  'nhwc',
  'oihw',
  'hwio',
  'ohwi',
  'ihwo',
  'iohw',
  'hwoi',
  'floor',
  'ceil',
  'edge',
  'reflection',
]
const more = [
  'linear',
  'forward',
  'backward',
  'both',
  'zrn',
  'rzn',
  'iofg',
  'ifgo',
  'float32',
  'int64',
  'uint8',
]
const values: Readonly<Record<Kind, fc.Arbitrary<unknown>>> = {
  ulong: small,
  long: fc.integer({ min: -4, max: 4 }),
  wrapping: small,
  double: fc.constantFrom(0, 1, -1, 0.5, 1e-5),
  floats: fc.array(fc.constantFrom(0.3, 1, 1.5, 2), { minLength: 2, maxLength: 2 }),
  number: fc.constantFrom(0, -1, 1, 3, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2n),
  boolean: fc.boolean(),
  ulongs: fc.array(small, { maxLength: 4 }),
  wrappings: fc.array(small, { maxLength: 3 }),
  'ulong?': fc.oneof(small, fc.array(small, { maxLength: 3 })),
  enum: fc.constantFrom(...enums, ...more),
  enums: fc.array(fc.constantFrom('relu', 'sigmoid', 'tanh'), { minLength: 2, maxLength: 3 }),
}

/** The shape that is taken, more often than another. */
const shapeLike = (shape: readonly number[]) =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constant([...shape]) },
    { weight: 1, arbitrary: fc.tuple(...shape.map((size) => fc.constantFrom(size, size, 1, 2, 5))) },
    { weight: 1, arbitrary: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 5 }) },
  )
const eachOf = <T>(record: Readonly<Record<string, T>>, of: (value: T) => fc.Arbitrary<unknown>) =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, of(value)]))

function callLike(name: string, { operands, options = {}, rest = [] }: Call) {
  const { positions, members } = kindsOf(name)
  return fc.record({
    types: fc.record(
      eachOf(specified.get(name)!, ({ dataTypes }) => fc.constantFrom(...dataTypes)) as Record<
        string,
        fc.Arbitrary<MLOperandDataType>
      >,
    ),
    operands: fc.record(eachOf(operands, shapeLike) as Record<string, fc.Arbitrary<number[]>>),
    rest: fc.tuple(...rest.map((value, at) => fc.oneof(fc.constant(value), values[positions[at]!]))),
    optional: fc.record(eachOf(options, shapeLike) as Record<string, fc.Arbitrary<number[]>>, {
      requiredKeys: [],
    }),
    members: fc.record(eachOf(members, (kind) => fc.option(values[kind], { nil: undefined, freq: 2 }))),
  })
}

type Given = ReturnType<typeof callLike> extends fc.Arbitrary<infer T> ? T : never

const counts = { ran: 0, refused: 0 }

/** Builds and runs what a call makes: what is wrong with that, if anything is. */
async function wrongWith(context: MLContext, name: string, given: Given): Promise<string | undefined> {
  const limits = specified.get(name)!
  const builder = new MLGraphBuilder(context)
  const inputs: Record<string, MLOperand> = {}
  const rootOf = (operand: string): string => {
    const own = operand.replace(/\[\d+\]$/, '')
    const { typeOf } = limits[own]!
    return typeOf === undefined ? own : rootOf(typeOf)
  }
  const operand = ([as, shape]: [string, number[]]) => {
    inputs[as] = builder.input(as, { dataType: given.types[rootOf(as)]!, shape })
    return [as, inputs[as]] as const
  }
  const operands = Object.entries(given.operands).map((each) => operand(each)[1])
  const options = Object.fromEntries(Object.entries(given.optional as Record<string, number[]>).map(operand))
  let outputs: MLOperand[]
  try {
    const method = Reflect.get(builder, name) as (...given: unknown[]) => MLOperand | MLOperand[]
    const all = name === 'concat' ? [operands] : operands
    outputs = [
      method.call(builder, ...all, ...given.rest, { ...options, ...given.members, label: 'L' }),
    ].flat()
  } catch (error) {
    const { message } = error as Error
    const refused =
      Object.getPrototypeOf(error) === TypeError.prototype && message.startsWith(`[L] ${name}: `)
    counts.refused++
    return refused ? undefined : `${(error as Error).stack}`
  }
  const tensors: MLTensor[] = []
  const tensorOf = async ([as, { dataType, shape }]: [string, MLOperand]) => {
    const tensor = await context.createTensor({ dataType, shape, readable: true, writable: true })
    tensors.push(tensor)
    return [as, tensor] as const
  }
  try {
    const named = outputs.map((output, at): [string, MLOperand] => [`y${at}`, output])
    const graph = await builder.build(Object.fromEntries(named))
    const into = Object.fromEntries(await Promise.all(named.map(tensorOf)))
    context.dispatch(graph, Object.fromEntries(await Promise.all(Object.entries(inputs).map(tensorOf))), into)
    for (const tensor of Object.values(into)) {
      const { byteLength: found } = await context.readTensor(tensor)
      if (found !== byteLength(tensor) || found % arrayOf[tensor.dataType].BYTES_PER_ELEMENT !== 0)
        return `${found} bytes of ${tensor.shape}`
    }
    graph.destroy()
    counts.ran++
    return undefined
  } catch (error) {
    // The specification takes groups that do not divide the input, and nothing computes them.
    const known =
      name === 'convTranspose2d' && (error as Error).name === 'OperationError' && given.members.groups !== 1
    return known ? undefined : String(error)
  } finally {
    for (const tensor of tensors) tensor.destroy()
  }
}

for (const [device, context] of Object.entries(contexts))
  t.test(`${device}: calls that are like one that is taken`, async (t) => {
    for (const [name, call] of calls)
      await fc.assert(
        fc.asyncProperty(callLike(name, call), async (given) => {
          const wrong = await wrongWith(context, name, given)
          if (wrong !== undefined) throw new Error(`${name}: ${wrong}`)
        }),
        { numRuns: RUNS, seed: SEED },
      )
    context.destroy()
    const { ran, refused } = counts
    t.ok(ran > 4 * RUNS && refused > 4 * RUNS, `${ran} graphs have run, ${refused} calls were refused`)
    Object.assign(counts, { ran: 0, refused: 0 })
  })
