import type { Graph, GraphValue } from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import type { Source } from './input.js'

/** What the command line says of sizes. */
export interface Sizes {
  /** By the name of the dimension, or as `input.index`. */
  readonly dimensions: Readonly<Record<string, number>>
  readonly shapes: Readonly<Record<string, readonly number[]>>
}

/** What was found for the inputs of a model. */
export interface Resolved {
  readonly shapes: Readonly<Record<string, readonly number[]>>
  /** Dimensions that nobody named: they are 1. */
  readonly assumed: readonly string[]
}

/**
 * The shapes of a model's inputs: what the model says, the command line, the files, and 1 for what is open still.
 *
 * @throws ERR_ACCEL_INVALID_SHAPE two of them disagree
 * @throws ERR_ACCEL_INVALID_ARGUMENT a shape for an input that there is not
 */
export function resolveShapes(
  { inputs }: Graph,
  sources: ReadonlyMap<string, Source>,
  { dimensions, shapes }: Sizes,
): Resolved {
  const onCommandLine = new Map(Object.entries(dimensions))
  const known = new Map(onCommandLine)
  const unknown = Object.keys(shapes).find((given) => !inputs.some(({ name }) => name === given))
  if (unknown !== undefined)
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `--shape ${unknown}=...: the model has no input ${unknown}; it takes ${inputs.map(({ name }) => name).join(', ') || 'none'}.`,
    )
  const assumed = new Set<string>()
  const of = (value: GraphValue): readonly number[] => {
    const { name, shape } = value
    const given = Object.hasOwn(shapes, name) ? shapes[name] : undefined
    const found = sources.get(name)?.shapeFor(value)
    if (shape === undefined) {
      const all = given ?? found
      if (all?.every((size) => size !== undefined)) return all as readonly number[]
      throw accelError(
        'ERR_ACCEL_INVALID_SHAPE',
        `The model gives its input ${name} no shape: add --shape ${name}=1,3,224,224, or what it is.`,
      )
    }
    // Another rank, and a size that the model fixes otherwise, are told where the tensor is made, or the graph.
    if (given !== undefined) {
      for (const [at, size] of given.entries())
        if (typeof shape[at] === 'string') agree(shape[at], size, `--shape ${name}`)
      return given
    }
    return shape.map((size, at) => {
      if (typeof size === 'number') return size
      const byPlace = `${name}.${at}`
      const inFile = found?.length === shape.length ? found[at] : undefined
      const told = onCommandLine.get(byPlace) ?? onCommandLine.get(size)
      const ofFile = sources.get(name)?.resized ? (told ?? inFile) : inFile
      const chosen = ofFile ?? known.get(byPlace) ?? known.get(size)
      if (chosen === undefined) assumed.add(size)
      else
        for (const dimension of known.has(byPlace) ? [byPlace, size] : [size]) agree(dimension, chosen, name)
      return chosen ?? 1
    })
  }
  const agree = (dimension: string, size: number, where: string) => {
    const before = known.get(dimension) ?? size
    if (before !== size)
      throw accelError(
        'ERR_ACCEL_INVALID_SHAPE',
        `The model's dimension ${dimension} is ${before}, and ${size} in ${where}.`,
      )
    known.set(dimension, size)
  }
  // What any file tells is known before the rest is assumed.
  for (const value of inputs) of(value)
  assumed.clear()
  const resolved = Object.fromEntries(inputs.map((value) => [value.name, of(value)]))
  return { shapes: resolved, assumed: [...assumed] }
}
