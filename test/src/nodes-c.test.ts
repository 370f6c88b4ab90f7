import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { nodeFolder, startServer } from './nodes.js'

t.setTimeout(300_000)

const run = promisify(execFile)
const source = fileURLToPath(new URL('../src/node-client.c', import.meta.url))

t.test('a program in C opens a node, asks who it is, and has it work', async (t) => {
  const folder = nodeFolder(t)
  const program = join(folder, 'client')
  await run('cc', ['-Wall', '-Wextra', '-Werror', '-o', program, source])
  await startServer(t, 'edu', { folder })
  const { stdout } = await run(program, [join(folder, 'accel0'), '10'])
  t.equal(stdout, 'accel0 edu 1234:11e8\n10! = 3628800\n')
  const other = nodeFolder(t)
  await startServer(t, 'contract', { folder: other })
  const refused = await run(program, [join(other, 'accel0'), '10']).catch((error) => error)
  t.equal(refused.code, 2)
  t.match(refused.stderr, /error 30: accel0 speaks contract, not edu/)
})
