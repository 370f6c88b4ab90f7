import type { ClientBuffer, ClientBuffers } from '@uaccel/client'
import { encodeSteps } from '@uaccel/driver-nvme/uapi'
import { accelError } from '@uaccel/uapi'
import type { NvmeDevice } from './device.js'

/** Bytes that can be read from any place: a disk, or in tests memory. */
export interface ByteSource {
  readonly sizeBytes: number
  /** A copy. `ERR_ACCEL_OUT_OF_RANGE` beyond the end. */
  read(offset: number, sizeBytes: number): Promise<Uint8Array>
}

export interface NamespaceOptions {
  /** Its number; default the first that the driver reads. */
  readonly nsid?: number | undefined
  /** Reads under way at most. Default 16. */
  readonly depth?: number
  /** Lines of 64 KiB that are kept. Default 256: 16 MiB. */
  readonly lines?: number
}

/** What is read at once: a multiple of every block size that the driver takes. */
const LINE_BYTES = 64 * 1024

/** A namespace of an NVMe controller as bytes, behind a cache of the lines that were used last. Its memory goes with the open. */
export class NamespaceReader implements ByteSource {
  readonly nsid: number
  readonly sizeBytes: number
  /** Reads that went to the device. */
  reads = 0
  /** The most that were under way at once. */
  mostAtOnce = 0
  readonly #buffers: ClientBuffers
  readonly #blockBytes: number
  /** A line for each read under way. */
  readonly #buffer: ClientBuffer
  readonly #free: number[]
  readonly #waiting: (() => void)[] = []
  readonly #depth: number
  readonly #most: number
  /** By number, in the order of their last use; those under way too. */
  readonly #lines = new Map<number, Promise<Uint8Array>>()

  private constructor(
    buffers: ClientBuffers,
    { nsid, blocks, blockBytes }: { nsid: number; blocks: bigint; blockBytes: number },
    buffer: ClientBuffer,
    depth: number,
    lines: number,
  ) {
    this.#buffers = buffers
    this.nsid = nsid
    this.sizeBytes = Number(blocks) * blockBytes
    this.#blockBytes = blockBytes
    this.#buffer = buffer
    this.#depth = depth
    this.#free = Array.from({ length: depth }, (_, i) => i)
    this.#most = lines
  }

  /** `ERR_ACCEL_NOT_FOUND` where the controller has no such namespace, or none that the driver reads. */
  static async open(
    { client, buffers }: NvmeDevice,
    options: NamespaceOptions = {},
  ): Promise<NamespaceReader> {
    const { nsid, depth = 16, lines = 256 } = options
    const after = nsid === undefined ? 0 : nsid - 1
    const { namespaces } = await client.call('namespaces', { after })
    const found = namespaces.find((each) => each.usable && (nsid === undefined || each.nsid === nsid))
    if (found === undefined) {
      const there = namespaces.map(
        (each) => `${each.nsid}${each.usable ? '' : ' (of a form that it does not read)'}`,
      )
      throw accelError(
        'ERR_ACCEL_NOT_FOUND',
        `Wanted ${nsid === undefined ? 'a namespace' : `namespace ${nsid}`} that the driver reads; ` +
          `the controller has ${there.join(', ') || 'none'}${after > 0 ? ` from ${nsid} on` : ''}`,
      )
    }
    return new NamespaceReader(buffers, found, await buffers.create(depth * LINE_BYTES), depth, lines)
  }

  async read(offset: number, sizeBytes: number): Promise<Uint8Array> {
    if (!(offset >= 0 && sizeBytes >= 0 && offset + sizeBytes <= this.sizeBytes)) {
      throw accelError(
        'ERR_ACCEL_OUT_OF_RANGE',
        `A read of ${sizeBytes} bytes from ${offset} on goes beyond the ${this.sizeBytes} bytes of namespace ${this.nsid}`,
      )
    }
    const result = new Uint8Array(sizeBytes)
    const first = Math.floor(offset / LINE_BYTES)
    const count = sizeBytes === 0 ? 0 : Math.floor((offset + sizeBytes - 1) / LINE_BYTES) - first + 1
    await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const at = (first + i) * LINE_BYTES
        const line = await this.#line(first + i)
        const from = Math.max(offset, at)
        const part = line.subarray(from - at, offset + sizeBytes - at)
        result.set(part, from - offset)
      }),
    )
    return result
  }

  #line(number: number): Promise<Uint8Array> {
    const known = this.#lines.get(number)
    const line = known ?? this.#fetch(number)
    this.#lines.delete(number)
    this.#lines.set(number, line)
    if (known !== undefined) return line
    if (this.#lines.size > this.#most) this.#lines.delete(this.#lines.keys().next().value!)
    line.catch(() => {
      if (this.#lines.get(number) === line) this.#lines.delete(number) // the next try may go better
    })
    return line
  }

  async #fetch(number: number): Promise<Uint8Array> {
    while (this.#free.length === 0) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    const slot = this.#free.pop()!
    this.reads++
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#depth - this.#free.length)
    try {
      const from = slot * LINE_BYTES
      const sizeBytes = Math.min(LINE_BYTES, this.sizeBytes - number * LINE_BYTES)
      const lba = (number * LINE_BYTES) / this.#blockBytes
      const blocks = sizeBytes / this.#blockBytes
      await this.#buffers.run({
        buffers: [{ buffer: this.#buffer, access: 'write', offset: from, sizeBytes }],
        payload: encodeSteps([{ operation: 'read', nsid: this.nsid, buffer: 0, lba, blocks }]),
      })
      return this.#buffer.u8.slice(from, from + sizeBytes)
    } finally {
      this.#free.push(slot)
      this.#waiting.shift()?.()
    }
  }
}
