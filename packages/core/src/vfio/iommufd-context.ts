import { accelError, isAccelError } from '@uaccel/uapi'
import type { VfioCalls } from './calls.js'
import * as iommufd from './iommufd-abi.js'

/** An open `/dev/iommu`. Its objects are known by number, and go with it. */
export class IommufdContext {
  readonly calls: VfioCalls
  readonly #fd: number
  #closed = false

  constructor(calls: VfioCalls, fd: number) {
    this.calls = calls
    this.#fd = fd
  }

  /** `ERR_ACCEL_NO_DEVICE` once it is closed: what it mapped is unmapped then. */
  get fd(): number {
    if (this.#closed)
      throw accelError(
        'ERR_ACCEL_NO_DEVICE',
        'the iommufd context was closed with the last device of its group',
      )
    return this.#fd
  }

  /** Makes a request, whose first word is its size. */
  ioctl(request: number, argument: Buffer, what: string): void {
    argument.writeUInt32LE(argument.length, 0)
    this.calls.ioctl(this.fd, request, argument, what)
  }

  /** A new I/O address space. */
  allocSpace(): number {
    const request = Buffer.alloc(iommufd.ioasAllocBytes)
    this.ioctl(iommufd.IOMMU_IOAS_ALLOC, request, 'IOMMU_IOAS_ALLOC')
    return request.readUInt32LE(8)
  }

  destroy(id: number, what: string): void {
    const request = Buffer.alloc(iommufd.destroyBytes)
    request.writeUInt32LE(id, 4)
    try {
      this.ioctl(iommufd.IOMMU_DESTROY, request, `IOMMU_DESTROY of ${what}`)
    } catch (cause) {
      if (!isAccelError(cause, 'ERR_ACCEL_BUSY')) throw cause
      throw accelError(
        'ERR_ACCEL_BUSY',
        `${what} was to be closed, and a device or page table still uses it`,
        { cause },
      )
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.calls.close(this.#fd)
  }
}

/** Errnos of a request, or a part of one, that this kernel or IOMMU does not have (the head of linux/iommufd.h). */
const unknownErrnos = ['ENOTTY', 'EOPNOTSUPP', 'ENOTSUP', 'E2BIG']

/** Runs a request that not every kernel and IOMMU can do. */
export function probed<T>(request: () => T, lacking: string, errnos: readonly string[] = []): T {
  try {
    return request()
  } catch (cause) {
    if (!isAccelError(cause) || ![...unknownErrnos, ...errnos].includes(cause.errno ?? '')) throw cause
    throw accelError('ERR_ACCEL_UNSUPPORTED', `${lacking} (${cause.errno})`, { cause })
  }
}
