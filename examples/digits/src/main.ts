// Classifies the held-out handwritten digits and compares every result with a CPU reference computed in the same run.
import { parseArgs } from 'node:util'
import { type IommuKind, iommuKinds } from '@uaccel/core'
import { isAccelError } from '@uaccel/uapi'
import { classify, countMismatches } from './classify.js'
import { cpuEngine, modelEngine, pciEngine } from './engine.js'
import { loadDigits } from './load.js'
import { printReport, summarise, withProgress } from './report.js'

const usage = `Usage: npm start [-- OPTIONS]

Starts the model of an NPU in a process of its own, drives it over vfio-user, classifies the held-out handwritten
digits on it, and compares every result with a CPU reference computed in the same run.

  --json          one JSON object on stdout, and nothing else there
  --device cpu    classifies on the CPU, without a device
  --device BDF    on an NPU of this machine, bound to vfio-pci, such as 0000:01:00.0
  --iommu KIND    by ${iommuKinds.join(' or ')}; left out, by what the kernel has
  -h, --help      this text

Exit codes: 0 all results equal the reference, 1 mismatches or an error, 2 wrong usage
`

interface Options {
  json: boolean
  device: string
  iommu: IommuKind | undefined
  help: boolean
}

function readOptions(): Options | undefined {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        device: { type: 'string', default: 'npu' },
        iommu: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (!['npu', 'cpu'].includes(values.device) && !values.device.includes(':'))
      throw new Error(`--device wants npu, cpu or the address of a PCI device, found ${values.device}`)
    const iommu = iommuKinds.find((kind) => kind === values.iommu)
    if (iommu !== values.iommu)
      throw new Error(`--iommu wants ${iommuKinds.join(' or ')}, found ${values.iommu}`)
    if (iommu !== undefined && !values.device.includes(':'))
      throw new Error(`--iommu is for an NPU of this machine: name it by --device, found ${values.device}`)
    return { ...values, iommu }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n\n${usage}`)
    process.exitCode = 2
    return undefined
  }
}

async function run({ json, device, iommu }: Options): Promise<void> {
  const { model, digits } = loadDigits()
  const engine =
    device === 'cpu'
      ? await cpuEngine(model)
      : device === 'npu'
        ? await modelEngine(model)
        : await pciEngine(model, device, iommu)
  try {
    const result = await withProgress('classifying', digits.count, (step) => classify(engine, digits, step))
    const mismatches = await withProgress('comparing', digits.count, (step) =>
      countMismatches(model, digits, result.scores, step),
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
