import { inspect } from 'node:util'
import t from 'tap'
import type { MLOperandDataType } from '../data-type.js'
import { dataTypes } from '../data-type.js'
import { explain, type MLContext, MLGraphBuilder, type MLOperand, ml } from '../index.js'
import type { MLTensorLimits } from '../support-limits.js'
import { serveNpu } from '../wpt/served.test.helper.js'
import { type Call, calls, kindsOf, refusedOf } from './calls.test.helper.js'
import { type OperandLimits, specified } from './limits.test.helper.js'

const npu = await serveNpu()
t.teardown(() => npu.close())
const contexts: Readonly<Record<string, MLContext>> = {
  CPU: await ml.createContext(),
  NPU: await ml.createContext({ device: npu.node }),
}
t.teardown(() => {
  for (const context of Object.values(contexts)) context.destroy()
})

type Types = Readonly<Record<string, MLOperandDataType>>
const label = 'op#1 <\u202e>'
/** The label as messages have it: what turns text around is escaped. */
const shown = '[op#1 <\\u{202e}>] '

const plain = (operand: string) => operand.replace(/\[\d+\]$/, '')
/** The operand whose type decides. */
const rootOf = (limits: Readonly<Record<string, OperandLimits>>, operand: string): string => {
  const of = limits[plain(operand)]!.typeOf
  return of === undefined ? plain(operand) : rootOf(limits, of)
}
const typeOf = (limits: Readonly<Record<string, OperandLimits>>, operand: string, types: Types) => {
  const { dataTypes } = limits[plain(operand)]!
  return (
    types[operand] ??
    types[rootOf(limits, operand)] ??
    (dataTypes.includes('float32') ? 'float32' : dataTypes[0]!)
  )
}

let names = 0

/** An operator and a builder to call it with, one operand, argument or member at a time being another than in the call that is taken. */
class Caller {
  readonly builder: MLGraphBuilder
  readonly name: string
  readonly limits: Readonly<Record<string, OperandLimits>>
  readonly #call: Call

  constructor(context: MLContext, name: string) {
    this.builder = new MLGraphBuilder(context)
    this.name = name
    this.limits = specified.get(name)!
    this.#call = calls.get(name)!
  }

