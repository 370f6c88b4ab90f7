import { mkdirSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Device } from '@uaccel/core'
import { TraceRing } from '@uaccel/trace'
import { accelError, SYSTEM_NODE_FOLDER } from '@uaccel/uapi'
import type { AnyDriver } from './driver.js'
import type { Open } from './open.js'
import type { NodeRecord } from './record.js'

/** What tracing needs of its node. */
export interface TracingHost {
  readonly name: string
  readonly driver: AnyDriver
  /** For people: which device it is. */
  readonly title: string
  readonly record: NodeRecord
  /** The device that is up now. */
  device(): Device | undefined
  /** Where to trace from the first access on, as long as the node is there. */
  readonly file: string | undefined
  /** Where to trace on demand. */
  readonly folder: string | undefined
}

/** The trace of a node: into a file of its program's choice, or while anybody wants it. */
export class NodeTracing {
  readonly #host: TracingHost
  readonly #users = new Set<Open>()
  #ring: TraceRing | undefined
  #stop: (() => void) | undefined

  /** Errors as for `TraceRing.create`. */
  constructor(host: TracingHost) {
    this.#host = host
    if (host.file !== undefined) this.#begin(host.file)
  }

  /** A device was made; it is followed from its first access on, where anything is traced. */
  adopt<D extends Device>(device: D): D {
    this.#stop = this.#ring && device.follow(this.#ring)
    return device
  }

  /** Traces at least until the open leaves. Answers a descriptor to read the ring by, and where its file is. `ERR_ACCEL_BUSY` where its driver follows the device itself. */
  join(open: Open): { readonly fd: number; readonly path: string } {
    const ring = this.#ring ?? this.#begin(this.#place())
    try {
      const fd = openSync(ring.path, 'r')
      this.#users.add(open)
      return { fd, path: ring.path }
    } catch (cause) {
      this.#endUnused()
      throw accelError('ERR_ACCEL_IO', `The trace of ${this.#host.name} cannot be opened: ${cause}`, {
        cause,
      })
    }
  }

  /** The open is closed. */
  leave(open: Open): void {
    if (this.#users.delete(open)) this.#endUnused()
  }

  /** The node is gone. */
  close(): void {
    this.#users.clear()
    this.#end()
  }

  #begin(path: string): TraceRing {
    const { name, driver, title, record } = this.#host
    const ring = TraceRing.create(path)
    ring.name({ device: `${name}: ${title}`, driver: driver.name })
    const commands = Object.values(driver.uapi.commands).map((command) => [command.name, command.number])
    ring.name({ commands: Object.fromEntries(commands) })
    this.#ring = ring
    record.trace = ring
    try {
      this.#stop = this.#host.device()?.follow(ring)
    } catch (error) {
      this.#end() // the driver follows it itself
      throw error
    }
    return ring
  }

  #place(): string {
    const { name, folder = ownFolder() } = this.#host
    const path = join(folder, `${name}.trace`)
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
    return path
  }

  #endUnused(): void {
    if (this.#users.size === 0 && this.#host.file === undefined) this.#end()
  }

  #end(): void {
    this.#host.record.trace = undefined
    this.#stop?.()
    this.#stop = undefined
    this.#ring?.close({ remove: this.#host.file === undefined })
    this.#ring = undefined
  }
}

/** Where this user's programs put what they share with others. */
function ownFolder(): string {
  const own = process.env.XDG_RUNTIME_DIR
  if (process.geteuid?.() === 0) return SYSTEM_NODE_FOLDER
  if (own) return join(own, 'uaccel')
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    'There is no folder for a trace: set XDG_RUNTIME_DIR, give `traceFolder`, or trace into a file by UACCEL_TRACE',
  )
}

/** The variable that names a file to trace into. */
export const TRACE_VARIABLE = 'UACCEL_TRACE'

/** The file that the environment names for a device: as it stands for accel0, with `.accel1` behind it for accel1. */
export function traceFile(minor: number): string | undefined {
  const path = process.env[TRACE_VARIABLE]
  if (!path) return undefined
  return minor === 0 ? path : `${path}.accel${minor}`
}
