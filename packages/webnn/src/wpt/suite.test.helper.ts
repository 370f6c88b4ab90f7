import { fork } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestResult } from './harness.test.helper.js'

/** A result of the suite's own JavaScript, with the operators of graphs that the test built. */
export type SuiteResult = TestResult & { readonly operators: readonly { name: string; place: string }[] }

const program = fileURLToPath(new URL('./suite.test.program.js', import.meta.url))
/** A file of the suite has seconds of work; one that hangs is ended. */
const FILE_MS = 300_000

/** Whether a folder is a checkout of web-platform-tests, and no folder of JSON. */
export const isCheckout = (folder: string): boolean => existsSync(join(folder, 'webnn'))

/** Files of the suite in a part of it, `conformance_tests` or `validation_tests`. */
export const filesOf = (checkout: string, part: string): string[] =>
  existsSync(join(checkout, 'webnn', part))
    ? readdirSync(join(checkout, 'webnn', part), { recursive: true, encoding: 'utf8' })
        .filter((name) => /\.(any|window|worker)\.js$/.test(name))
        .map((name) => `webnn/${part}/${name}`)
        .sort()
    : []

/**
 * The one variant of a file that is run, as each context is made on the device under test: that of the device, the first where there is none of it,
 * `''` where the file has none.
 */
export function variantOf(checkout: string, file: string, device: 'cpu' | 'npu'): string {
  const text = readFileSync(join(checkout, file), 'utf8')
  const variants = Array.from(text.matchAll(/^\/\/ META: variant=(\S*)/gm), ([, variant]) => variant!)
  return variants.find((variant) => variant.includes(device)) ?? variants[0] ?? ''
}

/** Runs a file in a process of its own. A process that ends before its tests is a result, too. */
export async function runFile(checkout: string, file: string, node = ''): Promise<SuiteResult[]> {
  const { NODE_OPTIONS: _, ...env } = process.env
  const child = fork(
    program,
    [checkout, file, variantOf(checkout, file, node === '' ? 'cpu' : 'npu'), node],
    {
      env,
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    },
  )
  const results: SuiteResult[] = []
  child.on('message', (result) => results.push(result as SuiteResult))
  const timer = setTimeout(() => child.kill('SIGKILL'), FILE_MS)
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve) => {
    child.once('close', (code, signal) => resolve([code, signal]))
  })
  clearTimeout(timer)
  if (code !== 0)
    results.push({
      name: 'the program',
      status: 'fail',
      message: `ended with ${code ?? signal}`,
      operators: [],
    })
  return results
}
