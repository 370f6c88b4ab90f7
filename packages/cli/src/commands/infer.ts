import { existsSync } from 'node:fs'
import { type Graph, inputShape, readOnnx, type Tensor } from '@uaccel/inference'
import { accelError, isAccelError } from '@uaccel/uapi'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type DeviceFlags, inferTargetHelp, withDevice } from '../infer/device.js'
import type { ImageOptions } from '../infer/image.js'
import { readInputFile, readSource, type Source } from '../infer/input.js'
import { type OutputFile, outputFiles, printable, writeOutputs } from '../infer/output.js'
import { explained, explainText, places, summaryLines, topOf } from '../infer/report.js'
import { type InferResult, runModel } from '../infer/run.js'
import { resolveShapes } from '../infer/shapes.js'
import { nodeOptions } from '../nodes/find.js'
import { columnsOfStdout, note, printSchema, report } from '../output.js'
import { allowNoIommu } from '../target.js'
import { positive } from './loop.js'

type InferFlags = DeviceFlags &
  ImageOptions & {
    input: string[]
    output?: string[]
    device?: string
    repeat: number
    dimension: Record<string, number>
    shape: Record<string, readonly number[]>
    labels?: string
    top: number
    explain?: boolean
    json?: boolean
  }

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** `uaccel infer`: an ONNX model on an accelerator. */
export function inferCommand(command: Command): void {
  nodeOptions(command)
    .argument('<model>', 'ONNX file')
    .requiredOption(
      '-i, --input <file...>',
      'an input of the model as .npy, .json, .png or raw elements; NAME=FILE where it has several',
    )
    .option(
      '-o, --output <file...>',
      'where outputs go, as .npy, .bin (raw) or .json; NAME=FILE where it has several. Left out, JSON on stdout',
    )
    .option('-d, --device <device>', inferTargetHelp)
    .option(...allowNoIommu)
    .option('-r, --repeat <n>', 'runs, for timing', positive, 1)
    .option(
      '--dimension <name=n>',
      'size of a dimension that the model leaves open; again for others',
      dimension,
      {},
    )
    .option('--shape <name=n,n,...>', 'whole shape of an input; again for others', shape, {})
    .option('--mean <numbers>', 'of an image: subtracted from each channel, with commas between', numbers)
    .option('--std <numbers>', 'of an image: divides each channel then', divisors)
    .option(
      '--scale <factor>',
      'of an image: multiplies pixels first, such as 1/255 (of float inputs), or 1 (of others)',
      factor,
    )
    .addOption(
      new Option('--layout <layout>', 'of an image: left out, what the shape of the input says').choices([
        'nchw',
        'nhwc',
      ]),
    )
    .addOption(
      new Option('--fit <how>', 'of an image that has other proportions')
        .choices(['stretch', 'crop', 'pad'])
        .default('stretch'),
    )
    .option('--bgr', 'of an image: blue before green before red')
    .option('--labels <file>', 'names of classes, one in a line')
    .option('--top <n>', 'classes that are told of each result', whole, 5)
    .option('--explain', 'say where each operator runs, what it moves, and how long it takes')
    .option(
      '--json',
      'a summary as JSON on stdout, with the outputs where there is no --output, and what --explain says',
    )
    .addHelpText(
      'after',
      `
Dimensions that are open are those of the files, and 1 otherwise. Images become the size of the input;
each element is (pixel * scale - mean) / std.

Examples:
  uaccel infer digits.onnx -i digit.npy --explain
  uaccel infer mobilenet.onnx -i cat.png --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --labels names.txt
  uaccel infer bert.onnx -i ids=ids.npy mask=mask.npy -o logits=y.npy --device accel0 --repeat 100`,
    )
    .action(run)
}

async function run(path: string, flags: InferFlags): Promise<void> {
  const stop = new AbortController()
  let stoppedBy: NodeJS.Signals | undefined
  const onSignal = (signal: NodeJS.Signals) => {
    stoppedBy = signal
    stop.abort(signal)
  }
  // Once: who presses again, while something hangs, ends the process.
  for (const signal of signals) process.once(signal, onSignal)
  try {
    await infer(path, flags, stop.signal)
  } catch (error) {
    if (stoppedBy === undefined) throw error
    // Told, tidied up, and then as if it had not been caught.
    report(
      isAccelError(error, 'ERR_ACCEL_ABORTED')
        ? error
        : accelError('ERR_ACCEL_ABORTED', `Stopped by ${stoppedBy}: no output is written.`, { cause: error }),
    )
    process.kill(process.pid, stoppedBy)
  } finally {
    for (const signal of signals) process.removeListener(signal, onSignal)
  }
}

