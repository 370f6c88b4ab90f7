import { mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { abi, sys } from '@uaccel/sys'
import { isAccelError } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { Notifier } from './systemd.js'

function received(fd: number): string[] {
  const buffer = Buffer.alloc(4096)
  const messages: string[] = []
  for (;;) {
    const message = sys.recvmsg(fd, buffer)
    if (!message) return messages
    messages.push(buffer.toString('utf8', 0, message.bytes))
  }
}

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-notify-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const never = (error: Error) => {
  throw error
}

t.test('what systemd is told, at a path and in the abstract name space', async (t) => {
  for (const NOTIFY_SOCKET of [join(folderOf(t), 'notify'), `@uaccel-test-${process.pid}`]) {
    const fd = sys.bindDatagram(NOTIFY_SOCKET)
    const notifier = new Notifier(never, { NOTIFY_SOCKET })
    notifier.ready('2 of 2\nnodes')
    notifier.status('1 of 2 nodes')
    const before = process.hrtime.bigint() / 1000n
    notifier.reloading()
    notifier.stopping()
    const [ready, status, reloading, stopping, ...more] = received(fd)
    t.same(
      [ready, status, stopping, more],
      ['READY=1\nSTATUS=2 of 2 nodes', 'STATUS=1 of 2 nodes', 'STOPPING=1\nSTATUS=stopping', []],
    )
    const [, usec = ''] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)$/.exec(reloading ?? '') ?? []
    t.ok(BigInt(usec) >= before && BigInt(usec) - before < 60_000_000n, 'as CLOCK_MONOTONIC counts')
    notifier.close()
    sys.close(fd)
  }
})

t.test('the watchdog hears twice in each of its intervals, once the service serves', async (t) => {
  const NOTIFY_SOCKET = join(folderOf(t), 'notify')
  const fd = sys.bindDatagram(NOTIFY_SOCKET)
  const watched = { NOTIFY_SOCKET, WATCHDOG_USEC: '100000' }
  const notifier = new Notifier(never, { ...watched, WATCHDOG_PID: `${process.pid}` })
  await sleep(150)
  t.same(received(fd), [])
  notifier.ready('')
  await sleep(500)
  notifier.close()
  const beats = received(fd).filter((message) => message === 'WATCHDOG=1').length
  t.ok(beats >= 3 && beats <= 11, `${beats} in half a second`)
  const other = new Notifier(never, { ...watched, WATCHDOG_PID: '1' })
  other.ready('')
  await sleep(150)
  t.same(received(fd), ['READY=1\nSTATUS='], 'that of another process is not ours')
  other.close()
  sys.close(fd)
})

t.test('a socket that is not there is told once, and nobody is told without one', async (t) => {
  const errors: string[] = []
  const notifier = new Notifier((error) => errors.push(isAccelError(error) ? error.code : 'other'), {
    NOTIFY_SOCKET: join(folderOf(t), 'absent'),
  })
  notifier.ready('')
  notifier.stopping()
  t.same(errors, ['ERR_ACCEL_NOT_FOUND'])
  new Notifier(never, {}).ready('')
})

t.test('options of sockets', async (t) => {
  const path = join(folderOf(t), 's')
  const fd = sys.listenUnix(path)
  t.equal(sys.getSocketOption(fd, abi.SO_DOMAIN), abi.AF_UNIX)
  t.equal(sys.getSocketOption(fd, abi.SO_TYPE), abi.SOCK_STREAM)
  t.equal(sys.getSocketOption(fd, abi.SO_ACCEPTCONN), 1)
  sys.close(fd)
  const file = openSync('/dev/null', 'r')
  t.throws(() => sys.getSocketOption(file, abi.SO_TYPE), /ENOTSOCK/)
  sys.close(file)
})
