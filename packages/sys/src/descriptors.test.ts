import { once } from 'node:events'
import { fstatSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { abi, closeAll, duplicates, sys } from './index.js'

t.setTimeout(60_000)

const isOpen = (fd: number) => {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false
  }
}

t.test('memory and eventfds are closed at once, all else soon', async (t) => {
  const atOnce = [sys.memfdCreate('uaccel-test'), sys.memfdCreate('uaccel-test', 0), sys.eventfd()]
  const soon = [sys.open('/', abi.O_RDONLY), sys.open('/', abi.O_PATH), ...sys.socketpair()]
  closeAll([...atOnce, ...soon])
  t.notOk(atOnce.some(isOpen))
  for (const end = performance.now() + 20_000; soon.some(isOpen) && performance.now() < end; ) await sleep(1)
  t.notOk(soon.some(isOpen))
  t.throws(() => closeAll(atOnce), { code: 'ERR_ACCEL_SYSTEM', errno: 'EBADF' }, 'again is an error')
})

t.test('a close that waits for somebody else holds nobody up', async (t) => {
  const listener = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const accepted = once(listener, 'connection')
  const socket = connect((listener.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  await once(socket, 'connect')
  const [peer] = (await accepted) as [Socket]
  socket.write(new Uint8Array(32 << 20)) // which nobody reads
  await sleep(100)
  const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
  const linger = Buffer.alloc(8) // struct linger (socket(7)): for 10 seconds
  linger.writeInt32LE(1, 0)
  linger.writeInt32LE(10, 4)
  const SO_LINGER = 13 // include/uapi/asm-generic/socket.h
  t.equal(sys.provider.raw.setsockopt(fd, abi.SOL_SOCKET, SO_LINGER, linger, linger.length), 0)
  const [last] = duplicates([fd])
  socket.destroy()
  await once(socket, 'close')
  const start = performance.now()
  closeAll([last!])
  const tookMs = performance.now() - start
  t.ok(tookMs < 5000, `closeAll took ${tookMs.toFixed(1)} ms`)
  await sleep(100)
  const other = sys.open('/', abi.O_RDONLY)
  closeAll([other])
  peer.destroy()
  listener.close()
  for (const end = performance.now() + 20_000; isOpen(other) && performance.now() < end; ) await sleep(1)
  t.notOk(isOpen(other), 'what came after it is closed when it is')
})
