// Runs an encoder block of a transformer on an NPU, and compares each step with the CPU and with onnxruntime-node.
import { parseArgs } from 'node:util'
import { isAccelError } from '@uaccel/uapi'
import { compare } from './compare.js'
import { openDevice } from './device.js'
import { findOnnxRuntime } from './onnxruntime.js'
import { formatReport } from './report.js'

const usage = `Usage: npm start -w @uaccel/example-transformer [-- OPTIONS]

Starts the model of an NPU in a process of its own, drives it over vfio-user, runs
an encoder block of a transformer on it, and compares each step with what the CPU
computes, and with onnxruntime-node where it is installed.

  --device DEVICE  npu; cpu; or a node: accel0, or the path of its socket
  --tokens N       how many tokens the block reads; 32 unless told
  --width N        elements of the vector of a token; 64 unless told
  --heads N        heads of attention, which share those out; 4 unless told
  --seed N         of the weights; 1 unless told
  --json           one JSON object on stdout, and nothing else there
  -h, --help       this text

Exit codes: 0 all steps within the tolerance, 1 some are not or an error, 2 wrong usage
`

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        device: { type: 'string', default: 'npu' },
        tokens: { type: 'string', default: '32' },
        width: { type: 'string', default: '64' },
        heads: { type: 'string', default: '4' },
        seed: { type: 'string', default: '1' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    const number = (name: 'tokens' | 'width' | 'heads' | 'seed') => {
      const value = Number(values[name])
      if (!Number.isInteger(value) || value < 1 || value > 4096)
        throw new Error(`--${name} wants a whole number from 1 to 4096, found ${values[name]}`)
      return value
    }
    const [tokens, width, heads] = [number('tokens'), number('width'), number('heads')]
    if (width % heads !== 0)
      throw new Error(`--heads wants a number that divides --width, found ${heads} for ${width}`)
    const { device, json, help } = values
    return {
      ...{ device, json, help, seed: number('seed') },
      sizes: { tokens, width, heads, hidden: 4 * width, vocabulary: 1000 },
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

async function run({ device, sizes, seed, json }: NonNullable<ReturnType<typeof readOptions>>) {
  const opened = await openDevice(device)
  try {
    const summary = await compare(opened, sizes, seed, findOnnxRuntime())
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
    await run(options)
  } catch (error) {
    // What was wanted, found and to be done is in the message; the trace of a bug in it helps too.
    const { cause, stack } = error as Error
    const known = [error, cause].find((each) => isAccelError(each))
    process.stderr.write(`${isAccelError(known) ? `${known.code}: ${known.message}` : stack}\n`)
    process.exitCode = 1
  }
}
