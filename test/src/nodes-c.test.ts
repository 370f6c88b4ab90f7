import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { eventually, nodeFolder, startServer } from './nodes.js'

t.setTimeout(300_000)

const run = promisify(execFile)
const example = fileURLToPath(new URL('../../examples/c-client/', import.meta.url))
const headers = fileURLToPath(new URL('../../docs/uapi/', import.meta.url))

t.test('a program in C opens a node, asks who it is, and has it work', async (t) => {
  const folder = nodeFolder(t)
  const program = join(folder, 'client')
  const strict = ['-std=c11', '-Wall', '-Wextra', '-Wpedantic', '-Werror']
  await run('cc', [...strict, '-I', headers, '-o', program, `${example}client.c`])
  const says = (socket: string, n: string) =>
    run(program, [socket, n]).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
    )
  await startServer(t, 'edu', { folder })
  const node = join(folder, 'accel0')
  const { code, stdout, stderr } = await says(node, '10')
  t.same([code, stderr], [0, ''])
  t.ok(readFileSync(`${example}README.md`, 'utf8').includes(stdout), `as its README shows: ${stdout}`)
  t.match(stdout, /^10! = 3628800\n$/m)
  t.match(
    await says(node, '2000000000'),
    { code: 2, stderr: /^client: error 9: .*factorial.* within 1000 ms/ },
    'a command that takes too long',
  )
  const other = nodeFolder(t)
  await startServer(t, 'contract', { folder: other })
  t.match(
    await says(join(other, 'accel0'), '10'),
    { code: 2, stdout: '', stderr: /^client: error 30: accel0 speaks contract, not edu/ },
    'a node of another driver',
  )
  t.match(await says(join(other, 'accel1'), '10'), { code: 1, stderr: /No such file or directory/ })
  const full = nodeFolder(t)
  await startServer(t, 'edu', { folder: full, limits: { maxRequests: 0 } })
  t.match(
    await says(join(full, 'accel0'), '10'),
    { code: 2, stdout: '', stderr: /^client: error 37: A connection has at most 0 requests under way/ },
    'a request that the server has no room for',
  )
  const goesOn = async () => (await says(node, '5')).stdout.endsWith('\n5! = 120\n')
  t.ok(await eventually(goesOn), 'the first node goes on when its device is idle again')
})
