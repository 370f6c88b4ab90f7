// Classifies the held-out handwritten digits and compares every result with a CPU reference computed in the same run.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { compile, loadOnnx } from '@uaccel/inference'
import { isAccelError } from '@uaccel/uapi'
import { classify, countMismatches } from './classify.js'
import { cpuEngine, npuEngine } from './engine.js'
import { decodeDigits } from './idx.js'
import { printReport, summarise, withProgress } from './report.js'

const here = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url))

const usage = `Usage: npm start [-- OPTIONS]

Starts the model of an NPU in a process of its own, drives it over vfio-user, classifies the held-out handwritten
digits on it, and compares every result with a CPU reference computed in the same run.

  --json         one JSON object on stdout, and nothing else there
  --device cpu   classifies on the CPU, without a device
  -h, --help     this text

Exit codes: 0 all results equal the reference, 1 mismatches or an error, 2 wrong usage
`

interface Options {
  json: boolean
  device: string
  help: boolean
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        device: { type: 'string', default: 'npu' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (!['npu', 'cpu'].includes(values.device))
      throw new Error(`--device wants npu or cpu, found ${values.device}`)
    return values
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

async function run({ json, device }: Options): Promise<void> {
  const graph = compile(loadOnnx(here('digits.onnx')), { dimensions: { N: 1 } })
  const digits = decodeDigits(here('test-images.idx3-ubyte'), here('test-labels.idx1-ubyte'))
  const engine = device === 'cpu' ? await cpuEngine(graph) : await npuEngine(graph)
  try {
    const result = await withProgress('classifying', digits.count, (step) => classify(engine, digits, step))
    const mismatches = await withProgress('comparing', digits.count, (step) =>
      countMismatches(graph, digits, result.scores, step),
    )
    const summary = summarise(engine, digits, result, mismatches)
    if (json) process.stdout.write(`${JSON.stringify(summary)}\n`)
    else printReport(digits, result, summary)
    if (mismatches > 0) process.exitCode = 1
  } finally {
    await engine.close()
  }
}

const options = readOptions()
if (options?.help) process.stdout.write(usage)
else if (options) {
  try {
    await run(options)
  } catch (error) {
    // What was wanted, found and to be done is in the message; the trace of a bug in it helps too.
    process.stderr.write(
      `${isAccelError(error) ? `${error.code}: ${error.message}` : (error as Error).stack}\n`,
    )
    process.exitCode = 1
  }
}
