import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { isAccelError } from '@uaccel/uapi'
import t from 'tap'
import { eachLine } from './child.js'
import { parseDevices } from './devices.js'
import { type LabOptions, type LabResult, runInLab } from './run.js'
import { prepareLab } from './tools.js'
import { memoryAccesses, memoryTrace } from './trace.js'

/** A stream that keeps what it is given. */
class Sink extends Writable {
  readonly #chunks: Buffer[] = []
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.#chunks.push(chunk)
    done()
  }
  get data(): Buffer {
    return Buffer.concat(this.#chunks)
  }
}

async function lab(options: LabOptions): Promise<LabResult & { out: Buffer; err: Buffer }> {
  const stdout = new Sink()
  const stderr = new Sink()
  const result = await runInLab({ limitMs: 120_000, stdout, stderr, ...options })
  return { ...result, out: stdout.data, err: stderr.data }
}

const sh = (script: string): string[] => ['sh', '-c', script]

/** The QEMU processes of the machine whose command line holds a text. */
async function processesWith(text: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
    const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')
    if (line.includes('-nodefaults\0') && line.includes(text)) found.push(pid)
  }
  return found
}

t.setTimeout(600_000) // guests are emulated, and the first run on a machine fetches them

const folder = await mkdtemp(join(tmpdir(), 'lab-test-'))
t.teardown(() => rm(folder, { recursive: true }))
/** How long a guest boots on this machine as it is now: what a limit must leave room for. */
let bootMs = 0
await prepareLab() // so that no test's limit has to cover a download

t.test('exit code, streams, devices, what is writable', async (t) => {
  const script = [
    'echo "$UACCEL_LAB $UACCEL_LAB_DEVICES"; pwd; id -u; echo "$GREETING"',
    'for d in 5 6; do basename $(readlink /sys/bus/pci/devices/0000:00:0$d.0/driver); done',
    'cat /sys/bus/pci/devices/0000:00:05.0/device',
    'ls /dev/vfio | grep -c "^[0-9]"',
    'echo x > $TMPDIR/x && echo y > $HOME/y && cat $TMPDIR/x $HOME/y',
    `touch ${process.cwd()}/lab-wrote-this`,
    'date +%s; exit 3',
  ]
  const before = Date.now() / 1000
  const run = await lab({
    command: sh(script.join('\n')),
    devices: ['edu', 'nvme'],
    env: { ...process.env, GREETING: "it's $HOME\n`quoted`" },
  })
  bootMs = run.bootMs
  t.equal(run.exitCode, 3)
  const lines = run.out.toString().split('\n')
  const now = Number(lines.splice(-2, 1)[0])
  t.strictSame(lines, [
    '1 edu=0000:00:05.0,nvme=0000:00:06.0',
    process.cwd(),
    '0',
    "it's $HOME",
    '`quoted`',
    'vfio-pci',
    'vfio-pci',
    '0x11e8',
    '2',
    'x',
    'y',
    '',
  ])
  t.match(run.err.toString(), /Read-only file system/)
  t.notOk(existsSync('lab-wrote-this'))
  t.ok(now >= Math.floor(before) && now <= Date.now() / 1000 + 2, `the guest's clock says ${now}`)
  t.ok(run.bootMs > 0 && run.bootMs < run.durationMs)
  t.strictSame(
    parseDevices(lines[0]!.slice(2)).map(({ name }) => name),
    ['edu', 'nvme'],
  )
})

t.test('megabytes of binary output come through whole, at the pace of a slow reader', async (t) => {
  const bytes = randomBytes(5 << 20)
  await writeFile(join(folder, 'blob'), bytes)
  const hash = createHash('sha256')
  let length = 0
  const stdout = new Writable({
    highWaterMark: 1024,
    write(chunk: Buffer, _, done) {
      hash.update(chunk)
      length += chunk.length
      setTimeout(done, 2)
    },
  })
  const run = await lab({ command: sh('cat blob; tail -c 1000000 blob >&2'), cwd: folder, stdout })
  t.equal(run.exitCode, 0)
  t.equal(length, bytes.length)
  t.equal(hash.digest('hex'), createHash('sha256').update(bytes).digest('hex'))
  t.ok(run.err.equals(bytes.subarray(-1_000_000)), 'stderr is the end of the file')
})

