import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

t.setTimeout(120_000)

const program = fileURLToPath(new URL('./steady.program.js', import.meta.url))
const flags = ['--trace-deopt', '--trace-gc', '--allow-natives-syntax', '--expose-gc']
/** Half a byte for an operation, where the smallest object has 16: the rest of the program, and V8, may make a few. */
const MAX_GROWN_BYTES = 500_000
/** What V8 calls its collections, and a bailout: 16 MB of garbage would need at least one, which could hide them from the heap's size. */
const traced = /^\[bailout|: (Scavenge|Mark-Compact|Minor)/
/** With and without indirect descriptors, event index, interrupts. */
const SUBJECTS = 8

t.test('a million chains in each mode: no code is thrown away, nothing is allocated', async (t) => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [...flags, program], {
    maxBuffer: 256 << 20,
  })
  const lines = stdout.split('\n')
  for (const [what, traced] of [
    ['throws code away', /^\[bailout/],
    ['collects', /: Mark-Compact/],
  ] as const)
    t.ok(
      lines.some((line) => traced.test(line)),
      `V8 says so where it ${what}: outside of what is looked at`,
    )
  const lineOf = (text: string) => lines.findIndex((line) => line.includes(text))
  const results = stderr.trim().split('\n')
  t.equal(results.length, SUBJECTS)
  for (const result of results) {
    const { name, count, grown, notified } = JSON.parse(result)
    const [from, to] = [lineOf(`${name} begins`), lineOf(`${name} ended`)]
    t.ok(from >= 0 && to > from, `${name}: both marks are in the trace`)
    t.same(
      lines.slice(from, to).filter((line) => traced.test(line)),
      [],
      `${name}: nothing in ${count} chains`,
    )
    t.ok(grown < MAX_GROWN_BYTES, `${name}: ${grown} bytes more in the heap`)
    t.equal(notified, true)
  }
})
