import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { dataTypes, type MLOperandDataType } from '../data-type.js'
import { ml } from '../index.js'
import { type Case, casesOf } from './case.test.helper.js'
import { runCase } from './run-case.test.helper.js'
import { serveNpu } from './served.test.helper.js'
import { filesOf, isCheckout, runFile } from './suite.test.helper.js'

/** What came of the tests of one file on one device. */
export interface Count {
  tests: number
  passed: number
  /** Of those that passed, by the place of the operator after which the file is named. */
  readonly at: Record<'device' | 'free' | 'cpu', number>
  readonly failures: string[]
}

/** By part of the suite and file, for each device. */
export interface Counts {
  readonly digest: string
  readonly parts: ReadonlyMap<string, ReadonlyMap<string, readonly Count[]>>
}

export const devices = ['CPU', 'NPU'] as const
/**
 * Tests that need an array of halves, which Node 20 has not: those of conformance say so by their names, and their tolerances are others. They are not
 * counted.
 */
const needsHalves = (
  part: string,
  { name, message = '' }: { readonly name: string; readonly message?: string },
) => (part === 'conformance_tests' && /\bfloat16\b/.test(name)) || /Float16Array/.test(message)

/** `reduce_l1`, `reduceL1.https.any` and `reduceL1` are one name. */
const plain = (name: string) => name.replace(/\..*$/, '').replace(/_/g, '').toLowerCase()

interface Outcome {
  readonly name: string
  readonly wrong?: string | undefined
  readonly operators: readonly { readonly name: string; readonly place: string }[]
}

function count(file: string, outcomes: readonly Outcome[]): Count {
  const found: Count = { tests: 0, passed: 0, at: { device: 0, free: 0, cpu: 0 }, failures: [] }
  for (const { name, wrong, operators } of outcomes) {
    found.tests++
    if (wrong !== undefined) {
      found.failures.push(`${file}: ${name}: ${wrong}`)
      continue
    }
    found.passed++
    // A file may be named after a family (arg_min_max): then it is the operator that its graph ends with.
    const own = operators.filter((operator) => plain(operator.name) === plain(file))
    const of = own.length > 0 ? own : operators.slice(-1)
    if (of.length === 0) continue
    const places = new Set(of.map(({ place }) => place))
    found.at[places.has('cpu') ? 'cpu' : places.has('device') ? 'device' : 'free']++
  }
  return found
}

function digestOf(folder: string): string {
  const hash = createHash('sha256')
  const base = isCheckout(folder) ? join(folder, 'webnn') : folder
  for (const name of readdirSync(base, { recursive: true, encoding: 'utf8' }).sort())
    if (/\.(json|js)$/.test(name)) hash.update(name).update(readFileSync(join(base, name)))
  return hash.digest('hex').slice(0, 16)
}

/** The tolerances of halves are others, and the specification has no types of 4 bits. */
const counted: ReadonlySet<MLOperandDataType> = new Set(dataTypes.filter((type) => type !== 'float16'))
const isCounted = ({ graph: { inputs, expectedOutputs } }: Case) =>
  [inputs, expectedOutputs]
    .flatMap((tensors) => Object.values(tensors))
    .every(({ descriptor }) => counted.has(descriptor.dataType))

async function ofJson(folder: string, node: string | undefined): Promise<Map<string, Count>> {
  const context = await ml.createContext(node === undefined ? {} : { device: node })
  const counts = new Map<string, Count>()
  for (const [file, cases] of casesOf(folder)) {
    const outcomes: Outcome[] = []
    for (const each of cases.filter(isCounted)) {
      const { wrong, report } = await runCase(context, each)
      outcomes.push({ name: each.name, wrong, operators: report?.operators ?? [] })
    }
    counts.set(file, count(file, outcomes))
  }
  context.destroy()
  return counts
}

async function ofSuite(
  checkout: string,
  part: string,
  node: string | undefined,
): Promise<Map<string, Count>> {
  const counts = new Map<string, Count>()
  for (const path of filesOf(checkout, part)) {
    const file = path.slice(path.lastIndexOf('/') + 1).replace(/\..*$/, '')
    const outcomes = (await runFile(checkout, path, node))
      // What is not supported is told so, and is no failure.
      .filter((result) => result.status !== 'notSupported' && !needsHalves(part, result))
      .map(({ name, status, message, operators }) => ({
        name,
        wrong: status === 'pass' ? undefined : (message ?? status),
        operators,
      }))
    counts.set(file, count(file, outcomes))
  }
  return counts
}

/** Runs all that is in the folder, on each device: a folder of cases in JSON, or a checkout of web-platform-tests. */
export async function countAll(folder: string, on: readonly string[] = devices): Promise<Counts> {
  const parts = new Map<string, Map<string, Count[]>>()
  for (const device of on) {
    const npu = device === 'NPU' ? await serveNpu() : undefined
    try {
      const names = isCheckout(folder) ? ['conformance_tests', 'validation_tests'] : ['conformance_tests']
      for (const part of names) {
        const counts = isCheckout(folder)
          ? await ofSuite(folder, part, npu?.node)
          : await ofJson(folder, npu?.node)
        const all = parts.get(part) ?? new Map<string, Count[]>()
        parts.set(part, all)
        for (const [file, found] of counts) all.set(file, [...(all.get(file) ?? []), found])
      }
    } finally {
      await npu?.close()
    }
  }
  return { digest: digestOf(folder), parts }
}
