import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

t.setTimeout(300_000)

const program = fileURLToPath(new URL('./steady.program.js', import.meta.url))
const flags = ['--trace-deopt', '--allow-natives-syntax', '--expose-gc']
/** Half a byte for a command, where the smallest object has 16: the rest of the program, and V8, may make a few. */
const MAX_GROWN_BYTES = 500_000
/** The queue's methods, which all queues of a thread share, the calls of one queue with code of their own, and shadow doorbells. */
const SUBJECTS = ['methods', 'specialized', 'shadow doorbells']

/** What V8 threw away, and what the heap did, in each part of a run. */
async function run(args: readonly string[]) {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [...flags, program, ...args], {
    maxBuffer: 256 << 20,
  })
  const lines = stdout.split('\n')
  const lineOf = (text: string) => lines.findIndex((line) => line.includes(text))
  return stderr
    .trim()
    .split('\n')
    .map((line) => {
      const result = JSON.parse(line) as { name: string; count: number; grown: number; collections: number }
      const [from, to] = [lineOf(`${result.name} begins`), lineOf(`${result.name} ended`)]
      if (from < 0 || to < from) throw new Error(`${result.name}: the marks are not in the trace`)
      return { ...result, bailouts: lines.slice(from, to).filter((each) => each.startsWith('[bailout')) }
    })
}

t.test('a million commands on real rings, from the first one on', { timeout: 120_000 }, async (t) => {
  const results = await run([])
  t.same(
    results.map(({ name }) => name),
    SUBJECTS,
  )
  for (const { name, count, grown, collections, bailouts } of results) {
    t.ok(count >= 1_000_000)
    t.same(bailouts, [], `${name}: no code is thrown away in ${count} commands`)
    t.equal(collections, 0, `${name}: no garbage is collected`)
    t.ok(grown < MAX_GROWN_BYTES, `${name}: ${grown} bytes more in the heap`)
  }
})

t.test('the same sees what it looks for, where it is', { timeout: 120_000 }, async (t) => {
  const results = await run(['--stumble'])
  t.match(results[0]!.bailouts.join(), /wrong map/, 'another class of listeners')
  for (const { name, grown } of results) t.ok(grown > MAX_GROWN_BYTES, `${name}: an object for each command`)
  t.ok(
    results.some(({ collections }) => collections > 0),
    'collections',
  )
})
