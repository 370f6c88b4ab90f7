import { execFileSync } from 'node:child_process'
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { sysfsAccess } from './sysfs-write.js'

t.test('reads and writes', async (t) => {
  const folder = t.testdir({ file: 'old', 'a $(b) ; c': '' })
  await sysfsAccess.write(join(folder, 'file'), "it's $HOME", { timeoutMs: 10_000 })
  t.equal(readFileSync(join(folder, 'file'), 'utf8'), "it's $HOME\n")
  t.equal(await sysfsAccess.read(join(folder, 'file'), { timeoutMs: 10_000 }), "it's $HOME\n")
  await sysfsAccess.write(join(folder, 'a $(b) ; c'), '', { timeoutMs: 10_000 })
  t.equal(readFileSync(join(folder, 'a $(b) ; c'), 'utf8'), '\n')
  await t.rejects(sysfsAccess.write(join(folder, 'no/file'), 'x', { timeoutMs: 10_000 }), {
    code: 'ERR_ACCEL_SYSTEM',
    message: /writing "x" to .*no\/file/,
  })
})

t.test('what does not end is not waited for', async (t) => {
  const folder = t.testdir({})
  const [unread, unwritten] = [join(folder, 'unread'), join(folder, 'unwritten')]
  execFileSync('mkfifo', [unread, unwritten])
  await t.rejects(sysfsAccess.write(unread, 'x', { timeoutMs: 100 }), {
    code: 'ERR_ACCEL_TIMEOUT',
    message: /did not end within 100 ms/,
  })
  const abort = new AbortController()
  setTimeout(() => abort.abort(new Error('enough')), 50)
  await t.rejects(sysfsAccess.read(unwritten, { timeoutMs: 10_000, signal: abort.signal }), {
    code: 'ERR_ACCEL_ABORTED',
    cause: { message: 'enough' },
  })
  // their processes wait for the other end, and end with it
  for (const fifo of [unread, unwritten]) closeSync(openSync(fifo, constants.O_RDWR))
})
