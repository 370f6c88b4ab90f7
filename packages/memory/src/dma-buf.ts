import { readFileSync, readlinkSync } from 'node:fs'
import { abi, Mapping, type SystemCalls, sys } from '@uaccel/sys'
import { accelError, isAccelError } from '@uaccel/uapi'

/** _IOW('b', 0, struct dma_buf_sync), a u64 of flags (include/uapi/linux/dma-buf.h). */
const DMA_BUF_IOCTL_SYNC = 0x4008_6200
const DMA_BUF_SYNC_READ = 1 << 0
const DMA_BUF_SYNC_WRITE = 2 << 0
const DMA_BUF_SYNC_END = 1 << 2

/** _IOW('u', 0x42, struct udmabuf_create): u32 memfd, u32 flags, u64 offset, u64 size (include/uapi/linux/udmabuf.h). */
const UDMABUF_CREATE = 0x4018_7542
const udmabufCreateBytes = 24
const UDMABUF_FLAGS_CLOEXEC = 1

/** The exporter's name of host memory that was made a dma-buf (drivers/dma-buf/udmabuf.c). */
const hostMemory = 'udmabuf'

/** What the kernel tells of a dma-buf. */
export interface DmaBufInfo {
  readonly sizeBytes: number
  /** The kernel module that exported it: `vfio_pci_core` for a BAR, `udmabuf` for host memory. */
  readonly exporter: string
}

/**
 * A dma-buf: memory of a device, or of the host, behind a descriptor that kernel drivers and other processes can take.
 * It comes from `device.exportBar()`, from {@link DmaBuffer.exportDmaBuf}, or from another process ({@link DmaBuf.adopt}).
 */
export class DmaBuf implements DmaBufInfo {
  readonly sizeBytes: number
  readonly exporter: string
  readonly #calls: SystemCalls
  readonly #fd: number
  readonly #unmaps = new Set<() => void>()
  #cpu: Mapping | undefined
  #closed = false

  private constructor(calls: SystemCalls, fd: number, { sizeBytes, exporter }: DmaBufInfo) {
    this.#calls = calls
    this.#fd = fd
    this.sizeBytes = sizeBytes
    this.exporter = exporter
  }

  /**
   * Takes a descriptor over, from another process too; where it throws, the descriptor stays the caller's.
   * `ERR_ACCEL_INVALID_ARGUMENT` for what is no dma-buf.
   */
  static adopt(fd: number, calls: SystemCalls = sys): DmaBuf {
    return new DmaBuf(calls, fd, inspect(fd))
  }

  /** Stays this object's: pass it to another process, or duplicate it, but do not close it. `ERR_ACCEL_REVOKED` after {@link close}. */
  get fd(): number {
    if (this.#closed)
      throw accelError('ERR_ACCEL_REVOKED', `a dma-buf of ${this.exporter} was closed and then used`)
    return this.#fd
  }

  /** Registers what takes a mapping of this memory back; {@link DmaDomain} does. Answers a function that unregisters. */
  onDestroy(unmap: () => void): () => void {
    this.#unmaps.add(unmap)
    return () => void this.#unmaps.delete(unmap)
  }

  /**
   * Has `work` see the memory, with the kernel told of it before and after, as other devices may hold parts in caches
   * of theirs. The bytes are not to be kept. Only for host memory: a device's can vanish under the processor, which ends
   * the process (SIGBUS). `ERR_ACCEL_UNSUPPORTED` for others.
   */
  cpuAccess<T>(access: 'read' | 'write' | 'readwrite', work: (bytes: Uint8Array) => T): T {
    const { fd } = this
    if (this.exporter !== hostMemory) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `a dma-buf of ${this.exporter} was to be mapped for the processor: only host memory (${hostMemory}) is, as others may vanish ` +
          'under it. Map a BAR through its device, with mapMemory()',
      )
    }
    this.#cpu ??= Mapping.map(
      { fd, offset: 0, sizeBytes: this.sizeBytes, label: `dma-buf of ${this.exporter}` },
      this.#calls,
    )
    const read = access === 'write' ? 0 : DMA_BUF_SYNC_READ
    const write = access === 'read' ? 0 : DMA_BUF_SYNC_WRITE
    this.#sync(read | write)
    try {
      return work(this.#cpu.window.u8)
    } finally {
      this.#sync(read | write | DMA_BUF_SYNC_END)
    }
  }

  /** Unmaps it from every domain of this process, then gives the descriptor back. Others that hold one keep the memory. Idempotent. */
  close(): void {
    if (this.#closed) return
    const errors: unknown[] = []
    for (const unmap of [...this.#unmaps]) {
      try {
        unmap()
      } catch (error) {
        errors.push(error)
      }
    }
    this.#closed = true
    this.#cpu?.revoke()
    this.#calls.close(this.#fd)
    if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #sync(flags: number): void {
    const request = Buffer.alloc(8)
    request.writeUInt32LE(flags, 0)
    this.#calls.ioctl(this.#fd, DMA_BUF_IOCTL_SYNC, request, 'DMA_BUF_IOCTL_SYNC')
  }
}

/** Makes a dma-buf of a sealed memfd. Errors as for {@link DmaBuffer.exportDmaBuf}. */
export function createUdmabuf(memfd: number, sizeBytes: number, calls: SystemCalls = sys): DmaBuf {
  checkLimit(sizeBytes)
  const device = openUdmabuf(calls)
  try {
    const request = Buffer.alloc(udmabufCreateBytes)
    request.writeUInt32LE(memfd, 0)
    request.writeUInt32LE(UDMABUF_FLAGS_CLOEXEC, 4)
    request.writeBigUInt64LE(BigInt(sizeBytes), 16)
    const fd = calls.ioctl(device, UDMABUF_CREATE, request, `UDMABUF_CREATE of ${sizeBytes} bytes`)
    try {
      return DmaBuf.adopt(fd, calls)
    } catch (error) {
      calls.close(fd)
      throw error
    }
  } finally {
    calls.close(device)
  }
}

/** As {@link dmaBufInfo}, for what has to be one. */
function inspect(fd: number): DmaBufInfo {
  const found = dmaBufInfo(fd)
  if (found !== undefined) return found
  const target = readlinkSync(`/proc/self/fd/${fd}`)
  throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `descriptor ${fd} was to be a dma-buf, and is ${target}`, {
    details: { target },
  })
}

