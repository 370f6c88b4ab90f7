import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, constants, ftruncateSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { AccelError } from '@uaccel/uapi'
import { eachLine, ended, killGroup, spawnTied } from './child.js'
import { formatDevices, type PlacedDevice, placeDevices } from './devices.js'
import { buildInitramfs } from './initramfs.js'
import type { OnProgress } from './progress.js'
import { type LabTools, prepareLab } from './tools.js'

export interface LabOptions {
  /** Program and arguments, run in the guest as root, found in PATH. */
  command: readonly string[]
  /** Folder of the host in which it runs. This process's own by default. */
  cwd?: string
  /** Its environment. This process's own by default. HOME, TMPDIR and UACCEL_LAB* are the guest's. */
  env?: Readonly<Record<string, string | undefined>>
  /** Devices bound to vfio-pci: names of presets (see {@link placeDevices}) or -device strings of QEMU. */
  devices?: readonly string[]
  /** Processors of the guest; 1 by default. */
  cpus?: number
  /** Memory of the guest in MiB; 1024 by default. */
  memoryMiB?: number
  /** More arguments for QEMU. */
  qemuArgs?: readonly string[]
  /** Kernel image with all drivers built in, instead of the one that {@link prepareLab} picks. */
  kernel?: string
  /** Time from the start of the guest to the end of the command, in milliseconds; 300,000 by default. */
  limitMs?: number
  /** Where the command's standard output goes, byte for byte. Nowhere by default. It is not ended. */
  stdout?: Writable
  stderr?: Writable
  /** Where the guest's log (its console and the command's output) is written whatever happens. */
  logPath?: string
  /** Trace events of QEMU, such as `memoryTrace`. */
  trace?: readonly string[]
  onProgress?: OnProgress
  signal?: AbortSignal
}

export interface LabResult {
  /** As a shell gives it: 127 not found, 126 not executable, 128 + n after signal n. */
  exitCode: number
  /** From the start of the guest to its end. */
  durationMs: number
  /** From the start of the guest to the start of the command. */
  bootMs: number
  /** Where the log was written; only with the option of that name. */
  logPath?: string
  /** What QEMU traced; only with the option of that name. See memoryAccesses. */
  trace?: string
}

const defaultLimitMs = 300_000
/** What is kept of the guest's log. */
const logLimitBytes = 8 << 20
/** How long QEMU may take to end when asked to. */
const quitLimitMs = 5_000

/**
 * Boots a guest on emulated hardware with the host's files read-only, runs a command in it, and ends the guest.
 * Nothing stays behind, however this process ends: QEMU is tied to it by the kernel, what passes between the two
 * goes through inherited sockets, and temporary files have no name.
 *
 * In the guest /tmp and /run are writable (writes go with the guest), as is a fresh HOME; the rest is read-only.
 * `UACCEL_LAB` is 1, and `UACCEL_LAB_DEVICES` names the devices: see `parseDevices`.
 * @throws ERR_ACCEL_TIMEOUT at the limit and ERR_ACCEL_CLOSED where the guest ended on its own, both with the end
 * of its log and the path of the whole (`details.logPath`); ERR_ACCEL_SYSTEM where it could not be set up or QEMU
 * refuses its arguments; ERR_ACCEL_ABORTED; and what prepareLab and placeDevices throw
 */
export async function runInLab(options: LabOptions): Promise<LabResult> {
  const { command, signal, onProgress } = options
  if (command.length === 0) {
    throw new AccelError('ERR_ACCEL_INVALID_ARGUMENT', 'the lab was given no command to run')
  }
  const devices = placeDevices(options.devices ?? [])
  const tools = await prepareLab({ onProgress, signal, kernel: options.kernel })
  const cwd = resolve(options.cwd ?? '.')
  const env = guestEnvironment(options.env ?? process.env, devices)
  const mark = randomBytes(16).toString('hex')
  const initramfs = await buildInitramfs(tools, { command, cwd, env, devices, mark })
  if (signal?.aborted) throw aborted(signal)
  onProgress?.({ stage: 'boot', message: `${tools.kernel.image} on ${tools.qemu.path}` })
  return new Guest(options, tools, devices, initramfs, mark).run()
}

const aborted = (signal: AbortSignal) =>
  new AccelError('ERR_ACCEL_ABORTED', 'the lab run was stopped', { cause: signal.reason })

/** Folders that a system's own PATH names; the guest's root needs those of the superuser as well. */
const systemPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

function guestEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  devices: readonly PlacedDevice[],
): Record<string, string> {
  const path = new Set([
    ...(env.PATH ?? '').split(':').filter(Boolean),
    dirname(process.execPath),
    ...systemPath,
  ])
  const kept = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && !/^(PWD|OLDPWD|SHLVL|_|XDG_.*|UACCEL_LAB_.*)$/.test(entry[0]),
  )
  return {
    ...Object.fromEntries(kept),
    PATH: [...path].join(':'),
    HOME: '/run/uaccel/home',
    TMPDIR: '/tmp',
    UACCEL_LAB: '1',
    UACCEL_LAB_DEVICES: formatDevices(devices),
  }
}

