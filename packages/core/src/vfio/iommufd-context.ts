import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
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

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.calls.close(this.#fd)
  }
}

/** An object of a context. The kernel gives its number out again once it is destroyed: nothing may use it then. */
export class IommufdObject {
  readonly context: IommufdContext
  readonly #id: number
  readonly #what: string
  readonly #forget: () => void
  #closed = false

  /** @param what For errors, such as `a page table`. */
  constructor(context: IommufdContext, id: number, what: string, forget: () => void) {
    this.context = context
    this.#id = id
    this.#what = what
    this.#forget = forget
  }

  /** `ERR_ACCEL_CLOSED` after {@link close}. */
  get id(): number {
    if (this.#closed)
      throw accelError('ERR_ACCEL_CLOSED', `${this.#what} of iommufd was closed and then used`)
    return this.#id
  }

  /** For a request in that context. Errors as for {@link id}, and `ERR_ACCEL_INVALID_ARGUMENT` for another than its own. */
  idIn(context: IommufdContext): number {
    if (context === this.context) return this.id
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `${this.#what} of another iommufd context was to be used, where its number means something else: only the devices of one ` +
        'group share a context',
    )
  }

  /** `ERR_ACCEL_BUSY` while something uses it. Idempotent. */
  close(): void {
    if (this.#closed) return
    const request = Buffer.alloc(iommufd.destroyBytes)
    request.writeUInt32LE(this.#id, 4)
    try {
      this.context.ioctl(iommufd.IOMMU_DESTROY, request, `IOMMU_DESTROY of ${this.#what}`)
    } catch (cause) {
      if (isAccelError(cause, 'ERR_ACCEL_BUSY')) throw this.busy(cause)
      // With its context it is gone.
      if (!isAccelError(cause, 'ERR_ACCEL_NO_DEVICE')) throw cause
    }
    this.#closed = true
    this.#forget()
  }

  busy(cause?: unknown): AccelError {
    const message = `${this.#what} was to be closed, and a device or page table still uses it`
    return accelError('ERR_ACCEL_BUSY', message, { ...(cause === undefined ? {} : { cause }) })
  }
}

/** Closes objects in turn, and answers those that cannot be closed, as something uses them. */
export function closeAll<T extends { close(): void }>(objects: readonly T[]): T[] {
  return objects.filter((object) => {
    try {
      object.close()
      return false
    } catch {
      return true
    }
  })
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