/**
 * What a descriptor is, read from /proc/self, as only the kernel writes there; `undefined` for what is no dma-buf. The file behind it is
 * not touched, so that nobody's file system is waited for. `ERR_ACCEL_INVALID_ARGUMENT` where it is not open.
 */
export function dmaBufInfo(fd: number): DmaBufInfo | undefined {
  try {
    return decodeDmaBuf(readlinkSync(`/proc/self/fd/${fd}`), readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))
  } catch (cause) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${fd} was to be a dma-buf, and is no open descriptor`, {
      cause,
    })
  }
}

/**
 * What /proc/self/fd and fdinfo say of a dma-buf: `/dmabuf:` in a file system of its own, and the lines that
 * dma_buf_show_fdinfo writes (drivers/dma-buf/dma-buf.c). A name that somebody gave it comes last in both.
 */
export function decodeDmaBuf(target: string, info: string): DmaBufInfo | undefined {
  const [, size, exporter] = /^size:\t(\d+)\ncount:\t\d+\nexp_name:\t(.+)$/m.exec(info) ?? []
  const sizeBytes = Number(size)
  if (
    !target.startsWith('/dmabuf:') ||
    exporter === undefined ||
    !Number.isSafeInteger(sizeBytes) ||
    sizeBytes <= 0
  )
    return undefined
  return { sizeBytes, exporter }
}

function checkLimit(sizeBytes: number): void {
  const parameter = '/sys/module/udmabuf/parameters/size_limit_mb'
  let limitBytes: number
  try {
    limitBytes = Number(readFileSync(parameter, 'utf8')) * 2 ** 20
  } catch {
    return // the device node, or its absence, answers
  }
  if (!(sizeBytes > limitBytes)) return
  throw accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `a dma-buf of ${sizeBytes} bytes of host memory: the kernel makes at most ${limitBytes}. Export parts, or raise it: ` +
      `\`echo ${Math.ceil(sizeBytes / 2 ** 20)} > ${parameter}\``,
    { details: { sizeBytes, limitBytes } },
  )
}

function openUdmabuf(calls: SystemCalls): number {
  const path = '/dev/udmabuf'
  try {
    return calls.open(path, abi.O_RDWR)
  } catch (cause) {
    if (isAccelError(cause, 'ERR_ACCEL_NOT_FOUND')) {
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${path} is not there, which makes dma-bufs of host memory: as root \`modprobe udmabuf\`, or a kernel with CONFIG_UDMABUF`,
        { cause, details: { path } },
      )
    }
    if (isAccelError(cause, 'ERR_ACCEL_PERMISSION')) {
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `no right to open ${path}, which makes dma-bufs of host memory. Give it to this user, as root: \`chown USER ${path}\``,
        { cause, details: { path } },
      )
    }
    throw cause
  }
}
