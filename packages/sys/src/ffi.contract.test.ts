import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { AccelError } from '@uaccel/uapi'
import t from 'tap'
import { abi, EventFd, type ProviderName, requirePlatform, sys, systemCalls, systemError } from './index.js'
import { eventually, openFds } from './proc.test.helper.js'

/** include/uapi/asm-generic/ioctls.h */
const TIOCGWINSZ = 0x5413
const TIOCSWINSZ = 0x5414
const FIONREAD = 0x541b

/** Has the kernel announce a device that nobody minds. */
const ANNOUNCE = '/sys/class/mem/null/uevent'
const skip = process.getuid!() === 0 ? false : 'only root may have the kernel announce a device'

const text = (buffer: Uint8Array, length = buffer.length) =>
  Buffer.from(buffer.subarray(0, length)).toString()

/** The code, errno and syscall that a call fails with. */
function failure(call: () => unknown): string[] | 'did not fail' {
  try {
    call()
    return 'did not fail'
  } catch (error) {
    if (!(error instanceof AccelError)) throw error
    return [error.code, error.errno, error.syscall].filter((fact) => fact !== undefined)
  }
}

// libuv opens a descriptor for itself with the first stream of a loop (uv__stream_init in its src/unix/stream.c), which is
// the first child's where stdout is a file: here, before any are counted.
await once(spawn('true'), 'close')

const index = JSON.stringify(new URL('./index.js', import.meta.url).href)

