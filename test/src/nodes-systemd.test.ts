import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { openAccel } from '@uaccel/client'
import { eduUapi } from '@uaccel/driver-edu/uapi'
import { sys } from '@uaccel/sys'
import { CONTROL_NODE, controlUapi } from '@uaccel/uapi'
import t, { type Test } from 'tap'
import { eventually, held, nodeFolder } from './nodes.js'
import { uaccelBin } from './uaccel.js'

/*
 * systemd itself is not here: its part is played with what it uses, a datagram socket and descriptors from 3 on.
 */

t.setTimeout(300_000)

/** `uaccel serve` of a model, started as systemd starts a service: descriptors from 3 on, LISTEN_PID its own. */
function serve(
  t: Test,
  folder: string,
  fds: readonly (number | undefined)[],
  env: Readonly<Record<string, string>>,
) {
  const file = join(nodeFolder(t), 'uaccel.json')
  writeFileSync(file, JSON.stringify({ folder, devices: [{ model: 'edu', number: 0 }] }))
  const command = ['serve', '--config', file]
  const server = spawn(
    '/bin/sh',
    ['-c', 'LISTEN_PID=$$ exec "$0" "$@"', process.execPath, uaccelBin, ...command],
    {
      stdio: ['ignore', 'ignore', 'pipe', ...fds.map((fd) => fd ?? ('ignore' as const))],
      env: { ...process.env, ...env },
    },
  )
  t.teardown(() => server.kill('SIGKILL'))
  return { server, said: text(server.stderr!), exited: once(server, 'exit') }
}

/** What came to a datagram socket so far. */
function mailbox(t: Test, name: string) {
  const fd = sys.bindDatagram(name)
  t.teardown(() => sys.close(fd))
  const buffer = Buffer.alloc(4096)
  const all: string[] = []
  return () => {
    for (let message = sys.recvmsg(fd, buffer); message; message = sys.recvmsg(fd, buffer))
      all.push(buffer.toString('utf8', 0, message.bytes))
    return all
  }
}

t.test('socket activation, and what systemd is told', async (t) => {
  const folder = nodeFolder(t)
  const path = join(folder, CONTROL_NODE)
  const listening = sys.listenUnix(path)
  const notify = `@uaccel-notify-${process.pid}`
  const mail = mailbox(t, notify)
  // Who comes before the service waits in the socket's queue.
  const early = openAccel(controlUapi, path, { timeoutMs: 60_000 })
  const { server, exited, said } = serve(t, folder, [listening], {
    LISTEN_FDS: '1',
    LISTEN_FDNAMES: 'control',
    NOTIFY_SOCKET: notify,
    WATCHDOG_USEC: '400000',
  })
  const control = await early
  t.ok(await eventually(() => mail().some((message) => message.startsWith('READY=1'))))
  t.match(
    mail().find((message) => message.startsWith('READY=1')),
    /^READY=1\nSTATUS=1 of 1 nodes run in /,
  )
  const { entries } = await control.call('nodes', { from: 0 })
  t.match(entries, [{ name: 'accel0', state: 'running' }])
  await using edu = await openAccel(eduUapi, 'accel0', { folder })
  t.same(await edu.call('factorial', { n: 5 }), { value: 120 })
  t.ok(await eventually(() => mail().includes('WATCHDOG=1')))
  const sockets = held(entries[0]!.pid).kinds['socket:[N]'] ?? 0
  t.ok(sockets <= 4, `the process of the device has ${sockets} sockets, and not that of control`)

  server.kill('SIGHUP')
  t.ok(await eventually(() => mail().filter((message) => message.startsWith('READY=1')).length === 2))
  const told = mail().filter((message) => !message.startsWith('WATCHDOG') && !message.startsWith('STATUS'))
  t.match(told, [/^READY=1/, /^RELOADING=1\nMONOTONIC_USEC=\d+$/, /^READY=1/])
  server.kill('SIGTERM')
  t.same(await exited, [0, null])
  t.match(
    mail().filter((message) => /^STOPPING/.test(message)),
    [/^STOPPING=1/],
  )
  t.ok(existsSync(path), 'the socket is still systemd’s')
  t.same(readdirSync(folder), [CONTROL_NODE])
  await control.close()
  t.match(await said, /accel0: edu, loopback edu/)

  const again = serve(t, folder, [listening], { LISTEN_FDS: '1' })
  await (await openAccel(controlUapi, path, { timeoutMs: 60_000 })).close()
  again.server.kill('SIGTERM')
  t.same(await again.exited, [0, null], 'and serves the next one')
  sys.close(listening)
})

t.test('what is no socket for control', async (t) => {
  const folder = nodeFolder(t)
  const other = nodeFolder(t)
  const listening = sys.listenUnix(join(other, 'a'))
  const [left, right] = sys.socketpair()
  const file = openSync('/dev/null', 'r')
  const tcp = createServer().listen(0, '127.0.0.1')
  await once(tcp, 'listening')
  const { fd: tcpFd } = (tcp as unknown as { _handle: { fd: number } })._handle
  for (const [fds, env, problem] of [
    [[left], { LISTEN_FDS: '1', LISTEN_FDNAMES: 'control' }, /descriptor 3 \(control\) does not listen/],
    [[file], { LISTEN_FDS: '1' }, /descriptor 3 \(unknown\) is no socket/],
    [[tcpFd], { LISTEN_FDS: '1' }, /descriptor 3 \(unknown\) is no Unix socket/],
    [[listening], { LISTEN_FDS: 'many' }, /LISTEN_FDS wants a number/],
    [
      [listening],
      { LISTEN_FDS: '1', LISTEN_FDNAMES: 'a:b' },
      /LISTEN_FDS is 1, and LISTEN_FDNAMES has 2 names/,
    ],
    [[listening], { LISTEN_FDS: '1', LISTEN_FDNAMES: 'web' }, /systemd passed web: the socket unit has one/],
    [[listening, listening], { LISTEN_FDS: '2' }, /systemd passed unknown, unknown/],
  ] as const) {
    const { exited, said } = serve(t, folder, fds, env)
    t.match([await exited, await said], [[1, null], problem])
  }
  t.same(readdirSync(folder), [])
  sys.close(listening)
  sys.close(left)
  sys.close(right)
  closeSync(file)
  tcp.close()
})
