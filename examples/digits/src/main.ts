// Classifies the held-out handwritten digits and compares every result with a CPU reference computed in the same run.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { compile, loadOnnx } from '@uaccel/inference'
import { classify, countMismatches } from './classify.js'
import { cpuEngine } from './engine.js'
import { decodeDigits } from './idx.js'
import { printReport, progressBar, summarise } from './report.js'

const here = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url))

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } })
  const graph = compile(loadOnnx(here('digits.onnx')), { dimensions: { N: 1 } })
  const digits = decodeDigits(here('test-images.idx3-ubyte'), here('test-labels.idx1-ubyte'))
  const engine = await cpuEngine(graph)
  try {
    const classifying = progressBar('classifying', digits.count)
    const result = await classify(engine, digits, classifying.step)
    classifying.done()
    const comparing = progressBar('comparing  ', digits.count)
    const mismatches = countMismatches(graph, digits, result.scores, comparing.step)
    comparing.done()
    const summary = summarise(engine, digits, result, mismatches)
    if (values.json) process.stdout.write(`${JSON.stringify(summary)}\n`)
    else printReport(digits, result, summary)
    if (mismatches > 0) process.exitCode = 1
  } finally {
    await engine.close()
  }
}

await main()