t.test('exit codes of what does not exit by itself', async (t) => {
  const [killed, missing, refused] = await Promise.all([
    lab({ command: sh('sleep 1000 & echo started; kill -TERM $$') }),
    lab({ command: ['no-such-program', 'x'] }),
    lab({ command: ['/etc/passwd'] }),
  ])
  t.equal(killed.exitCode, 128 + 15, 'SIGTERM, with a process left that holds the output open')
  t.equal(killed.out.toString(), 'started\n')
  t.equal(missing.exitCode, 127)
  t.match(missing.err.toString(), /no-such-program: not found/)
  t.equal(refused.exitCode, 126)
})

t.test('a guest that hangs ends at the limit, with its log and without QEMU', async (t) => {
  const name = `uaccel-test-${randomBytes(6).toString('hex')}`
  const limitMs = Math.ceil(5_000 + 2 * bootMs)
  const error = await lab({
    command: sh('echo to be seen; sleep 1000'),
    qemuArgs: ['-name', name],
    limitMs,
  }).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isAccelError(error, 'ERR_ACCEL_TIMEOUT')) return t.fail('no timeout', { error })
  t.ok(error.message.includes(`limit of ${limitMs} ms`), 'says which limit')
  t.match(error.details, { tail: 'to be seen' })
  const logPath = error.details!.logPath as string
  t.teardown(() => rm(logPath))
  t.match(await readFile(logPath, 'utf8'), /to be seen\n/)
  t.equal((await stat(logPath)).mode & 0o777, 0o600)
  t.strictSame(await processesWith(name), [])
})

t.test('an abort ends the guest', async (t) => {
  const name = `uaccel-test-${randomBytes(6).toString('hex')}`
  const controller = new AbortController()
  const reason = new Error('enough')
  const stdout = new Writable({
    write(_, __, done) {
      controller.abort(reason)
      done()
    },
  })
  const run = lab({
    command: sh('echo; sleep 1000'),
    qemuArgs: ['-name', name],
    stdout,
    signal: controller.signal,
  })
  await t.rejects(run, { code: 'ERR_ACCEL_ABORTED', cause: reason })
  t.strictSame(await processesWith(name), [])
})

t.test('QEMU that refuses its arguments, or ends, is an error that says so', async (t) => {
  const logPath = join(folder, 'log')
  await t.rejects(lab({ command: ['true'], devices: ['no-such-device,x=1'], logPath }), {
    code: 'ERR_ACCEL_SYSTEM',
    message: /no-such-device/,
  })
  const name = `uaccel-test-${randomBytes(6).toString('hex')}`
  const stdout = new Writable({
    write(_, __, done) {
      processesWith(name).then(([pid]) => process.kill(Number(pid), 'SIGKILL'))
      done()
    },
  })
  await t.rejects(lab({ command: sh('echo; sleep 1000'), qemuArgs: ['-name', name], stdout, logPath }), {
    code: 'ERR_ACCEL_CLOSED',
    message: /SIGKILL/,
    details: { logPath },
  })
})

