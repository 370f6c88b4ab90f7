// Runs MobileNetV2 on an NPU, and compares each layer with onnxruntime-node.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { findOnnxRuntime, openDevice } from '@uaccel/example-transformer'
import type { Tensor } from '@uaccel/inference'
import { accelError, isAccelError } from '@uaccel/uapi'
import { fileOf, run } from './compare.js'
import { layersOf } from './layer.js'
import { mobilenet, seededImage } from './network.js'
import { quantise, rangeOf } from './quantise.js'
import { formatReport, type NetworkType, summarise } from './report.js'

const usage = `Usage: npm start -w @uaccel/example-mobilenet [-- OPTIONS]

Writes MobileNetV2 with weights of a seed as an ONNX file, starts the model of an NPU
in a process of its own, drives it over vfio-user, runs the network on it, and
compares each layer with onnxruntime-node where it is installed.

  --size N         pixels of a side of the image, a multiple of 32; 96 unless told
  --width N        width multiplier, from 0.1 to 2; 0.35 unless told
                   (--size 224 --width 1 is the network of the paper)
  --type TYPE      float32, or int8 with bytes between its layers
  --seed N         of weights and image; 1 unless told
  --device DEVICE  npu; cpu; or a node: accel0, or the path of its socket
  --repeat N       how often the network runs for its time; 3 unless told
  --output FILE    writes the ONNX file there, for uaccel infer and others
  --json           one JSON object on stdout, and nothing else there
  -h, --help       this text

Exit codes: 0 all layers within the tolerance, 1 some are not or an error, 2 wrong usage
`

const types: readonly NetworkType[] = ['float32', 'int8']

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        size: { type: 'string', default: '96' },
        width: { type: 'string', default: '0.35' },
        type: { type: 'string', default: 'float32' },
        seed: { type: 'string', default: '1' },
        device: { type: 'string', default: 'npu' },
        repeat: { type: 'string', default: '3' },
        output: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    const number = (
      name: 'size' | 'width' | 'seed' | 'repeat',
      what: string,
      fits: (value: number) => boolean,
    ) => {
      const value = Number(values[name])
      if (!fits(value)) throw new Error(`--${name} wants ${what}, found ${values[name]}`)
      return value
    }
    const whole = (least: number, most: number) => (value: number) =>
      Number.isInteger(value) && value >= least && value <= most
    const type = types.find((each) => each === values.type)
    if (type === undefined) throw new Error(`--type wants ${types.join(' or ')}, found ${values.type}`)
    const { device, output, json, help } = values
    return {
      ...{ device, output, json, help, type },
      repeat: number('repeat', 'a whole number from 1 to 1000', whole(1, 1000)),
      network: {
        size: number('size', 'a multiple of 32 up to 1024', (value) => whole(1, 32)(value / 32)),
        width: number('width', 'a number from 0.1 to 2', (value) => value >= 0.1 && value <= 2),
        seed: number('seed', 'a whole number from 1 to 4294967294', whole(1, 2 ** 32 - 2)),
      },
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

type Options = NonNullable<ReturnType<typeof readOptions>>

function write(path: string, bytes: Uint8Array): void {
  try {
    writeFileSync(path, bytes)
  } catch (cause) {
    const { message } = cause as Error
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `--output ${path} cannot be written: ${message}`, {
      cause,
    })
  }
}

async function compare({ device, type, network, repeat, output, json }: Options): Promise<void> {
  const graph = mobilenet(network)
  const image = seededImage(network)
  const ort = findOnnxRuntime()
  const opened = await openDevice(device)
  try {
    let layers = layersOf(graph)
    if (type === 'int8') {
      // What the network computes of the image says which numbers its bytes stand for.
      const { outputs } = await run(opened, layers, image, undefined, 1)
      const tensors: [string, Tensor][] = [['image', image], ...outputs]
      layers = quantise(graph, new Map(tensors.map(([name, { data }]) => [name, rangeOf(data)])))
    }
    if (output !== undefined) write(output, fileOf(layers.graph))
    const result = await run(opened, layers, image, ort, repeat)
    const parameters = [...graph.constants.values()].reduce((sum, { data }) => sum + data.length, 0)
    const summary = summarise(opened, type, network, parameters, result)
    process.stdout.write(json ? `${JSON.stringify(summary)}\n` : formatReport(summary))
    if (summary.mismatches > 0) process.exitCode = 1
  } finally {
    await opened.close()
  }
}

const options = readOptions()
if (options?.help) process.stdout.write(usage)
else if (options) {
  try {
    await compare(options)
  } catch (error) {
    // What was wanted, found and to be done is in the message; the trace of a bug in it helps too.
    const { cause, stack } = error as Error
    const known = [error, cause].find((each) => isAccelError(each))
    process.stderr.write(`${isAccelError(known) ? `${known.code}: ${known.message}` : stack}\n`)
    process.exitCode = 1
  }
}
