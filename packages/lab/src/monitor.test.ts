import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { eachLine } from './child.js'
import { Monitor } from './monitor.js'

const folder = await mkdtemp(join(tmpdir(), 'lab-monitor-'))
t.teardown(() => rm(folder, { recursive: true }))

/** A peer that greets as QEMU does and answers with what `answer` gives, if anything. */
async function peer(
  t: Test,
  answer: (request: { execute: string; arguments?: unknown; id: number }, socket: Socket) => unknown,
): Promise<{ channel: Socket; requests: unknown[] }> {
  const path = join(folder, t.name.replaceAll(/\W/g, '-'))
  const requests: unknown[] = []
  const server = createServer((socket) => {
    socket.write(
      '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 1, "major": 11}}, "capabilities": []}}\r\n',
    )
    eachLine(socket, (line) => {
      const request = JSON.parse(line)
      requests.push(request)
      const message = answer(request, socket)
      if (message !== undefined) socket.write(`${JSON.stringify(message)}\r\n`)
    })
  }).listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  const channel = connect(path)
  t.teardown(() => channel.destroy())
  return { channel, requests }
}

t.test('answers find their commands in any order, with events between', async (t) => {
  let held: unknown
  const { channel, requests } = await peer(t, ({ execute, id }, socket) => {
    if (execute === 'first') held = { return: 'one', id }
    if (execute !== 'second') return execute === 'first' ? undefined : { return: {}, id }
    socket.write('{"timestamp": {}, "event": "DEVICE_DELETED", "data": {"device": "device0"}}\r\n')
    socket.write(`{"return": "two", "id": ${id}}\r\n`)
    return held
  })
  const monitor = await Monitor.open(channel)
  const event = once(monitor, 'DEVICE_DELETED')
  const done: unknown[] = []
  await Promise.all([
    monitor.execute('first', { a: 1 }).then((value) => done.push(value)),
    monitor.execute('second').then((value) => done.push(value)),
  ])
  t.strictSame(done, ['two', 'one'])
  t.strictSame(await event, [{ device: 'device0' }])
  t.strictSame(requests, [
    { execute: 'qmp_capabilities', id: 0 },
    { execute: 'first', arguments: { a: 1 }, id: 1 },
    { execute: 'second', id: 2 },
  ])
})

t.test('a refusal is an error in the words of QEMU', async (t) => {
  const { channel } = await peer(t, ({ execute, id }) =>
    execute === 'device_del'
      ? { error: { class: 'DeviceNotFound', desc: "Device 'x' not found" }, id }
      : { return: {}, id },
  )
  const monitor = await Monitor.open(channel)
  await t.rejects(monitor.execute('device_del', { id: 'x' }), {
    code: 'ERR_ACCEL_SYSTEM',
    message: "QEMU refuses 'device_del': Device 'x' not found",
    details: { class: 'DeviceNotFound' },
  })
})

t.test('the end of QEMU, or of its protocol, ends what waits', async (t) => {
  for (const [name, end] of [
    ['closed', (socket: Socket) => void socket.destroy()],
    ['garbage', (socket: Socket) => void socket.write('no JSON\n')],
  ] as const) {
    await t.test(name, async (t) => {
      const { channel } = await peer(t, ({ execute, id }, socket) => {
        if (execute !== 'stop') return { return: {}, id }
        return end(socket)
      })
      const monitor = await Monitor.open(channel)
      const closed = once(monitor, 'close')
      await t.rejects(monitor.execute('stop'), { code: 'ERR_ACCEL_CLOSED', message: /'stop'/ })
      await closed
      await t.rejects(monitor.execute('cont'), { code: 'ERR_ACCEL_CLOSED' })
    })
  }
})