async function infer(path: string, flags: InferFlags, signal: AbortSignal): Promise<void> {
  const model = await readOnnx(path)
  const files = outputFiles(flags.output ?? [], namesOf(model.outputs), [path, ...filesOf(model, flags)])
  const labels = flags.labels === undefined ? [] : readInputFile(flags.labels).toString('utf8').split(/\r?\n/)
  const sources = readSources(model, flags)
  const dimensions = flags.dimension
  const { shapes, assumed } = resolveShapes(model, sources, { dimensions, shapes: flags.shape })
  if (assumed.length > 0) note(`Taken as 1: ${assumed.join(', ')} (--dimension ${assumed[0]}=N).`)
  const inputs: Record<string, Tensor> = Object.create(null)
  for (const value of model.inputs) {
    const { name, dtype } = value
    const source = sources.get(name)
    // Checked before memory is taken for it.
    if (source !== undefined) inputs[name] = source.tensor({ dtype, shape: inputShape(value, { shapes }) })
  }
  const { repeat, explain = false } = flags
  await withDevice(flags.device, flags, async (device) => {
    note(device.description)
    const result = await runModel(model, device, inputs, {
      shapes,
      dimensions,
      repeat,
      profiled: explain,
      signal,
    })
    signal.throwIfAborted()
    writeOutputs(files, result.outputs)
    tell(model, device.description, result, files, labels, flags)
  })
}

function tell(
  model: Graph,
  device: string,
  result: InferResult,
  files: readonly OutputFile[],
  labels: readonly string[],
  { repeat, top, json }: InferFlags,
): void {
  const { report: decided, outputs, latency, profile } = result
  const tops = Object.fromEntries(
    Object.entries(outputs)
      .map(([name, tensor]) => [name, topOf(tensor, top, labels)] as const)
      .filter(([, rows]) => rows.length > 0),
  )
  const { operators: _, stretches: __, ...totals } = decided
  if (json)
    printSchema('uaccel.infer/1', {
      device,
      nodes: model.nodes.length,
      operators: places(decided),
      totals,
      runs: repeat,
      latency,
      top: tops,
      ...(files.length === 0 ? { outputs: printable(outputs) } : { files }),
      ...(profile === undefined ? {} : { explain: explained(decided, profile) }),
    })
  else if (files.length === 0) process.stdout.write(`${JSON.stringify(printable(outputs))}\n`)
  for (const line of summaryLines(result, model.nodes.length, repeat, tops)) note(line)
  if (profile !== undefined && !json)
    note(explainText(decided, profile, process.stderr.columns || columnsOfStdout()))
}

const namesOf = (values: readonly { readonly name: string }[]) => values.map(({ name }) => name)

/** Files that are read. */
const filesOf = ({ inputs }: Graph, { input, labels }: InferFlags): string[] => [
  ...input.map((text) => {
    const named = namesOf(inputs).find((name) => text.startsWith(`${name}=`))
    return named === undefined ? text : text.slice(named.length + 1)
  }),
  ...(labels === undefined ? [] : [labels]),
]

/** The files of the inputs, by name. Those that nothing reads may be left out. */
function readSources(model: Graph, flags: InferFlags): Map<string, Source> {
  const names = namesOf(model.inputs)
  const takes = names.length === 0 ? 'it takes none' : `it takes ${names.join(', ')}`
  const invalid = (why: string) => accelError('ERR_ACCEL_INVALID_ARGUMENT', why)
  const sources = new Map<string, Source>()
  for (const text of flags.input) {
    const named = names.find((candidate) => text.startsWith(`${candidate}=`))
    const other = named === undefined && !existsSync(text) ? /^([\w./:-]+)=/.exec(text) : null
    if (other) throw invalid(`The model has no input ${other[1]}; ${takes}.`)
    if (named === undefined && names.length !== 1)
      throw invalid(`Which input is ${text}? NAME=${text} says it: ${takes}.`)
    const name = named ?? names[0]!
    if (sources.has(name)) throw invalid(`The model's input ${name} is given twice.`)
    sources.set(name, readSource(named === undefined ? text : text.slice(named.length + 1), flags))
  }
  const read = new Set([...model.nodes.flatMap(({ inputs }) => inputs), ...namesOf(model.outputs)])
  const missing = names.find((name) => read.has(name) && !sources.has(name))
  if (missing !== undefined)
    throw invalid(`The model's input ${missing} is missing: add --input ${missing}=FILE; ${takes}.`)
  return sources
}

/** `name=value`, which becomes a part of what was given before. */
function named(text: string): [name: string, value: string] {
  const at = text.lastIndexOf('=')
  if (at < 1) throw new InvalidArgumentError('NAME=VALUE is wanted.')
  return [text.slice(0, at), text.slice(at + 1)]
}

function dimension(text: string, before: Record<string, number>): Record<string, number> {
  const [name, value] = named(text)
  return { ...before, [name]: positive(value) }
}

function shape(text: string, before: Record<string, readonly number[]>): Record<string, readonly number[]> {
  const [name, value] = named(text)
  return { ...before, [name]: value.split(',').map(positive) }
}

function whole(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('A whole number is wanted.')
}

function number(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('A number is wanted.')
  return value
}

const numbers = (text: string) => text.split(',').map(number)

function divisors(text: string): number[] {
  const values = numbers(text)
  if (values.includes(0)) throw new InvalidArgumentError('Numbers other than 0 are wanted.')
  return values
}

/** `0.5`, or `1/255`. */
function factor(text: string): number {
  const [over, under = '1', ...more] = text.split('/')
  if (more.length > 0) throw new InvalidArgumentError('A number is wanted, or two with a / between.')
  return number(over!) / divisors(under)[0]!
}
