import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Duplex, Readable, Writable } from 'node:stream'
import { AccelError } from '@uaccel/uapi'
import { eachLine, ended, killGroup, spawnTied } from './child.js'
import { formatDevices, type PlacedDevice, placeDevices } from './devices.js'
import { readable } from './files.js'
import { buildInitramfs } from './initramfs.js'
import {
  type Channel,
  channels,
  defaultMemoryMiB,
  firstChannel,
  Machine,
  type MachineOptions,
} from './machine.js'
import { Monitor } from './monitor.js'
import type { OnProgress } from './progress.js'
import { prepareLab } from './tools.js'

export interface LabOptions extends MachineOptions {
  /** Program and arguments, run in the guest as root, found in PATH. */
  command: readonly string[]
  /** Folder of the host in which it runs. This process's own by default. */
  cwd?: string
  /** Its environment. This process's own by default. HOME, TMPDIR and UACCEL_LAB* are the guest's. */
  env?: Readonly<Record<string, string | undefined>>
  /**
   * Devices, `[NAME=][port/]DEVICE` each: a preset, a -device string of QEMU, `nvme:FILE`, or `vfio-user:SOCKET`; see
   * {@link placeDevices}.
   */
  devices?: readonly string[]
  /**
   * Whether the devices are bound to vfio-pci before the command starts; otherwise they stay with the driver that the
   * guest's kernel gives them, or without one. By default they are bound where there is an IOMMU. Without one, `true`
   * switches on the kernel's unsafe no-IOMMU mode for it.
   */
  bind?: boolean
  /** Kernel image with all drivers built in, instead of the one that {@link prepareLab} picks. */
  kernel?: string
  /** Time from the start of the guest to the end of the command, in milliseconds; 300,000 by default. */
  limitMs?: number
  /** Where the command's standard output goes, byte for byte. Nowhere by default. It is not ended. */
  stdout?: Writable
  stderr?: Writable
  /** Where the guest's log (its console and the command's output) is written whatever happens. */
  logPath?: string
  /**
   * Called with the monitor of the machine while it boots, to plug and unplug as the command runs, whose output says
   * when. What it throws ends the run; the run's end does not wait for it.
   */
  onMonitor?: (monitor: Monitor) => void | Promise<void>
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
  const { hugepages = 0, memoryMiB = defaultMemoryMiB, iommu = true, bind = iommu } = options
  checkHugepages(hugepages, memoryMiB)
  for (const { diskPath } of devices) {
    if (diskPath !== undefined && !(await readable(diskPath)))
      throw new AccelError(
        'ERR_ACCEL_NOT_FOUND',
        `the disk image ${diskPath} is not there, or cannot be read`,
      )
  }
  const vfioUser = devices.some(({ socketPath }) => socketPath !== undefined)
  const tools = await prepareLab({ onProgress, signal, kernel: options.kernel, vfioUser })
  const cwd = resolve(options.cwd ?? '.')
  const env = guestEnvironment(options.env ?? process.env, devices)
  const mark = randomBytes(16).toString('hex')
  const initramfs = await buildInitramfs(tools, { command, cwd, env, devices, bind, hugepages, mark })
  if (signal?.aborted) throw aborted(signal)
  onProgress?.({ stage: 'boot', message: `${tools.kernel.image} on ${tools.qemu.path}` })
  return new Guest(options, new Machine(options, tools, devices, initramfs), mark).run()
}

const aborted = (signal: AbortSignal) =>
  new AccelError('ERR_ACCEL_ABORTED', 'the lab run was stopped', { cause: signal.reason })

/** What the rest of the guest needs: its kernel, and a program of Node with its cached files. */
const plainMemoryMiB = 256

function checkHugepages(hugepages: number, memoryMiB: number): void {
  if (2 * hugepages + plainMemoryMiB <= memoryMiB) return
  throw new AccelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `${hugepages} huge pages take ${2 * hugepages} MiB and the rest of the guest ${plainMemoryMiB} MiB, but it has ${memoryMiB} MiB; give it more memory`,
  )
}

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

class Guest {
  readonly #options: LabOptions
  readonly #machine: Machine
  readonly #mark: string
  #log: Buffer[] = []
  #logBytes = 0
  /** The run has its result; how QEMU ends from here on is no news. */
  #over = false

  constructor(options: LabOptions, machine: Machine, mark: string) {
    this.#options = options
    this.#machine = machine
    this.#mark = mark
  }

  async run(): Promise<LabResult> {
    const { signal, limitMs = defaultLimitMs } = this.#options
    const { arguments: command, env, files, traceFile } = this.#machine
    const start = performance.now()
    let child: ChildProcess | undefined
    let timer: NodeJS.Timeout | undefined
    let stop: (() => void) | undefined
    try {
      child = spawnTied(command, {
        env,
        stdio: ['ignore', 'pipe', 'pipe', ...channels.map(() => 'pipe' as const), ...files],
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
        ...(traceFile !== undefined && { trace: readFileSync(traceFile, 'utf8') }),
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
      for (const fd of files) closeSync(fd)
    }
  }

  /** Copies what the guest sends, until it says that the command ended and all of its output has come. */
  async #follow(
    child: ChildProcess,
    end: ReturnType<typeof ended>,
  ): Promise<{ exitCode: number; readyAt: number }> {
    const channel = (name: Channel) => child.stdio[firstChannel + channels.indexOf(name)] as Duplex
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
    const { onMonitor } = this.#options
    const failed = new Promise<never>((_, reject) => {
      // Where QEMU ended before it answered, `died` says it better.
      if (onMonitor)
        Monitor.open(channel('monitor')).then(
          (monitor) => Promise.resolve(monitor).then(onMonitor).catch(reject),
          () => {},
        )
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
    const [exitCode] = await Promise.race([Promise.all([reported, copied]), died, failed])
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
