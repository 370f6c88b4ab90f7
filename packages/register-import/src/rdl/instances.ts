import { notTaken, type Place, wrongAt } from '../description.js'
import { MAX_DEPTH } from '../limits.js'
import { countOf } from '../numbers.js'
import type { Assignment, Definition, Expression, Instantiation } from './ast.js'
import { type Environment, evaluate, numberOf, type Value } from './evaluate.js'
import { properties } from './properties.js'

/** What a property has been set to. */
export interface Property {
  readonly value: Value
  readonly place: Place
}

/** Something that is there, its places not worked out yet. An array is one instance. */
export interface Instance {
  readonly definition: Definition
  readonly name: string
  readonly place: Place
  readonly properties: Map<string, Property>
  readonly children: Instance[]
  /** Elements of an array, and of how many dimensions. */
  readonly count: number
  readonly dimensions: readonly bigint[]
  /** Of a field: `[left:right]`, or `[width]`. */
  readonly range: readonly [bigint, bigint] | undefined
  readonly width: bigint | undefined
  readonly address: bigint | undefined
  readonly stride: bigint | undefined
  readonly alignment: bigint | undefined
}

/** Instances of a file, where an array is one: the largest public files have some 10^4. */
const MAX_INSTANCES = 2 ** 16

/** Makes the instances of a definition, and sets their properties in the order in which the file does. */
export class Instantiator {
  #left = MAX_INSTANCES
  #depth = 0

  /** The definition that is at the top. */
  top(definition: Definition, outer: Environment): Instance {
    const { place, name = definition.kind } = definition
    return this.#make(definition, new Map(), outer, outer, {
      name,
      place,
      count: 1,
      dimensions: [],
      range: undefined,
      width: undefined,
      address: undefined,
      stride: undefined,
      alignment: undefined,
    })
  }

  #instance(statement: Instantiation, environment: Environment): Instance {
    const { type, name, place, dimensions, range, reset } = statement
    const number = (expression: Expression | undefined) => expression && numberOf(expression, environment)
    const sizes = dimensions.map((size) => numberOf(size, environment))
    const isBits = type.kind === 'field' || type.kind === 'signal'
    if (isBits ? sizes.length > 1 : range)
      throw wrongAt(
        place,
        `${name} is a ${type.kind}: ${isBits ? 'bits have one dimension' : 'bits are for fields'}`,
      )
    const total = isBits ? 1n : sizes.reduce((product, size) => product * size, 1n)
    const made = this.#make(type, statement.arguments, environment, environment, {
      name,
      place,
      count: sizes.length === 0 || isBits ? 1 : countOf(total, `the array ${name}`, place),
      dimensions: isBits ? [] : sizes,
      range: range && [numberOf(range.left, environment), numberOf(range.right, environment)],
      width: isBits ? sizes[0] : undefined,
      address: number(statement.address),
      stride: number(statement.stride),
      alignment: number(statement.alignment),
    })
    if (reset) {
      if (type.kind !== 'field')
        throw wrongAt(reset.place, `${name} is a ${type.kind}: resets are for fields`)
      made.properties.set('reset', { value: evaluate(reset, environment), place: reset.place })
    }
    return made
  }

  #make(
    definition: Definition,
    given: ReadonlyMap<string, Expression>,
    givenIn: Environment,
    outer: Environment,
    about: Omit<Instance, 'definition' | 'properties' | 'children'>,
  ): Instance {
    if (--this.#left < 0)
      throw wrongAt(about.place, `more than ${MAX_INSTANCES} instances`, 'ERR_ACCEL_OUT_OF_RANGE')
    if (++this.#depth > MAX_DEPTH) throw notTaken(about.place, `instances stand more than ${MAX_DEPTH} deep`)
    const parameters = new Map<string, Value>()
    const environment: Environment = { definition, parameters, outer }
    for (const { name, initial, place } of definition.parameters) {
      const argument = given.get(name)
      if (argument) parameters.set(name, evaluate(argument, givenIn))
      else if (initial) parameters.set(name, evaluate(initial, environment))
      else throw wrongAt(about.place, `${about.name} leaves out the parameter ${name} (line ${place.line})`)
    }
    const made: Instance = { ...about, definition, properties: new Map(), children: [] }
    for (const [name, assignment] of definition.defaults)
      if (properties.get(name)?.includes(definition.kind as never)) assign(made, assignment, environment)
    const own = new Set<string>()
    for (const statement of definition.body) {
      if (statement.form === 'instance') {
        if (made.children.some(({ name }) => name === statement.name))
          throw wrongAt(statement.place, `there is a ${statement.name} in ${about.name} already`)
        made.children.push(this.#instance(statement, environment))
      } else if (statement.form === 'assignment') {
        if (own.has(statement.name) && statement.name !== 'intr')
          throw wrongAt(statement.place, `${statement.name} is set already`)
        own.add(statement.name)
        assign(made, statement, environment)
      } else
        assign(
          this.#follow(made, statement.path, statement.assignment.place),
          statement.assignment,
          environment,
        )
    }
    this.#depth--
    return made
  }

  #follow(from: Instance, path: readonly string[], place: Place): Instance {
    return path.reduce((instance, name) => {
      const child = instance.children.find((one) => one.name === name)
      if (!child) throw wrongAt(place, `there is no ${name} in ${instance.name} up to here`)
      return child
    }, from)
  }
}

/** Each of these ends what another of its group had said. */
const groups: readonly (readonly string[])[] = [
  ['onread', 'rclr', 'rset'],
  ['onwrite', 'woclr', 'woset'],
  ['msb0', 'lsb0'],
]

function assign(
  { definition, name: owner, properties: set }: Instance,
  assignment: Assignment,
  environment: Environment,
): void {
  const { name, value, place } = assignment
  const kinds = properties.get(name)
  if (kinds && !kinds.includes(definition.kind as never))
    throw wrongAt(place, `${owner} is a ${definition.kind}, which has no property ${name}`)
  for (const other of groups.find((group) => group.includes(name)) ?? []) set.delete(other)
  set.set(name, { value: evaluate(value, environment), place })
}
