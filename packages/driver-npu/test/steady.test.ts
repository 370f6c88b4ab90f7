import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

const program = fileURLToPath(new URL('./steady.program.js', import.meta.url))
const flags = ['--trace-deopt', '--allow-natives-syntax', '--expose-gc']
/** Half a byte for an operation, where the smallest object has 16: the rest of the program, and V8, may make a few. */
const MAX_GROWN_BYTES = 500_000

t.test(
  'a million operations: no code is thrown away, nothing is allocated',
  { timeout: 120_000 },
  async (t) => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [...flags, program], {
      maxBuffer: 256 << 20,
    })
    const lines = stdout.split('\n')
    t.ok(
      lines.some((line) => line.startsWith('[bailout')),
      'V8 says so where it throws code away: while all was new',
    )
    const lineOf = (text: string) => lines.findIndex((line) => line.includes(text))
    const results = stderr.trim().split('\n')
    t.equal(results.length, 2)
    for (const result of results) {
      const { name, count, grown } = JSON.parse(result)
      const [from, to] = [lineOf(`${name} begins`), lineOf(`${name} ended`)]
      t.ok(from >= 0 && to > from, `${name}: both marks are in the trace`)
      t.same(
        lines.slice(from, to).filter((line) => line.startsWith('[bailout')),
        [],
        `${name}: nothing in ${count} operations`,
      )
      t.ok(grown < MAX_GROWN_BYTES, `${name}: ${grown} bytes more in the heap`)
    }
  },
)
