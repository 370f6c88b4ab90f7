import { Mapping, requireSealed, sys } from '@uaccel/sys'
import { accelError, type CommonClient, type Handle, isAccelError } from '@uaccel/uapi'
import { MemoryViews } from './views.js'

/** Whatever calls the commands that every device answers: a client in the driver's process, or in another. */
export type CommonCaller = Pick<CommonClient, 'common'>

/** A part of a buffer as a job uses it; all of it unless told. */
export interface ClientRange {
  readonly buffer: ClientBuffer
  /** What the device may do with it; default `readwrite`. */
  readonly access?: 'read' | 'write' | 'readwrite'
  readonly offset?: number
  readonly sizeBytes?: number
}

/** A value of a fence, by the handle that `fenceCreate` gave. */
export interface ClientPoint {
  readonly fence: Handle<'fence'>
  readonly value: bigint
}

/** A job as a client writes it; `payload` has a form of the driver. */
export interface ClientJob {
  readonly buffers: readonly ClientRange[]
  readonly payload: Uint8Array
  readonly waits?: readonly ClientPoint[]
}

/** No fence. */
const none = { fence: 0 as Handle<'fence'>, value: 0n }

/** A time of CLOCK_MONOTONIC for waits, so many milliseconds from now. */
export function deadlineIn(timeoutMs: number): bigint {
  return process.hrtime.bigint() + BigInt(Math.ceil(timeoutMs * 1e6))
}

/** A buffer object that is mapped into the client. Its views throw `ERR_ACCEL_REVOKED` once it is destroyed. */
export class ClientBuffer extends MemoryViews {
  readonly handle: Handle<'bo'>
  readonly #client: CommonCaller
  readonly #mapping: Mapping

  /** @internal See `ClientBuffers.create`. */
  constructor(client: CommonCaller, handle: Handle<'bo'>, mapping: Mapping) {
    super(mapping.sizeBytes)
    this.handle = handle
    this.#client = client
    this.#mapping = mapping
  }

  /** Unmaps it here and gives the handle back; what jobs still use is freed when they have ended. Idempotent. */
  async destroy(): Promise<void> {
    if (this.#mapping.revoked) return
    this.#mapping.revoke()
    try {
      await this.#client.common('boDestroy', { handle: this.handle })
    } catch (error) {
      // It went with its open.
      if (!isAccelError(error, 'ERR_ACCEL_CLOSED') && !isAccelError(error, 'ERR_ACCEL_NO_DEVICE')) throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destroy()
  }

  protected override bytes(): Uint8Array {
    if (!this.#mapping.revoked) return this.#mapping.window.u8
    throw accelError('ERR_ACCEL_REVOKED', `Buffer object ${this.handle} was destroyed and then touched`)
  }
}

/** Buffers and jobs of one open of a device, in words of a program. They go with the open. */
export class ClientBuffers {
  readonly #client: CommonCaller
  #fence: Promise<Handle<'fence'>> | undefined
  #submitted = 0n

  constructor(client: CommonCaller) {
    this.#client = client
  }

  /**
   * Makes a buffer object of zeroed memory and maps it; what cannot be mapped is given back. Errors: those of `boCreate` and
   * `boMmap`, `ERR_ACCEL_PROTOCOL` for less memory than was wanted, `ERR_ACCEL_INVALID_ARGUMENT` and `ERR_ACCEL_OUT_OF_RANGE` for a
   * file that could shrink under this program, or is too short.
   */
  async create(sizeBytes: number): Promise<ClientBuffer> {
    const { handle } = await this.#client.common('boCreate', { sizeBytes: BigInt(sizeBytes), flags: {} })
    try {
      return new ClientBuffer(this.#client, handle, await this.#map(handle, sizeBytes))
    } catch (error) {
      // Where that fails too, it goes with the open; what went wrong is the first error.
      await this.#client.common('boDestroy', { handle }).catch(() => {})
      throw error
    }
  }

  async #map(handle: Handle<'bo'>, wantedBytes: number): Promise<Mapping> {
    const { fd, offset, sizeBytes } = await this.#client.common('boMmap', { handle, flags: {} })
    const label = `buffer object ${handle}`
    try {
      if (fd === null) throw noMemory(label, 'no descriptor')
      if (sizeBytes < BigInt(wantedBytes)) throw noMemory(label, `${sizeBytes} bytes of ${wantedBytes}`)
      // The server is another process: a page that it takes away would be SIGBUS here.
      requireSealed(fd, Number(offset + sizeBytes))
      return Mapping.map({ fd, offset: Number(offset), sizeBytes: Number(sizeBytes), label })
    } finally {
      if (fd !== null) sys.close(fd)
    }
  }

  /** Queues a job; `signal` is reached when it has ended. */
  async submit(job: ClientJob, signal: ClientPoint = none): Promise<void> {
    const buffers = job.buffers.map(({ buffer, access = 'readwrite', offset = 0, sizeBytes }) => ({
      handle: buffer.handle,
      access,
      offset: BigInt(offset),
      sizeBytes: BigInt(sizeBytes ?? buffer.sizeBytes - offset),
    }))
    const { payload, waits = [] } = job
    await this.#client.common('submit', { buffers, payload, waits, signal, flags: {} })
  }

  /** Queues a job and waits for it. Rejects with its error, or `ERR_ACCEL_TIMEOUT` after `timeoutMs`, 30,000 unless told: it goes on then. */
  async run(job: ClientJob, { timeoutMs = 30_000 }: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#fence ??= this.#client
      .common('fenceCreate', { initialValue: 0n, flags: {} })
      .then(({ handle }) => handle)
      .catch((error) => {
        // A quota that is used up is no reason to refuse what is run later.
        this.#fence = undefined
        throw error
      })
    const fence = await this.#fence
    // Taken now and submitted in this turn: values of a fence only grow.
    const point = { fence, value: ++this.#submitted }
    await this.submit(job, point)
    const wait = { points: [point], deadlineNs: deadlineIn(timeoutMs), flags: {} }
    // The deadline is the limit: the call has one of its own, which counts from when it is sent.
    await this.#client.common('wait', wait, { timeoutMs: timeoutMs + 1000 })
  }
}

const noMemory = (what: string, found: string) =>
  accelError('ERR_ACCEL_PROTOCOL', `boMmap of ${what} gave ${found}: its server broke the protocol`)

/** The buffers and jobs of an open. */
export function openBuffers(client: CommonCaller): ClientBuffers {
  return new ClientBuffers(client)
}
