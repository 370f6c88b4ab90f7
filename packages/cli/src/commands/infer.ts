import { existsSync } from 'node:fs'
import { Accel } from '@uaccel/accel'
import type { NoIommuOptions } from '@uaccel/core'
import { type Npu, npuDriver } from '@uaccel/driver-npu'
import {
  type CompiledGraph,
  compile,
  loadOnnx,
  npuAccelerator,
  Session,
  type Tensor,
} from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import { type Command, InvalidArgumentError } from 'commander'
import { note } from '../output.js'
import { withModel } from '../spawn-model.js'
import { allowNoIommu, openTarget, targetHelp } from '../target.js'
import { readInputFile, readTensor } from '../tensor-file.js'

interface InferFlags extends NoIommuOptions {
  input: string[]
  device: string
  repeat: number
  explain?: boolean
}

/** `uaccel infer`: an ONNX graph on an accelerator. */
export function inferCommand(command: Command): void {
  command
    .argument('<model>', 'ONNX file')
    .requiredOption(
      '-i, --input <file...>',
      'an input of the model as .npy, .json or raw bytes; NAME=FILE where it has several',
    )
    .option(
      '-d, --device <device>',
      `"model" (an NPU model in a process of its own), "cpu", or a device: ${targetHelp}`,
      'model',
    )
    .option(...allowNoIommu)
    .option('-r, --repeat <n>', 'runs, for timing', count, 1)
    .option('--explain', 'say where each operation runs, and why')
    .action(run)
}

async function run(path: string, flags: InferFlags): Promise<void> {
  const graph = compile(loadOnnx(readInputFile(path)), { dimensions: { N: 1 } })
  const inputs = readInputs(graph, flags.input)
  if (flags.device === 'cpu') return infer(await Session.load(graph), inputs, flags)
  if (flags.device === 'model') return withModel('npu', (socket) => onNpu(socket, graph, inputs, flags))
  return onNpu(flags.device, graph, inputs, flags)
}

async function onNpu(
  target: string,
  graph: CompiledGraph,
  inputs: Record<string, Tensor>,
  flags: InferFlags,
) {
  let npu: Npu | undefined
  const accel = new Accel()
  accel.register(
    npuDriver({
      onReady: (ready) => {
        npu = ready
      },
    }),
  )
  const node = await accel.add(await openTarget(target, flags))
  try {
    await infer(await Session.load(graph, { accelerator: npuAccelerator(npu!) }), inputs, flags)
  } finally {
    await accel.remove(node.name)
  }
}

async function infer(session: Session, inputs: Record<string, Tensor>, flags: InferFlags): Promise<void> {
  try {
    const start = performance.now()
    let outputs: Record<string, Tensor> = {}
    for (let left = flags.repeat; left > 0; left -= session.slots) {
      const runs = Array.from({ length: Math.min(left, session.slots) }, () => session.run(inputs))
      outputs = (await Promise.all(runs)).at(-1)!
    }
    const micros = ((performance.now() - start) * 1000) / flags.repeat
    const printable = Object.entries(outputs).map(([name, { dtype, shape, data }]) => [
      name,
      { dtype, shape, data: [...data].map((n) => (typeof n === 'bigint' ? n.toString() : n)) },
    ])
    process.stdout.write(`${JSON.stringify(Object.fromEntries(printable))}\n`)
    tell(session, micros, flags)
  } finally {
    await session.close()
  }
}

function tell(session: Session, micros: number, { repeat, explain }: InferFlags): void {
  const steps = session.plan.batches.flatMap((batch) => batch.steps)
  const onCpu = steps.filter(({ device }) => device === 'cpu')
  const onNpu = steps.length - onCpu.length
  const where = onNpu === 0 ? 'on the CPU' : `${onNpu} on the NPU, ${onCpu.length} on the CPU`
  const time = `${(micros / 1000).toFixed(2)} ms`
  note(
    `${steps.length} operations: ${where}; ${repeat === 1 ? `the run took ${time}` : `${repeat} runs, ${time} each`}`,
  )
  // Without an accelerator there is nothing to explain.
  for (const { operation, device, reason } of explain ? steps : onNpu > 0 ? onCpu : []) {
    note(
      `  ${operation.kind} ${operation.output.name}: ${device}${reason === undefined ? '' : `, ${reason}`}`,
    )
  }
}

function readInputs(graph: CompiledGraph, files: readonly string[]): Record<string, Tensor> {
  const names = graph.inputs.map(({ name }) => name)
  const given = files.map((text) => {
    const name = names.find((candidate) => text.startsWith(`${candidate}=`))
    const other = name === undefined && !existsSync(text) ? /^(\w+)=/.exec(text) : null
    if (other) {
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `The model has no input ${other[1]}; it takes ${names.join(', ')}.`,
      )
    }
    return name === undefined
      ? { name: names.length === 1 ? names[0]! : '', path: text }
      : { name, path: text.slice(name.length + 1) }
  })
  return Object.fromEntries(
    graph.inputs.map(({ name, type }) => {
      const found = given.find((candidate) => candidate.name === name)
      if (found) return [name, readTensor(found.path, type)]
      throw accelError(
        'ERR_ACCEL_INVALID_ARGUMENT',
        `The model's input ${name} is missing: add --input ${name}=FILE. It takes ${names.join(', ')}.`,
      )
    }),
  )
}

function count(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('A positive whole number is wanted.')
  return value
}
