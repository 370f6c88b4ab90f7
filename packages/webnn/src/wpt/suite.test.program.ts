import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { runInThisContext } from 'node:vm'
import * as webnn from '../index.js'
import { installHarness } from './harness.test.helper.js'

/*
 * Runs a file of the web-platform-tests in this process's realm: argv[2] is the checkout, argv[3] the file in it, argv[4] its variant, argv[5] the node
 * on which contexts are made, or nothing for the CPU. Sends each result with the operators of the graphs that the test built.
 */
const [checkout, file, variant, node] = process.argv.slice(2) as [string, string, string, string?]

const built: { name: string; place: string }[] = []
const builders = (webnn.MLGraphBuilder as unknown as { prototype: webnn.MLGraphBuilder }).prototype
const { build } = builders
builders.build = async function (this: webnn.MLGraphBuilder, outputs: Record<string, webnn.MLOperand>) {
  const graph = await build.call(this, outputs)
  built.push(...webnn.explain(graph).operators.map(({ name, place }) => ({ name, place })))
  return graph
}

const { MLContext, MLGraph, MLGraphBuilder, MLOperand, MLTensor, ml } = webnn
const given = {
  ML: ml.constructor,
  MLContext,
  MLGraph,
  MLGraphBuilder,
  MLOperand,
  MLTensor,
  location: { search: variant, href: `https://localhost/${file}${variant}`, pathname: `/${file}` },
  isSecureContext: true,
  navigator: {
    ml: Object.create(ml, {
      // The variant asks for a kind of device: here it is the one that is tested, unless the test asks for the CPU.
      createContext: {
        value: async (options: unknown = {}) => {
          if (typeof options !== 'object' || options === null) return ml.createContext(options as never)
          const { deviceType: _, ...others } = options as webnn.MLContextOptions
          const wanted = node && (others.accelerated ?? true) ? { ...others, device: node } : others
          return ml.createContext(wanted)
        },
      },
    }),
  },
}
for (const [name, value] of Object.entries(given))
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })

const harness = installHarness()

/** Scripts that the harness stands for, where they are not there themselves. */
const provided = /testharness|subset-tests/
/** Folders that all parts of the suite share. */
const shared = /^(common|resources)\//

function read(path: string): void {
  if (provided.test(path)) return
  if (!existsSync(path)) {
    const missing = `${file} includes ${path}, which is not there`
    // A checkout may have the folder of WebNN alone: tests that need more say so themselves.
    if (!shared.test(relative(checkout, path))) throw new Error(missing)
    console.error(missing)
    return
  }
  runInThisContext(readFileSync(path, 'utf8'), { filename: path })
}

const text = readFileSync(join(checkout, file), 'utf8')
try {
  for (const [, script] of text.matchAll(/^\/\/ META: script=(\S+)/gm))
    read(script!.startsWith('/') ? join(checkout, script!) : resolve(checkout, dirname(file), script!))
  runInThisContext(text, { filename: file })
} catch (error) {
  process.send?.({ name: 'the script itself', status: 'fail', message: String(error), operators: [] })
}
const sent: Promise<unknown>[] = []
await harness.run((result) => {
  const word = { ...result, operators: built.splice(0) }
  sent.push(new Promise((resolve) => process.send?.(word, resolve)))
})
await Promise.all(sent)
// Contexts of tests stay: whatever they hold ends with this process.
process.disconnect?.()
process.exit()
