import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Transport } from '@uaccel/core'
import { DmaDomain } from '@uaccel/memory'
import { createFunction } from '@uaccel/model'
import { EventFd } from '@uaccel/sys'
import type { AccelError } from '@uaccel/uapi'
import t from 'tap'
import { type ConnectOptions, connectVfioUser } from './client.js'
import { scratchModel } from './scratch.test.device.js'
import { serveVfioUser } from './server.js'

const folder = mkdtempSync(join(tmpdir(), 'uaccel-vfio-user-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

let sockets = 0
async function serve(...flags: string[]) {
  const path = join(folder, `${sockets++}.sock`)
  const script = fileURLToPath(new URL('serve.test.process.js', import.meta.url))
  const server = fork(script, [path, ...flags], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(server, 'message')
  t.teardown(() => end(server))
  return { path, server }
}

async function end(server: ChildProcess) {
  if (server.exitCode !== null || server.signalCode !== null) return
  server.kill('SIGKILL')
  await once(server, 'exit')
}

const openFds = () => readdirSync('/proc/self/fd').length

async function copy(device: Transport, domain: DmaDomain, vector: number, fired: EventFd, sizeBytes: number) {
  const source = domain.alloc(sizeBytes)
  const target = domain.alloc(sizeBytes)
  for (let i = 0; i < sizeBytes; i++) source.u8[i] = (i * 31 + 7) & 255
  device.write(0, 0x08, 4, sizeBytes)
  device.write64(0, 0x10, source.iova)
  device.write64(0, 0x18, target.iova)
  device.write(0, 0x0c, 4, vector)
  for (let waited = 0; fired.drain() === 0; waited++) {
    if (waited === 400) throw new Error('no interrupt within 2 s')
    await delay(5)
  }
  return { same: Buffer.compare(Buffer.from(source.u8), Buffer.from(target.u8)) === 0 }
}

const variants: [string, string[], ConnectOptions][] = [
  ['memory by descriptor', [], {}],
  ['memory by DMA messages', [], { shareMemory: false }],
]
for (const [name, flags, options] of variants) {
  t.test(`a device in another process, ${name}`, async (t) => {
    const { path, server } = await serve(...flags)
    const before = openFds()
    const device = await connectVfioUser(path, options)
    t.match(device.identity, { kind: 'vfio-user', address: path, emulated: true })
    t.equal(device.regions[0]?.sizeBytes, 4096)
    t.same(device.regions[0]?.mappable, [])
    t.same(device.regions[2]?.mappable, [{ offset: 0x1000, sizeBytes: 0x2000 }])
    t.match(device.irqs, { intx: { count: 1 }, msi: { count: 1 }, msix: { count: 4 } })

    const ids = new Uint8Array(4)
    device.readBytes(7, 0, ids)
    t.same([...ids], [0x34, 0x12, 0x7a, 0x5c])
    t.equal(device.read(0, 0, 4), 0x5c7a7c4)
    device.write(0, 4, 4, 0xdeadbeef)
    t.equal(device.read(0, 4, 4), 0xdeadbeef, 'the top bit is no sign')
    device.write(0, 0x28, 1, 0xa5)
    t.equal(device.read(0, 0x28, 1), 0xa5)
    device.write(0, 0x2a, 2, 0xbeef)
    t.equal(device.read(0, 0x2a, 2), 0xbeef)
    device.write64(0, 0x10, 0xfedc_ba98_7654_3210n)
    t.equal(device.read64(0, 0x10), 0xfedc_ba98_7654_3210n)

    const view = device.map(2, { offset: 0x1000, sizeBytes: 0x2000 })
    view.window.u32[3] = 77
    t.equal(device.read(2, 0x100c, 4), 77, 'the mapping and the messages reach the same memory')
    const large = new Uint8Array(0x2000).map((_, i) => i * 13)
    device.writeBytes(2, 0x1000, large)
    t.same(Buffer.from(view.window.u8), Buffer.from(large))
    view.revoke()

    const config = new Uint8Array([6, 0])
    device.writeBytes(7, 4, config) // memory decode and bus master: PCI 3.0, 6.2.2
    const domain = new DmaDomain(device.dma, { addressBits: 64 })
    const fired = new EventFd()
    for (const type of ['msix', 'msi'] as const) {
      device.setIrqs(type, type === 'msix' ? [-1, -1, fired.fd, -1] : [fired.fd])
      t.match(await copy(device, domain, type === 'msix' ? 2 : 0, fired, 5000), { same: true }, type)
      device.disableIrqs(type)
    }
    device.setIrqs('msi', [fired.fd])
    t.match(await copy(device, domain, 0, fired, 300_000), { same: true }, 'more than one piece')
    t.equal(device.read(0, 0x30, 4), 0, 'no fault')

    await device.reset()
    t.equal(device.read(0, 4, 4), 0, 'reset')
    domain.destroy()
    fired.close()
    await device.close()
    await device.close()
    t.throws(() => device.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE' })
    t.equal(openFds(), before, 'no descriptor is left')
    const again = await connectVfioUser(path)
    t.equal(again.read(0, 0, 4), 0x5c7a7c4, 'the server takes the next client')
    await again.close()
    server.send('close')
    const [status] = await once(server, 'exit')
    t.equal(status, 0)
  })
}

t.test('a fault of the device and bad calls are errors, and the session goes on', async (t) => {
  const { path } = await serve()
  const device = await connectVfioUser(path)
  t.teardown(() => device.close())
  t.throws(() => device.read(0, 4096, 4), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => device.read(0, -4, 4), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => device.read(1, 0, 4), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => device.map(2, { offset: 0, sizeBytes: 4096 }), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  t.throws(() => device.setIrqs('msix', [1, 1, 1, 1, 1]), { code: 'ERR_ACCEL_OUT_OF_RANGE' })
  const fired = new EventFd()
  device.writeBytes(7, 4, new Uint8Array([6, 0]))
  device.setIrqs('msi', [fired.fd])
  device.write(0, 0x08, 4, 64)
  device.write64(0, 0x10, 0xdead_0000n)
  device.write(0, 0x0c, 4, 0)
  for (let i = 0; i < 100 && fired.drain() === 0; i++) await delay(5)
  t.equal(device.read(0, 0x30, 4), 1, 'DMA outside the mappings is a fault of the device')
  fired.close()
})

t.test('a second client is turned away, the first goes on', async (t) => {
  const { path } = await serve()
  const first = await connectVfioUser(path)
  await t.rejects(connectVfioUser(path), { code: 'ERR_ACCEL_PROTOCOL' })
  t.equal(first.read(0, 0, 4), 0x5c7a7c4)
  await first.close()
})

t.test('a server that dies', async (t) => {
  const { path, server } = await serve()
  const device = await connectVfioUser(path)
  const lost = new Promise<AccelError>((resolve) => device.onLost(resolve))
  await end(server)
  t.match(await lost, { code: 'ERR_ACCEL_CLOSED' })
  t.throws(() => device.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE', cause: { code: 'ERR_ACCEL_CLOSED' } })
  t.throws(() => device.map(2, { offset: 0x1000, sizeBytes: 4096 }), { code: 'ERR_ACCEL_NO_DEVICE' })
  await device.close()
})

t.test('a server that hangs is given up at the limit', async (t) => {
  const { path, server } = await serve()
  const device = await connectVfioUser(path, { timeoutMs: 200 })
  server.send('hang')
  await delay(100)
  const start = performance.now()
  t.throws(() => device.read(0, 0, 4), { code: 'ERR_ACCEL_NO_DEVICE', cause: { code: 'ERR_ACCEL_TIMEOUT' } })
  t.ok(performance.now() - start < 5000)
  await device.close()
})

t.test('a server on this thread is refused, by any path', async (t) => {
  const path = join(folder, 'own.sock')
  const server = serveVfioUser({ path, device: createFunction(scratchModel, {}) })
  await t.rejects(connectVfioUser(path), { code: 'ERR_ACCEL_DEADLOCK' })
  await t.rejects(connectVfioUser(join(folder, '.', 'own.sock')), { code: 'ERR_ACCEL_DEADLOCK' })
  t.throws(() => serveVfioUser({ path, device: createFunction(scratchModel, {}) }), {
    code: 'ERR_ACCEL_BUSY',
  })
  server.close()
  server.close()
  await t.rejects(connectVfioUser(path), { code: 'ERR_ACCEL_NOT_FOUND' })
})

t.test('paths that are no vfio-user server', async (t) => {
  await t.rejects(connectVfioUser(join(folder, 'absent.sock')), { code: 'ERR_ACCEL_NOT_FOUND' })
  const file = join(folder, 'file')
  writeFileSync(file, '')
  await t.rejects(connectVfioUser(file), { code: 'ERR_ACCEL_NOT_FOUND', message: /no server listens/ })
  t.throws(() => serveVfioUser({ path: file, device: createFunction(scratchModel, {}) }), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
  })
  await t.rejects(connectVfioUser('x'.repeat(200)), {
    code: 'ERR_ACCEL_INVALID_ARGUMENT',
    message: /1 to 107 bytes/,
  })

  // In this process, but Node's own server: the client blocks the thread, so what it is to read is written ahead.
  for (const [name, greeting, wanted] of [
    ['another protocol', 'HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n', 'ERR_ACCEL_PROTOCOL'],
    ['silence', '', 'ERR_ACCEL_TIMEOUT'],
  ] as const) {
    const path = join(folder, `${wanted}.sock`)
    const script = `require('node:net').createServer((s) => s.write(process.argv[2])).listen(process.argv[1], () => process.send('ready'))`
    const other = fork('-e', [], {
      execArgv: ['-e', script, path, greeting],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    await once(other, 'message')
    await t.rejects(connectVfioUser(path, { timeoutMs: 300 }), { code: wanted }, name)
    await end(other)
  }
  createServer().close()
})

t.test(
  'a server that keeps the state of its device: what stays for the next client, and what does not',
  async (t) => {
    const { path } = await serve('--keep-state')
    const master = (device: Transport) => {
      const command = Buffer.alloc(2)
      device.readBytes(7, 4, command)
      return (command.readUInt16LE() & 4) !== 0
    }
    const enable = (device: Transport) => device.writeBytes(7, 4, Buffer.from([6, 0]))
    const first = await connectVfioUser(path)
    enable(first)
    const fired = new EventFd()
    t.teardown(() => fired.close())
    first.setIrqs('msi', [fired.fd])
    const domain = new DmaDomain(first.dma)
    t.match(await copy(first, domain, 0, fired, 100), { same: true })
    first.write(0, 0x04, 4, 0x1234_5678)
    first.writeBytes(2, 0x1000, Buffer.from('on the card'))
    // As after kill -9: nothing was given back.
    await first.close()
    domain.destroy()

    const second = await connectVfioUser(path)
    t.equal(second.read(0, 0x04, 4), 0x1234_5678, 'registers stay')
    t.equal(second.read(0, 0x08, 4), 100)
    const card = Buffer.alloc(11)
    second.readBytes(2, 0x1000, card)
    t.equal(`${card}`, 'on the card', 'and memory of the device')
    t.notOk(master(second), 'bus mastering is off')
    enable(second)
    second.write(0, 0x0c, 4, 0)
    await delay(50)
    t.equal(second.read(0, 0x30, 4), 1, 'the memory of the client that left is out of reach')
    t.equal(fired.drain(), 0, 'and so are its interrupts')
    second.setIrqs('msi', [fired.fd])
    const again = new DmaDomain(second.dma)
    t.match(await copy(second, again, 0, fired, 64), { same: true }, 'all of it works for the next one')
    await second.reset()
    t.equal(second.read(0, 0x04, 4), 0, 'a reset is a reset')
    await second.close()
    again.destroy()
  },
)