/** A file that is there only as long as somebody holds its descriptor. */
function unnamedFile(contents: Uint8Array = new Uint8Array()): number {
  const path = join(tmpdir(), `uaccel-lab-${randomBytes(8).toString('hex')}`)
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  unlinkSync(path)
  for (let at = 0; at < contents.length; ) at += writeSync(fd, contents, at)
  return fd
}

/** Descriptors of QEMU: 0-2 are its own, then one socket per channel, then files. */
const channels = ['console', 'stdout', 'stderr', 'status'] as const
const firstChannel = 3

class Guest {
  readonly #options: LabOptions
  readonly #mark: string
  readonly #files: number[] = []
  readonly #arguments: string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #traceFile: number | undefined
  #log: Buffer[] = []
  #logBytes = 0
  /** The run has its result; how QEMU ends from here on is no news. */
  #over = false

  constructor(
    options: LabOptions,
    tools: LabTools,
    devices: readonly PlacedDevice[],
    initramfs: Buffer,
    mark: string,
  ) {
    this.#options = options
    this.#mark = mark
    this.#env = { ...process.env, ...tools.qemu.env }
    const initrd = this.#pass(unnamedFile(initramfs))
    const { trace = [], cpus = 1, memoryMiB = 1024, qemuArgs = [] } = options
    const traceArguments: string[] = []
    if (trace.length > 0) {
      this.#traceFile = unnamedFile()
      traceArguments.push('-D', this.#pass(this.#traceFile), ...trace.flatMap((event) => ['-trace', event]))
    }
    this.#arguments = [
      ...tools.qemu.command,
      ...['-no-user-config', '-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot'],
      // Hardware virtualisation only where asked for: /dev/kvm may be there and hang.
      ...['-accel', process.env.UACCEL_LAB_ACCEL || 'tcg', '-machine', 'q35,kernel-irqchip=split'],
      // The host's programs may have been built for more than the plainest processor.
      ...['-cpu', 'max', '-smp', String(cpus), '-m', String(memoryMiB)],
      ...['-kernel', tools.kernel.image, '-initrd', initrd],
      // no_timer_check: on a busy machine the emulated timer is late, and the kernel would take it for broken.
      ...['-append', 'console=ttyS0 panic=-1 no_timer_check intel_iommu=on iommu=pt'],
      ...['-device', 'intel-iommu,intremap=on,caching-mode=on'],
      ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
      ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host,addr=0x2'],
      ...['-device', 'virtio-rng-pci,addr=0x3', '-device', 'virtio-serial-pci,addr=0x4'],
      ...channels.flatMap((name, index) => [
        ...['-chardev', `socket,id=${name},fd=${firstChannel + index}`],
        ...(name === 'console'
          ? ['-serial', 'chardev:console']
          : ['-device', `virtserialport,chardev=${name},name=lab.${name}`]),
      ]),
      ...devices.flatMap((device, index) => this.#deviceArguments(device, `disk${index}`)),
      ...traceArguments,
      ...qemuArgs,
    ]
  }

  /** Hands a descriptor to QEMU; returns the name by which QEMU opens it. */
  #pass(fd: number): string {
    this.#files.push(fd)
    return `/proc/self/fd/${firstChannel + channels.length + this.#files.length - 1}`
  }