  get operands(): string[] {
    return [...Object.keys(this.#call.operands), ...Object.keys(this.#call.options ?? {})]
  }

  operand(name: string, types: Types = {}, shape?: readonly number[]): MLOperand {
    return this.builder.input(`input${names++}`, {
      dataType: typeOf(this.limits, name, types),
      shape: shape ?? this.#call.operands[name] ?? this.#call.options![name]!,
    })
  }

  /** The arguments, with others in their places. */
  given(
    types: Types = {},
    replaced: Readonly<Record<string, unknown>> = {},
    rest: readonly unknown[] = this.#call.rest ?? [],
    members: Readonly<Record<string, unknown>> = {},
  ): unknown[] {
    const at = (name: string) => (name in replaced ? replaced[name] : this.operand(name, types))
    const operands = Object.keys(this.#call.operands).map(at)
    const options = Object.keys(this.#call.options ?? {}).map((name) => [name, at(name)])
    return [
      ...(this.name === 'concat' ? [operands] : operands),
      ...rest,
      { ...Object.fromEntries(options), ...members, label },
    ]
  }

  call(given: readonly unknown[]): MLOperand[] {
    const methods = this.builder as unknown as Record<
      string,
      (...given: readonly unknown[]) => MLOperand | MLOperand[]
    >
    return [methods[this.name]!(...given)].flat()
  }

  /** Says how a call that has to be refused is not: with a `TypeError` that has the label. */
  notRefused(what: string, given: readonly unknown[]): string[] {
    try {
      this.call(given)
    } catch (error) {
      const refused = error instanceof Error && Object.getPrototypeOf(error) === TypeError.prototype
      return refused && error.message.startsWith(`${shown}${this.name}: `) ? [] : [`${what}: ${error}`]
    }
    return [`${what} is taken`]
  }
}

for (const [device, context] of Object.entries(contexts)) {
  const each = (what: string, check: (caller: Caller) => Promise<string[]> | string[]) =>
    t.test(`${device}: ${what}`, async (t) => {
      for (const name of specified.keys()) t.same(await check(new Caller(context, name)), [], name)
    })

  each('limits are those of the specification', ({ name, limits }) => {
    const found = Reflect.get(context.opSupportLimits(), name) as Record<string, MLTensorLimits>
    const wanted = Object.entries(limits).map(
      ([
        operand,
        {
          dataTypes,
          ranks: [min, max],
        },
      ]) => [operand, { dataTypes, rankRange: { min, max } }],
    )
    const ordered = ({ dataTypes, rankRange }: MLTensorLimits) => ({
      dataTypes: [...dataTypes].sort(),
      rankRange,
    })
    return wanted.flatMap(([operand, each]) => {
      const own = found[operand as string]
      const same = own && JSON.stringify(ordered(own)) === JSON.stringify(ordered(each as MLTensorLimits))
      return same ? [] : [`${operand}: ${JSON.stringify(own)}, and not ${JSON.stringify(each)}`]
    })
  })

  each('each allowed type is taken, computed with, and no other', async (caller) => {
    const wrong: string[] = []
    const roots = new Set(caller.operands.map((operand) => rootOf(caller.limits, operand)))
    for (const root of roots) {
      for (const dataType of dataTypes) {
        const types = { [root]: dataType }
        if (!caller.limits[root]!.dataTypes.includes(dataType)) {
          wrong.push(...caller.notRefused(`${root} of ${dataType}`, caller.given(types)))
          continue
        }
        const { builder, call } = { builder: new Caller(context, caller.name), call: calls.get(caller.name)! }
        const outputs = builder.call(builder.given(types))
        const shapes = outputs.map(({ shape }) => shape)
        if (JSON.stringify(shapes) !== JSON.stringify(call.outputs))
          wrong.push(`shapes ${JSON.stringify(shapes)}`)
        const output = caller.limits.output ?? caller.limits.outputs ?? caller.limits.output0!
        const wanted = ['argMin', 'argMax', 'cast'].includes(caller.name)
          ? 'int32'
          : output.typeOf === undefined
            ? output.dataTypes[0]
            : typeOf(caller.limits, output.typeOf, types)
        if (outputs.some((each) => each.dataType !== wanted))
          wrong.push(`${root} of ${dataType}: ${outputs[0]!.dataType}`)
        const graph = await builder.builder.build(
          Object.fromEntries(outputs.map((each, at) => [`y${at}`, each])),
        )
        const [operator] = explain(graph).operators
        if (operator?.label !== label) wrong.push(`${JSON.stringify(operator)}`)
        graph.destroy()
      }
    }
    for (const operand of caller.operands) {
      if (rootOf(caller.limits, operand) === operand || operand === 'inputs[0]') continue
      const own = typeOf(caller.limits, operand, {})
      for (const dataType of dataTypes)
        if (dataType !== own)
          wrong.push(
            ...caller.notRefused(`${operand} alone of ${dataType}`, caller.given({ [operand]: dataType })),
          )
    }
    return wrong
  })

  each('ranks that are not allowed are refused', (caller) =>
    caller.operands.flatMap((operand) => {
      const [least, greatest] = caller.limits[plain(operand)]!.ranks
      return Array.from({ length: 9 }, (_, rank) => rank)
        .filter((rank) => rank < least || rank > greatest)
        .flatMap((rank) => {
          const other = caller.operand(operand, {}, new Array<number>(rank).fill(1))
          return caller.notRefused(`${operand} of rank ${rank}`, caller.given({}, { [operand]: other }))
        })
    }),
  )

  each('what is no operand of the builder is refused', (caller) => {
    const foreign = new MLGraphBuilder(context).constant('float32', 1)
    const others = { foreign, object: {}, number: 1, null: null, forged: Object.create(foreign) }
    return caller.operands.flatMap((operand) =>
      Object.entries(others).flatMap(([what, other]) =>
        caller.notRefused(`${operand}: ${what}`, caller.given({}, { [operand]: other })),
      ),
    )
  })

  each('values that Web IDL cannot convert are refused', (caller) => {
    const { positions, members } = kindsOf(caller.name)
    const rest = calls.get(caller.name)!.rest ?? []
    return [
      ...positions.flatMap((kind, at) =>
        refusedOf[kind].flatMap((value) =>
          caller.notRefused(
            `argument ${at} as ${inspect(value)}`,
            caller.given({}, {}, rest.with(at, value)),
          ),
        ),
      ),
      ...Object.entries(members).flatMap(([member, kind]) =>
        refusedOf[kind]
          .filter((value) => value !== undefined)
          .flatMap((value) =>
            caller.notRefused(
              `${member} as ${inspect(value)}`,
              caller.given({}, {}, rest, { [member]: value }),
            ),
          ),
      ),
    ]
  })

  each('all is left as it was: the builder builds', async (caller) => {
    const [x, y] = [caller.operand(caller.operands[0]!), caller.call(caller.given())[0]!]
    caller.notRefused('nothing', [x])
    const graph = await caller.builder.build({ y })
    return explain(graph).operators.length <= 1 ? [] : ['other operators']
  })
}

t.equal(specified.size, 95, 'operators of the specification')
t.same([...calls.keys()].sort(), [...specified.keys()].sort())
