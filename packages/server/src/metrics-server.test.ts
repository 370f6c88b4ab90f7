import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { serveMetrics } from './metrics-server.js'

t.setTimeout(60_000)

const ask = 'GET /metrics HTTP/1.0\r\n\r\n'

function to(address: string): Socket {
  const [host, port] = address.split(':')
  return connect(Number(port), host).on('error', () => {})
}

t.test('who connects and says nothing takes a bounded number of descriptors', async (t) => {
  const server = await serveMetrics('127.0.0.1:0', async () => 'uaccel_up 1\n')
  t.teardown(() => server.close())
  const silent = Array.from({ length: 300 }, () => to(server.address))
  let left = silent.length
  for (const socket of silent) socket.on('close', () => left--).resume()
  for (const start = performance.now(); left > 64 && performance.now() - start < 20_000; ) await sleep(5)
  t.equal(left, 64)
  await sleep(200)
  t.equal(left, 64, 'these have their time to ask')
  silent.forEach((socket) => {
    socket.destroy()
  })
  const answered = async () => {
    const socket = to(server.address)
    socket.write(ask)
    return (await text(socket).catch(() => '')).endsWith('uaccel_up 1\n')
  }
  let found = false
  for (const start = performance.now(); !found && performance.now() - start < 20_000; )
    found = await answered()
  t.ok(found, 'and then others have their place')
})

t.test('those who ask at the same time get one collection', async (t) => {
  let collections = 0
  const server = await serveMetrics('127.0.0.1:0', async () => {
    collections++
    await sleep(500)
    return `collection ${collections}\n`
  })
  t.teardown(() => server.close())
  const answers = Array.from({ length: 20 }, () => {
    const socket = to(server.address)
    socket.write(ask)
    return text(socket)
  })
  for (const answer of await Promise.all(answers)) t.match(answer, /^HTTP\/1.1 200 .*collection 1\n$/s)
  t.equal(collections, 1)
})