  #deviceArguments({ argument, diskBytes }: PlacedDevice, drive: string): string[] {
    if (diskBytes === undefined) return ['-device', argument]
    const disk = unnamedFile()
    ftruncateSync(disk, diskBytes)
    return [
      ...['-drive', `if=none,id=${drive},format=raw,file=${this.#pass(disk)}`],
      ...['-device', argument.replace('drive=DRIVE', `drive=${drive}`)],
    ]
  }

  async run(): Promise<LabResult> {
    const { signal, limitMs = defaultLimitMs } = this.#options
    const start = performance.now()
    let child: ChildProcess | undefined
    let timer: NodeJS.Timeout | undefined
    let stop: (() => void) | undefined
    try {
      child = spawnTied(this.#arguments, {
        env: this.#env,
        stdio: ['ignore', 'pipe', 'pipe', ...channels.map(() => 'pipe' as const), ...this.#files],
      })
      const end = ended(child)
      const outcome = this.#follow(child, end)
      const limit = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          reject(
            this.#failure('ERR_ACCEL_TIMEOUT', `the lab run was not over after its limit of ${limitMs} ms`),
          )
        }, limitMs)
        stop = () => reject(aborted(signal!))
        signal?.addEventListener('abort', stop)
      })
      const { exitCode, readyAt } = await Promise.race([outcome, limit])
      await this.#quit(child)
      const { logPath } = this.#options
      if (logPath !== undefined) await writeFile(logPath, Buffer.concat(this.#log))
      return {
        exitCode,
        durationMs: performance.now() - start,
        bootMs: readyAt - start,
        ...(logPath !== undefined && { logPath }),
        ...(this.#traceFile !== undefined && { trace: readFileSync(this.#traceFile, 'utf8') }),
      }
    } finally {
      this.#over = true
      clearTimeout(timer)
      if (stop) signal?.removeEventListener('abort', stop)
      if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
        const gone = once(child, 'exit')
        killGroup(child.pid)
        await gone
      }
      for (const stream of child?.stdio ?? []) stream?.destroy()
      for (const fd of this.#files) closeSync(fd)
    }
  }

  /** Copies what the guest sends, until it says that the command ended and all of its output has come. */
  async #follow(
    child: ChildProcess,
    end: ReturnType<typeof ended>,
  ): Promise<{ exitCode: number; readyAt: number }> {
    const channel = (name: (typeof channels)[number]) =>
      child.stdio[firstChannel + channels.indexOf(name)] as Readable
    for (const stream of [child.stdout!, child.stderr!, channel('console')]) {
      stream.on('data', (chunk: Buffer) => this.#record(chunk))
    }
    const record = (chunk: Buffer) => this.#record(chunk)
    const copied = Promise.all([
      copyToMark(channel('stdout'), this.#mark, this.#options.stdout, record),
      copyToMark(channel('stderr'), this.#mark, this.#options.stderr, record),
    ])
    let readyAt = 0
    const reported = new Promise<number>((resolve, reject) => {
      eachLine(channel('status'), (line) => {
        const [, word, rest] = /^(\w+) ?(.*)$/.exec(line) ?? []
        if (word === 'ready') {
          readyAt = performance.now()
          this.#options.onProgress?.({ stage: 'run', message: this.#options.command.join(' ') })
        } else if (word === 'exit' && /^\d+$/.test(rest!)) resolve(Number(rest))
        else reject(this.#failure('ERR_ACCEL_SYSTEM', `the guest could not be set up: ${rest ?? line}`))
      })
    })
    const died = end.then(
      ({ code, signal }) => {
        if (this.#over) return new Promise<never>(() => {})
        const refused = code !== null && code !== 0
        const how = `QEMU ended with ${signal ?? code} before the command did`
        throw this.#failure(refused ? 'ERR_ACCEL_SYSTEM' : 'ERR_ACCEL_CLOSED', how)
      },
      (cause: unknown) => {
        throw new AccelError('ERR_ACCEL_NOT_FOUND', 'setpriv (of util-linux) is needed to run the lab', {
          cause,
        })
      },
    )
    const [exitCode] = await Promise.race([Promise.all([reported, copied]), died])
    return { exitCode, readyAt }
  }

  /** Ends QEMU so that it still writes its trace. */
  async #quit(child: ChildProcess): Promise<void> {
    this.#over = true
    if (child.exitCode !== null || child.signalCode !== null) return
    const timer = setTimeout(() => killGroup(child.pid!), quitLimitMs)
    child.kill('SIGTERM')
    await once(child, 'exit')
    clearTimeout(timer)
  }

  #record(chunk: Buffer): void {
    this.#log.push(chunk)
    this.#logBytes += chunk.length
    while (this.#logBytes - this.#log[0]!.length > logLimitBytes) this.#logBytes -= this.#log.shift()!.length
  }

  /** An error with the end of the log, whose whole stays in a file. */
  #failure(code: 'ERR_ACCEL_TIMEOUT' | 'ERR_ACCEL_CLOSED' | 'ERR_ACCEL_SYSTEM', what: string): AccelError {
    const log = Buffer.concat(this.#log)
    const logPath =
      this.#options.logPath ?? join(tmpdir(), `uaccel-lab-${randomBytes(6).toString('hex')}.log`)
    const fd = openSync(logPath, 'w', 0o600)
    for (let at = 0; at < log.length; ) at += writeSync(fd, log, at)
    closeSync(fd)
    const tail = log.toString('utf8').replaceAll('\r', '').trimEnd().split('\n').slice(-20).join('\n')
    return new AccelError(
      code,
      `${what}; its log is in ${logPath} and ${tail ? `ends:\n${tail}` : 'is empty'}`,
      {
        details: { logPath, tail },
      },
    )
  }
}

/**
 * Copies one of the guest's streams at the pace of its reader. Resolves at the mark that ends it, and leaves the
 * mark out; never where the stream ends without one, as it does when QEMU ends.
 */
async function copyToMark(
  from: Readable,
  mark: string,
  to: Writable | undefined,
  record: (chunk: Buffer) => void,
): Promise<void> {
  let held: Buffer = Buffer.alloc(0) // an end of what came that may be a beginning of the mark
  for await (const chunk of from as AsyncIterable<Buffer>) {
    const data = Buffer.concat([held, chunk])
    let keep = Math.min(mark.length, data.length)
    while (keep > 0 && data.compare(Buffer.from(mark.slice(0, keep)), 0, keep, data.length - keep) !== 0)
      keep--
    const passed = data.subarray(0, data.length - keep)
    held = data.subarray(data.length - keep)
    if (passed.length > 0) {
      record(passed)
      // The callback comes with an error where the reader is gone: that does not hold the guest up.
      if (to) await new Promise<void>((resolve) => to.write(passed, () => resolve()))
    }
    if (keep === mark.length) return
  }
  await new Promise(() => {})
}