for (const name of ['koffi', 'ffi-rs'] as ProviderName[]) {
  t.test(name, async (t) => {
    const calls = systemCalls(name)
    t.equal(calls.provider.name, name)
    const folder = mkdtempSync(join(tmpdir(), 'uaccel-sys-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const fdsBefore = openFds()

    t.test('a locked file', async (t) => {
      const path = join(folder, 'locked')
      const [first, second] = [0, 1].map(() => calls.open(path, abi.O_RDWR | abi.O_CREAT))
      t.ok(calls.lockFile(first))
      t.ok(calls.lockFile(first), 'whoever holds it may ask again')
      t.notOk(calls.lockFile(second))
      calls.close(first)
      t.ok(calls.lockFile(second), 'closing it gives it back')
      calls.close(second)
      t.same(
        failure(() => calls.lockFile(second)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'flock'],
      )
    })

    t.test('open and close', async (t) => {
      const path = join(folder, 'file')
      const fd = calls.open(path, abi.O_RDWR | abi.O_CREAT, 0o640)
      t.match(calls.fstat(fd), { sizeBytes: 0, mode: 0o100640 })
      calls.close(fd)
      t.same(
        failure(() => calls.close(fd)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'close'],
      )
      t.same(
        failure(() => calls.fstat(fd)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'fstat'],
      )
      t.same(
        failure(() => calls.open(join(folder, 'none'), abi.O_RDONLY)),
        ['ERR_ACCEL_NOT_FOUND', 'ENOENT', 'open'],
      )
      t.same(
        failure(() => calls.open(`${path}\0x`, abi.O_RDONLY)),
        ['ERR_ACCEL_INVALID_ARGUMENT'],
      )
      t.same(
        failure(() => calls.open(`${path}/x`, abi.O_RDONLY)),
        ['ERR_ACCEL_SYSTEM', 'ENOTDIR', 'open'],
      )
    })

    t.test('descriptors do not reach children', async (t) => {
      const fds = [calls.open('/dev/null', abi.O_RDONLY), calls.memfdCreate('x'), calls.eventfd()]
      fds.push(...calls.socketpair(), calls.dup(fds[0]))
      const { stdout } = spawnSync('ls', ['/proc/self/fd'], { encoding: 'utf8' })
      const inherited = stdout.trim().split('\n').map(Number)
      t.same(
        inherited.filter((fd) => fds.includes(fd) && fd > 3),
        [],
      ) // 3 is the child's own listing
      for (const fd of fds) calls.close(fd)
    })

    t.test('ioctl, in and out', async (t) => {
      const terminal = calls.open('/dev/ptmx', abi.O_RDWR)
      const size = Uint8Array.of(50, 0, 132, 0, 0, 0, 0, 0)
      t.equal(calls.ioctl(terminal, TIOCSWINSZ, size), 0)
      const answer = new Uint8Array(8)
      t.equal(calls.ioctl(terminal, TIOCGWINSZ, answer), 0)
      t.same(answer, size)
      answer.fill(0)
      t.equal(await calls.ioctlAsync(terminal, TIOCGWINSZ, answer), 0)
      t.same(answer, size)
      calls.close(terminal)

      const memory = calls.memfdCreate('x')
      const notty = ['ERR_ACCEL_SYSTEM', 'ENOTTY', 'ioctl']
      t.same(
        failure(() => calls.ioctl(memory, TIOCGWINSZ, answer)),
        notty,
      )
      t.same(
        failure(() => calls.ioctl(memory, TIOCGWINSZ, 0)),
        notty,
      )
      await t.rejects(calls.ioctlAsync(memory, TIOCGWINSZ, answer), { code: notty[0], errno: notty[1] })
      await t.rejects(calls.ioctlAsync(memory, TIOCGWINSZ, 0n), { code: notty[0], errno: notty[1] })
      await calls.closeAsync(memory)
      const closed = { code: 'ERR_ACCEL_SYSTEM', errno: 'EBADF', syscall: 'close' }
      await t.rejects(calls.closeAsync(memory), closed, 'it is closed')
    })

    t.test('an address as an ioctl argument, of buffers of any size', async (t) => {
      const [a, b] = calls.socketpair()
      calls.write(a, new Uint8Array(300))
      for (const room of [4, 64, 65, 4096]) {
        const answer = new Uint8Array(room)
        t.equal(calls.ioctl(b, FIONREAD, calls.addressOf(answer)), 0)
        t.equal(new DataView(answer.buffer).getInt32(0, true), 300)
        const middle = new Uint8Array(room + 8).subarray(8)
        calls.ioctl(b, FIONREAD, middle)
        t.equal(middle[0] + 256 * middle[1], 300, 'a view that does not start at its buffer')
      }
      calls.close(a)
      calls.close(b)
    })

    t.test('mmap, madvise, munmap', async (t) => {
      const fd = calls.memfdCreate('x')
      calls.ftruncate(fd, 8192)
      const access = abi.PROT_READ | abi.PROT_WRITE
      const address = calls.mmap(0n, 8192, access, abi.MAP_SHARED, fd, 0)
      t.type(address, 'bigint')
      t.equal(address % 4096n, 0n)
      calls.madvise(address, 8192, abi.MADV_DONTFORK)
      t.same(
        failure(() => calls.madvise(address, 8192, 9999)),
        ['ERR_ACCEL_SYSTEM', 'EINVAL', 'madvise'],
      )
      calls.munmap(address, 8192)
      t.same(
        failure(() => calls.madvise(address, 8192, abi.MADV_DONTFORK)),
        ['ERR_ACCEL_NO_MEMORY', 'ENOMEM', 'madvise'],
        'nothing is mapped there any more',
      )
      t.same(
        failure(() => calls.munmap(1n, 4096)),
        ['ERR_ACCEL_SYSTEM', 'EINVAL', 'munmap'],
      )
      const map = (size: number, file: number) => calls.mmap(0n, size, access, abi.MAP_SHARED, file, 0)
      t.same(
        failure(() => map(0, fd)),
        ['ERR_ACCEL_SYSTEM', 'EINVAL', 'mmap'],
      )
      t.same(
        failure(() => map(4096, -1)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'mmap'],
      )
      t.same(
        failure(() => map(2 ** 47, fd)),
        ['ERR_ACCEL_NO_MEMORY', 'ENOMEM', 'mmap'],
      )
      const event = calls.eventfd()
      t.same(
        failure(() => map(4096, event)),
        ['ERR_ACCEL_NO_DEVICE', 'ENODEV', 'mmap'],
      )
      const readOnly = calls.open('/etc/passwd', abi.O_RDONLY)
      t.same(
        failure(() => map(4096, readOnly)),
        ['ERR_ACCEL_PERMISSION', 'EACCES', 'mmap'],
      )
      for (const each of [fd, event, readOnly]) calls.close(each)
    })

    t.test('pread and pwrite, far into a file too', async (t) => {
      const fd = calls.open(join(folder, 'big'), abi.O_RDWR | abi.O_CREAT)
      const far = 5n * 2n ** 40n
      t.equal(calls.pwrite(fd, Buffer.from('far'), far), 3)
      t.equal(calls.pwrite(fd, Buffer.from('near'), 7), 4)
      const buffer = new Uint8Array(16)
      t.equal(calls.pread(fd, buffer, far), 3)
      t.equal(text(buffer, 3), 'far')
      t.equal(calls.pread(fd, buffer, Number(far) + 1), 2)
      t.equal(calls.pread(fd, buffer, 7n), 16)
      t.equal(text(buffer, 4), 'near')
      t.equal(calls.pread(fd, buffer, far + 3n), 0, 'at the end')
      t.equal(calls.fstat(fd).sizeBytes, Number(far) + 3)
      t.same(
        failure(() => calls.pread(fd, buffer, -1n)),
        ['ERR_ACCEL_SYSTEM', 'EINVAL', 'pread'],
      )
      t.same(
        failure(() => calls.pwrite(-1, buffer, 0)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'pwrite'],
      )
      calls.close(fd)
    })

    t.test('eventfd', async (t) => {
      using event = new EventFd(calls)
      t.equal(event.drain(), 0)
      event.signal()
      event.signal(41)
      t.equal(event.drain(), 42)
      t.equal(event.drain(), 0)
      event.signal(2 ** 40)
      t.equal(event.drain(), 2 ** 40)
      event.signal(2n ** 64n - 2n) // the largest that the kernel holds
      event.signal(5) // does not fit and does not matter: it is readable
      t.equal(event.drain(), 2 ** 64)
      event.close()
      t.same(
        failure(() => event.drain()),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'read'],
      )
      t.same(
        failure(() => event.signal()),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'write'],
      )
      event.close()

      const [full, theirs] = [calls.eventfd(), new BigUint64Array([0xffff_ffff_ffff_fffen])]
      using shared = new EventFd(calls, full)
      calls.write(full, new Uint8Array(theirs.buffer))
      calls.setNonblocking(full, false) // as whoever sent it can do at any time
      shared.signal()
      t.equal(shared.drain(), 2 ** 64)
      t.equal(shared.drain(), 0)
      t.pass('neither signal nor drain blocks where the others made the counter full and blocking')
      using adopted = new EventFd(calls, calls.eventfd(3, 0))
      t.equal(adopted.drain(), 3)
      t.equal(adopted.drain(), 0, 'does not block')
    })

    t.test('a thread that blocks for an eventfd', async (t) => {
      using event = new EventFd(calls)
      using other = new EventFd(calls)
      const timed = (wait: () => number) => {
        const start = performance.now()
        return [wait(), performance.now() - start] as const
      }
      event.signal(3)
      t.equal(event.waitSync(10_000), 3, 'what is there already')
      t.equal(event.waitSync(0), 0, 'no limit: a look')
      for (const spinUs of [0, 10_000]) {
        const [count, ms] = timed(() => event.waitSync(30.5, spinUs))
        t.equal(count, 0)
        t.ok(ms >= 30, `${ms} ms`)
      }
      const [count, ms] = timed(() => event.waitSync(700))
      t.ok(count === 0 && ms >= 699, `more than is waited for at once: ${ms} ms`)
      other.signal()
      t.equal(event.waitSync(10_000, 0, [-1, other.fd]), 0, 'another ends it')
      t.equal(other.drain(), 1, 'and is not read')
      event.signal()
      other.signal()
      t.equal(event.waitSync(10_000, 50, [other.fd]), 1, 'its own comes first')

      const worker = new Worker(
        `const { workerData } = require('node:worker_threads')
        const end = Date.now() + 50
        while (Date.now() < end);
        require('node:fs').writeSync(workerData, new Uint8Array([7, 0, 0, 0, 0, 0, 0, 0]))`,
        { eval: true, workerData: event.fd },
      )
      t.equal(event.waitSync(20_000), 7, 'from another thread')
      await once(worker, 'exit')
      event.close()
      t.same(
        failure(() => event.waitSync(0)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'read'],
      )
    })

    t.test('read and write', async (t) => {
      const [a, b] = calls.socketpair(abi.SOCK_NONBLOCK)
      const buffer = new Uint8Array(8)
      t.equal(calls.read(b, buffer), undefined, 'nothing there')
      t.equal(calls.write(a, Buffer.from('abc')), 3)
      t.equal(calls.read(b, buffer), 3)
      t.equal(text(buffer, 3), 'abc')
      const large = new Uint8Array(1 << 20)
      t.ok(calls.write(a, large)! < large.length, 'partly')
      t.equal(calls.write(a, large), undefined, 'no room')
      calls.close(a)
      calls.close(b)
      t.same(
        failure(() => calls.read(b, buffer)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'read'],
      )
    })

    t.test('poll', async (t) => {
      const [a, b] = calls.socketpair()
      const started = performance.now()
      t.equal(calls.poll([{ fd: a, events: abi.POLLIN }], 50), undefined)
      t.ok(performance.now() - started >= 49)
      calls.write(b, Uint8Array.of(1))
      t.same(
        calls.poll(
          [
            { fd: b, events: abi.POLLIN },
            { fd: a, events: abi.POLLIN | abi.POLLOUT },
          ],
          -1,
        ),
        [0, abi.POLLIN | abi.POLLOUT],
      )
      calls.close(b)
      t.equal(calls.poll([{ fd: a, events: 0 }], 0)![0] & abi.POLLHUP, abi.POLLHUP)
      calls.close(a)
      t.same(calls.poll([{ fd: a, events: abi.POLLIN }], 0), [32], 'POLLNVAL')
    })

    t.test('a signal does not end a wait', async (t) => {
      const ignore = () => {}
      process.on('SIGWINCH', ignore)
      const [a, b] = calls.socketpair()
      const child = spawn('sh', ['-c', `sleep 0.1; kill -WINCH ${process.pid}`])
      const started = performance.now()
      t.equal(calls.poll([{ fd: a, events: abi.POLLIN }], 300), undefined)
      t.ok(performance.now() - started >= 299)
      await new Promise((resolve) => child.once('exit', resolve))
      process.off('SIGWINCH', ignore)
      calls.close(a)
      calls.close(b)
    })

    t.test('unix sockets', async (t) => {
      const path = join(folder, 'socket')
      t.same(
        failure(() => calls.connectUnix(path)),
        ['ERR_ACCEL_NOT_FOUND', 'ENOENT', 'connect'],
      )
      const listener = calls.listenUnix(path)
      t.same(
        failure(() => calls.listenUnix(path)),
        ['ERR_ACCEL_SYSTEM', 'EADDRINUSE', 'bind'],
      )
      t.equal(calls.accept(listener), undefined)
      const client = calls.connectUnix(path)
      const server = calls.accept(listener)!
      t.same(calls.peerCredentials(server), {
        pid: process.pid,
        uid: process.getuid!(),
        gid: process.getgid!(),
      })
      calls.setSocketOption(server, abi.SO_SNDBUF, 65536)
      calls.sendmsg(client, [Buffer.from('hello')])
      const buffer = new Uint8Array(8)
      t.same(calls.recvmsg(server, buffer), { bytes: 5, fds: [], truncated: false })
      calls.shutdown(client, abi.SHUT_WR)
      t.equal(calls.recvmsg(server, buffer)!.bytes, 0, 'the end')
      for (const fd of [listener, client, server]) calls.close(fd)
      t.same(
        failure(() => calls.connectUnix(path)),
        ['ERR_ACCEL_SYSTEM', 'ECONNREFUSED', 'connect'],
      )
      const hung = calls.listenUnix(join(folder, 'hung'), 0)
      const queued = calls.connectUnix(join(folder, 'hung'))
      t.same(
        failure(() => calls.connectUnix(join(folder, 'hung'), 30)),
        ['ERR_ACCEL_TIMEOUT', 'EAGAIN', 'connect'],
        'a listener that accepts nobody is not waited for without a limit',
      )
      for (const fd of [hung, queued]) calls.close(fd)
      for (const bad of ['', 'x'.repeat(108), 'a\0b']) {
        t.same(
          failure(() => calls.connectUnix(bad)),
          ['ERR_ACCEL_INVALID_ARGUMENT'],
        )
        t.same(
          failure(() => calls.listenUnix(bad)),
          ['ERR_ACCEL_INVALID_ARGUMENT'],
        )
      }
    })

    t.test('descriptors go along with a message', async (t) => {
      const [a, b] = calls.socketpair(abi.SOCK_NONBLOCK)
      const buffer = new Uint8Array(64)
      t.equal(calls.recvmsg(b, buffer, 4), undefined, 'nothing there')
      const memory = calls.memfdCreate('passed')
      calls.pwrite(memory, Buffer.from('content'), 0)
      const event = new EventFd(calls)
      t.equal(
        calls.sendmsg(a, [Buffer.from('two '), new Uint8Array(0), Buffer.from('parts')], [memory, event.fd]),
        9,
      )
      calls.close(memory)
      const message = calls.recvmsg(b, buffer, 4)!
      t.match(message, { bytes: 9, truncated: false })
      t.equal(text(buffer, 9), 'two parts')
      t.equal(message.fds.length, 2)
      t.equal(calls.pread(message.fds[0], buffer, 0), 7)
      t.equal(text(buffer, 7), 'content')
      const passed = new EventFd(calls, message.fds[1])
      passed.signal(7)
      t.equal(event.drain(), 7, 'the same eventfd')
      event.close()
      passed.close()
      calls.close(message.fds[0])

      calls.close(a)
      t.same(calls.recvmsg(b, buffer), { bytes: 0, fds: [], truncated: false })
      t.same(
        failure(() => calls.sendmsg(b, [Buffer.from('x')])),
        ['ERR_ACCEL_CLOSED', 'EPIPE', 'sendmsg'],
      )
      calls.close(b)
    })

    t.test('more descriptors than wanted are closed and reported', async (t) => {
      const [a, b] = calls.socketpair()
      const before = openFds()
      const buffer = new Uint8Array(1)
      for (const wanted of [0, 1, 2, 3]) {
        calls.sendmsg(a, [buffer], [a, b, a])
        const { fds, truncated } = calls.recvmsg(b, buffer, wanted)!
        t.equal(fds.length, wanted)
        t.equal(truncated, wanted < 3)
        for (const fd of fds) calls.close(fd)
        t.equal(openFds(), before)
      }
      const many = new Array(abi.SCM_MAX_FD).fill(a)
      calls.sendmsg(a, [buffer], many)
      const all = calls.recvmsg(b, buffer, abi.SCM_MAX_FD)!
      t.equal(all.fds.length, abi.SCM_MAX_FD)
      t.equal(all.truncated, false)
      for (const fd of all.fds) calls.close(fd)
      t.same(
        failure(() => calls.sendmsg(a, [buffer], [...many, a])),
        ['ERR_ACCEL_OUT_OF_RANGE'],
      )
      t.same(
        failure(() => calls.sendmsg(a, [buffer], [-1])),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'sendmsg'],
      )
      calls.close(a)
      calls.close(b)
    })

    t.test('descriptors that the kernel drops are reported', async (t) => {
      const script = join(folder, 'limit.mjs')
      writeFileSync(
        script,
        `import { systemCalls } from ${index}
         const calls = systemCalls('${name}'), [a, b] = calls.socketpair(), one = new Uint8Array(1)
         calls.poll([], 0)
         calls.sendmsg(a, [one], [a, a, a])
         const filler = []
         try { for (;;) filler.push(calls.dup(a)) } catch (error) { if (error.errno !== 'EMFILE') throw error }
         calls.close(filler.pop())
         const { fds, truncated } = calls.recvmsg(b, one, 3)
         console.log(JSON.stringify([fds.length, truncated]))`,
      )
      const { stdout, stderr } = spawnSync(
        'sh',
        ['-c', `ulimit -n 60; exec "${process.execPath}" ${script}`],
        {
          encoding: 'utf8',
        },
      )
      t.equal(stdout.trim(), '[1,true]', stderr)
    })

    t.test(
      'netlink: who sent a datagram, one that is too long, and those that were dropped',
      { skip },
      async (t) => {
        const [protocol, group] = [abi.NETLINK_KOBJECT_UEVENT, abi.UEVENT_GROUP_KERNEL]
        const fd = calls.netlink(protocol, group, 1 << 20)
        const buffer = Buffer.alloc(4096)
        const next = (into = buffer) => {
          let message = calls.receiveNetlink(fd, into)
          // Others may be announced at the same time.
          while (message?.portId === 0 && !text(into, message.bytes).startsWith('change@'))
            message = calls.receiveNetlink(fd, into)
          return message
        }
        while (next());
        writeFileSync(ANNOUNCE, 'change')
        const message = next()!
        t.match(message, { truncated: false, portId: 0 })
        t.match(text(buffer, message.bytes), /^change@\/devices\/virtual\/mem\/null\0ACTION=change\0/)
        writeFileSync(ANNOUNCE, 'change')
        t.same(next(buffer.subarray(0, 10)), { bytes: 10, truncated: true, portId: 0 })
        t.equal(next(), undefined)

        const forger = calls.netlink(protocol, 0, 4096)
        const everybody = Buffer.alloc(12)
        everybody.writeUInt16LE(abi.AF_NETLINK, 0)
        everybody.writeUInt32LE(group, 8)
        t.equal(calls.provider.raw.connect(forger, everybody, everybody.length), 0)
        t.equal(calls.send(forger, Buffer.from('change@/forged')), 14)
        t.not(next()!.portId, 0)
        calls.close(forger)

        calls.setSocketOption(fd, abi.SO_RCVBUF, 2048)
        for (let i = 0; i < 50; i++) writeFileSync(ANNOUNCE, 'change')
        const fails = () =>
          failure(() => {
            while (next());
          })
        t.same(fails(), ['ERR_ACCEL_SYSTEM', 'ENOBUFS', 'recvfrom'])
        t.equal(fails(), 'did not fail')
        calls.close(fd)
        t.same(
          failure(() => calls.netlink(255, 0, 4096)),
          ['ERR_ACCEL_SYSTEM', 'EPROTONOSUPPORT', 'socket'],
        )
      },
    )

    t.test('limits', async (t) => {
      const { stdout } = spawnSync('sh', ['-c', 'ulimit -l; ulimit -H -l'], { encoding: 'utf8' })
      const [soft, hard] = stdout
        .trim()
        .split('\n')
        .map((kib) => (kib === 'unlimited' ? Number.POSITIVE_INFINITY : 1024 * Number(kib)))
      t.same(calls.memlockLimit(), { softBytes: soft, hardBytes: hard })
    })

    t.test('which file a descriptor is of, and how it was opened', async (t) => {
      const fd = calls.memfdCreate('x')
      const other = calls.memfdCreate('x')
      calls.ftruncate(fd, 5)
      const reading = calls.open(`/proc/self/fd/${fd}`, abi.O_RDONLY)
      t.match(calls.identify(fd), { sizeBytes: 5, blockBytes: 4096 })
      t.equal(calls.identify(reading).id, calls.identify(fd).id)
      t.not(calls.identify(other).id, calls.identify(fd).id)
      t.equal(calls.getFlags(fd) & abi.O_ACCMODE, abi.O_RDWR)
      t.equal(calls.getFlags(reading) & abi.O_ACCMODE, abi.O_RDONLY)
      for (const open of [fd, other, reading]) calls.close(open)
      t.same(
        failure(() => calls.identify(fd)),
        ['ERR_ACCEL_SYSTEM', 'EBADF', 'fstat'],
      )
    })

    t.test('seals', async (t) => {
      const fd = calls.memfdCreate('x')
      t.equal(calls.getSeals(fd), 0)
      calls.addSeals(fd, abi.F_SEAL_SHRINK | abi.F_SEAL_SEAL)
      t.equal(calls.getSeals(fd), abi.F_SEAL_SHRINK | abi.F_SEAL_SEAL)
      t.same(
        failure(() => calls.addSeals(fd, abi.F_SEAL_GROW)),
        ['ERR_ACCEL_PERMISSION', 'EPERM', 'fcntl'],
      )
      calls.close(fd)
    })

    t.test('nothing is left open', async (t) => {
      t.ok(await eventually(() => openFds() === fdsBefore), `${openFds()} open, ${fdsBefore} before`)
    })
  })
}