t.test('the end of this process is the end of QEMU, with nothing left in the temporary folder', async (t) => {
  const program = `
    import { runInLab } from ${JSON.stringify(new URL('./run.js', import.meta.url).href)}
    const [name] = process.argv.slice(1)
    await runInLab({ command: ['sh', '-c', 'echo up; sleep 1000'], stdout: process.stdout, qemuArgs: ['-name', name], devices: ['nvme'] })
  `
  await Promise.all(
    (['SIGKILL', 'SIGINT', 'SIGTERM'] as const).map(async (signal) => {
      const name = `uaccel-test-${randomBytes(6).toString('hex')}`
      const TMPDIR = await mkdtemp(join(folder, 'tmp-'))
      const child = spawn(process.execPath, ['--input-type=module', '-e', program, name], {
        env: { ...process.env, TMPDIR },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      t.equal((await processesWith(name)).length, 1, 'QEMU runs')
      child.kill(signal)
      t.equal((await once(child, 'exit'))[1], signal)
      const start = Date.now()
      while ((await processesWith(name)).length > 0 && Date.now() - start < 5000) await sleep(20)
      t.strictSame(await processesWith(name), [], `no QEMU after ${signal}`)
      t.strictSame(await readdir(TMPDIR), [])
    }),
  )
})

t.test('a device behind a root port is unplugged and plugged in again', async (t) => {
  const script = `
    device=/sys/bus/pci/devices/0000:01:00.0
    wait() { n=0; until [ $1 -e $2 ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 300 ] || exit 1; done; }
    echo "$UACCEL_LAB_DEVICES"; basename $(readlink $device/driver)
    echo unplug; wait ! $device
    echo plug; wait '' $device/device; cat $device/device`
  let seen = ''
  const lines = new PassThrough()
  const heard = new EventEmitter()
  eachLine(lines, (line) => {
    seen += `${line}\n`
    heard.emit(line)
  })
  const events: unknown[] = []
  const run = await lab({
    command: sh(script),
    devices: ['port/edu', 'edu'],
    stdout: lines,
    async onMonitor(monitor) {
      const [plug, deleted] = [once(heard, 'plug'), once(monitor, 'DEVICE_DELETED')]
      await once(heard, 'unplug')
      await monitor.execute('device_del', { id: 'device0' })
      events.push(...(await deleted))
      await plug
      await monitor.execute('device_add', { driver: 'edu', id: 'device0', bus: 'port0' })
    },
  })
  t.equal(run.exitCode, 0)
  t.equal(seen, 'edu=0000:01:00.0,edu=0000:00:06.0\nvfio-pci\nunplug\nplug\n0x11e8\n')
  t.match(events, [{ device: 'device0' }])
})

t.test('what goes wrong at the monitor ends the run', async (t) => {
  await t.rejects(
    lab({
      command: sh('sleep 1000'),
      onMonitor: async (monitor) => void (await monitor.execute('device_del', { id: 'nothing' })),
    }),
    { code: 'ERR_ACCEL_SYSTEM', message: /device_del.*nothing/ },
  )
})

t.test('without IOMMU, with and without being bound all the same; with huge pages', async (t) => {
  const script =
    'readlink /sys/bus/pci/devices/0000:00:05.0/driver; ls /sys/class/iommu; cat /proc/sys/vm/nr_hugepages'
  const options = { command: sh(script), devices: ['edu'] }
  const plain = await lab({ ...options, iommu: false, hugepages: 20 })
  t.equal(plain.out.toString(), '20\n')
  t.equal((await lab({ ...options, bind: false })).out.toString(), 'dmar0\n0\n')
  const bound = lab({ ...options, iommu: false, bind: true, logPath: join(folder, 'log') })
  // Distributions build their kernels without the mode (seen in Debian's 6.1).
  if ((await prepareLab()).kernel.modulesFolder) {
    await t.rejects(bound, { code: 'ERR_ACCEL_SYSTEM', message: /no mode without/ })
  } else t.equal((await bound).out.toString(), '../../../bus/pci/drivers/vfio-pci\n0\n')
})

/** I/O port of the first serial line's transmit register (16550 data sheet: THR; IBM PC address 0x3f8). */
const COM1_TRANSMIT = 0x3f8n

t.test('a trace counts the accesses to a device', async (t) => {
  const run = await lab({
    // a byte that the kernel's messages, which go the same way, do not have
    command: sh("printf '\\005\\005\\005\\005\\005\\005\\005' > /dev/ttyS0"),
    devices: ['edu'],
    trace: memoryTrace,
  })
  t.equal(run.exitCode, 0)
  const sent = memoryAccesses(run.trace!, 'serial').filter(
    ({ kind, value, address }) => kind === 'write' && value === 5n && address === COM1_TRANSMIT,
  )
  t.strictSame(
    sent.map(({ size }) => size),
    Array(7).fill(1),
    'seven writes of a byte each',
  )
  t.strictSame(memoryAccesses(run.trace!, 'edu-mmio'), [], 'nobody touched edu')
})

t.test('bad arguments', async (t) => {
  await t.rejects(runInLab({ command: [] }), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  await t.rejects(runInLab({ command: ['true'], devices: ['gpu'] }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /edu/,
  })
  await t.rejects(runInLab({ command: ['true'], devices: [`nvme:${join(folder, 'none')}`] }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /the disk image .*none is not there/,
  })
  await t.rejects(runInLab({ command: ['true'], hugepages: 500 }), {
    code: 'ERR_ACCEL_OUT_OF_RANGE',
    message: /1000 MiB.*1024 MiB/,
  })
  await t.rejects(runInLab({ command: ['true'], kernel: join(folder, 'none') }), {
    code: 'ERR_ACCEL_NOT_FOUND',
    message: /cannot be read/,
  })
  await t.rejects(runInLab({ command: ['true'], signal: AbortSignal.abort() }), { code: 'ERR_ACCEL_ABORTED' })
})
