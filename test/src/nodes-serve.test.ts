import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { npuUapi } from '@uaccel/driver-npu/uapi'
import t, { type Test } from 'tap'
import { nodeFolder } from './nodes.js'

t.setTimeout(300_000)

const command = fileURLToPath(new URL('../../packages/cli/bin/uaccel.mjs', import.meta.url))

async function serve(t: Test, args: readonly string[]) {
  const server = fork(command, ['serve', ...args], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
  t.teardown(() => server.kill('SIGKILL'))
  let stderr = ''
  server.stderr!.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const exited = once(server, 'close') as Promise<[code: number | null, signal: string | null]>
  const ready = await Promise.race([once(server, 'message'), exited.then(() => undefined)])
  return { server, exited, ready: ready !== undefined, stderr: () => stderr }
}

t.test('uaccel serve, until SIGTERM', async (t) => {
  const folder = nodeFolder(t)
  const served = await serve(t, [
    '--model',
    'edu',
    'npu',
    '--folder',
    folder,
    '--mode',
    '660',
    '--drain',
    '20000',
  ])
  t.ok(served.ready)
  t.same(readdirSync(folder).sort(), ['accel0', 'accel1', 'control'])
  t.equal(statSync(join(folder, 'accel0')).mode & 0o777, 0o660)
  t.match(served.stderr(), /accel0: edu, loopback/)
  const edu = await openAccel(eduUapi, 'accel0', { folder })
  const npu = await openAccel(npuUapi, 'accel1', { folder })
  t.same(await edu.call('factorial', { n: 10 }), { value: 3_628_800 })
  t.ok((await npu.call('identify', {})).queues > 0)
  const underWay = Promise.all([edu.call('factorial', { n: 2 ** 24 }), edu.call('factorial', { n: 5 })])
  await edu.info() // they have arrived
  served.server.kill('SIGTERM')
  t.match(await underWay, [{ value: 0 }, { value: 120 }], 'what is under way ends')
  t.same(await served.exited, [0, null])
  t.equal((await edu.lost).code, 'ERR_ACCEL_CLOSED')
  await t.rejects(npu.call('identify', {}), { code: 'ERR_ACCEL_NO_DEVICE' })
  t.same(readdirSync(folder), [])
  await Promise.all([edu.close(), npu.close()])
})

t.test('what cannot be served', async (t) => {
  const folder = nodeFolder(t)
  for (const [args, code, text] of [
    [['--model', 'nothing', '--folder', folder], 3, /no model or driver "nothing"/],
    [['--model', 'edu', '--folder', folder, '--group', 'no-such-group'], 3, /no group "no-such-group"/],
    [['--model', 'edu', '--folder', folder, '--mode', '9'], 2, /octal/],
    [['--model', 'edu', '--folder', folder, '--drain', 'long'], 2, /600000/],
  ] as const) {
    const refused = await serve(t, args)
    t.notOk(refused.ready)
    t.same(await refused.exited, [code, null])
    t.match(refused.stderr(), text)
  }
  t.same(readdirSync(folder), [])
})
