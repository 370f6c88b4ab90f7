import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { openDevice } from '@uaccel/core'
import { sys } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { Channel } from './channel.js'
import { connectVfioUser } from './client.js'
import { Command, encodeVersion } from './protocol.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-notices-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
let sockets = 0

async function serve(t: Test) {
  const path = join(folder, `${sockets++}.sock`)
  const script = fileURLToPath(new URL('serve.test.process.js', import.meta.url))
  const server = fork(script, [path], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(server, 'message')
  t.teardown(async () => {
    const gone = once(server, 'exit')
    server.kill('SIGKILL')
    await gone
  })
  const fds = () => readdirSync(`/proc/${server.pid}/fd`).filter((fd) => fd !== '').length
  return { path, server, fds }
}

/** What a listener is told. */
function told(listen: (listener: (reason: AccelError) => void) => unknown): Promise<AccelError> {
  return new Promise((resolve) => void listen(resolve))
}

const openFds = () => readdirSync('/proc/self/fd').length

t.test('a server that wants its device back', async (t) => {
  const { path, server, fds } = await serve(t)
  const before = { ours: openFds(), theirs: fds() }
  const device = await connectVfioUser(path)
  t.match(device.irqs, { err: { count: 1, maskable: false }, req: { count: 1, maskable: false } })
  device.onLost((reason) => t.fail(`lost: ${reason.message}`))
  for (const when of ['at first', 'again', 'after a reset']) {
    const request = told((listener) => device.onRequest(listener))
    server.send({ fault: 'request', reason: when })
    t.match(await request, { code: 'ERR_ACCEL_NO_DEVICE', message: /wants the device .* back/ }, when)
    t.equal(device.read(0, 0, 4), 0x5c7a7c4, 'it still works')
    if (when === 'again') await device.reset()
  }
  t.throws(() => device.maskIrq('req', 0), { code: 'ERR_ACCEL_IO' }, 'it has no mask')
  await device.close()
  await delay(100)
  t.same({ ours: openFds(), theirs: fds() }, before, 'nothing is left on either side')
  const next = await connectVfioUser(path)
  t.equal(next.read(0, 0, 4), 0x5c7a7c4, 'the next client has it')
  await next.close()
})

t.test('a request that nobody listens to is the loss of the device', async (t) => {
  const { path, server } = await serve(t)
  const device = await connectVfioUser(path)
  device.onRequest(() => t.fail('taken back'))()
  const loss = told((listener) => device.onLost(listener))
  server.send({ fault: 'request' })
  const reason = await loss
  t.match(reason, { code: 'ERR_ACCEL_NO_DEVICE', message: /wants the device/ })
  t.throws(() => device.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE', cause: reason })
  await device.close()
  await (await connectVfioUser(path)).close()
})

t.test('an error that the device reports is its loss, with that reason', async (t) => {
  const { path, server } = await serve(t)
  const before = openFds()
  const device = await connectVfioUser(path)
  const loss = told((listener) => device.onLost(listener))
  device.onRequest(() => t.fail('no request'))
  server.send({ fault: 'error' })
  t.match(await loss, { code: 'ERR_ACCEL_IO', message: /uncorrectable/ })
  t.throws(() => device.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE' })
  await device.close()
  t.equal(openFds(), before)
})

t.test(
  'a thread that blocks for an interrupt hears that the device is wanted back, and that it is gone',
  async (t) => {
    for (const fault of ['request', 'error', 'vanish'] as const) {
      const { path, server } = await serve(t)
      const transport = await connectVfioUser(path)
      const device = openDevice(transport)
      const wanted = told((listener) => device.onRequest(listener))
      const irqs = await device.allocIrqVectors()
      server.send({ fault })
      const start = performance.now()
      t.equal(irqs.waitSync(0, { timeoutMs: 60_000 }), 0, fault)
      t.ok(performance.now() - start < 30_000, 'before the limit')
      if (fault === 'request') await wanted
      else {
        if (!device.signal.aborted) await once(device.signal, 'abort')
        t.throws(() => irqs.waitSync(0, { timeoutMs: 0 }), { code: 'ERR_ACCEL_NO_DEVICE' })
      }
      await device.release()
      await transport.close()
    }
  },
)

t.test('a device that vanishes ends the session', async (t) => {
  const { path, server } = await serve(t)
  const device = await connectVfioUser(path)
  const loss = told((listener) => device.onLost(listener))
  server.send({ fault: 'vanish' })
  t.match(await loss, { code: 'ERR_ACCEL_CLOSED' })
  await device.close()
})

t.test('without a request interrupt armed, a request is the end of the session', async (t) => {
  const { path, server } = await serve(t)
  const channel = new Channel(sys.connectUnix(path))
  t.teardown(() => channel.close())
  const version = encodeVersion(1, { maxMessageFds: 8, maxTransferBytes: 1 << 20 })
  channel.send({ id: 1, command: Command.VERSION, flags: 0 }, version, 1000)
  t.ok(channel.receive(1000))
  server.send({ fault: 'request' })
  t.throws(() => channel.receive(5000), { code: 'ERR_ACCEL_CLOSED' })
})