t.test('errnos with a code of their own', async (t) => {
  const errnos = { '-16': 'ERR_ACCEL_BUSY', '-6': 'ERR_ACCEL_NO_DEVICE', '-104': 'ERR_ACCEL_CLOSED' }
  for (const [errno, code] of Object.entries(errnos)) {
    t.equal(systemError('ioctl', Number(errno), 'test').code, code)
  }
})

t.test('the provider is chosen by the environment, and only that one is loaded', async (t) => {
  const script = `import { sys } from ${index}
    import { readFileSync } from 'node:fs'
    const loaded = () => ['koffi', 'ffi-rs'].filter((name) => readFileSync('/proc/self/maps', 'utf8').includes(name))
    const before = loaded()
    sys.close(sys.eventfd())
    console.log(JSON.stringify([before, sys.provider.name, loaded()]))`
  const run = (provider: string) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      env: { ...process.env, UACCEL_FFI: provider },
    })
  t.same(JSON.parse(run('').stdout), [[], 'koffi', ['koffi']])
  t.same(JSON.parse(run('koffi').stdout), [[], 'koffi', ['koffi']])
  t.same(JSON.parse(run('ffi-rs').stdout), [[], 'ffi-rs', ['ffi-rs']])
  t.match(run('other').stderr, /ERR_ACCEL_INVALID_ARGUMENT/)
  t.equal(sys.provider.name, process.env.UACCEL_FFI || 'koffi')
})

t.test('other platforms are refused', async (t) => {
  t.same(
    failure(() => requirePlatform('linux', 'arm64')),
    ['ERR_ACCEL_UNSUPPORTED'],
  )
  t.same(
    failure(() => requirePlatform('darwin', 'x64')),
    ['ERR_ACCEL_UNSUPPORTED'],
  )
  requirePlatform('linux', 'x64')
})
