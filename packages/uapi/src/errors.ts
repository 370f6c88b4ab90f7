/** The one table of errors. Numbers travel between processes: append-only, never reused. */
export const errorTable = {
  ERR_ACCEL_INVALID_ARGUMENT: {
    number: 1,
    errno: 'EINVAL',
    meaning: 'An argument is not of the form that the call takes.',
  },
  ERR_ACCEL_OUT_OF_RANGE: {
    number: 2,
    errno: 'ERANGE',
    meaning: 'A value, offset or length lies outside what is allowed.',
  },
  ERR_ACCEL_NOT_FOUND: {
    number: 3,
    errno: 'ENOENT',
    meaning: 'A device, file, driver or tool is not there.',
  },
  ERR_ACCEL_PERMISSION: { number: 4, errno: 'EACCES', meaning: 'The system refuses this user the access.' },
  ERR_ACCEL_BUSY: { number: 5, errno: 'EBUSY', meaning: 'Somebody else holds the device or resource.' },
  ERR_ACCEL_NO_MEMORY: {
    number: 6,
    errno: 'ENOMEM',
    meaning: 'Memory, or the right to lock it, is used up.',
  },
  ERR_ACCEL_UNSUPPORTED: {
    number: 7,
    errno: 'EOPNOTSUPP',
    meaning: 'The platform, device or peer cannot do this.',
  },
  ERR_ACCEL_SYSTEM: {
    number: 8,
    errno: 'EIO',
    meaning: 'A system call failed; `syscall` and `errno` name it.',
  },
  ERR_ACCEL_TIMEOUT: { number: 9, errno: 'ETIMEDOUT', meaning: 'Something did not happen within its limit.' },
  ERR_ACCEL_ABORTED: {
    number: 10,
    errno: 'ECANCELED',
    meaning: 'The caller withdrew the request (AbortSignal).',
  },
  ERR_ACCEL_NO_DEVICE: {
    number: 11,
    errno: 'ENODEV',
    meaning: 'The device is gone: removed, lost, or its driver released it.',
  },
  ERR_ACCEL_REVOKED: { number: 12, errno: 'ENODEV', meaning: 'A mapping was taken back and then touched.' },
  ERR_ACCEL_CLOSED: { number: 13, errno: 'ESHUTDOWN', meaning: 'The peer, file or object was closed.' },
  ERR_ACCEL_PROTOCOL: { number: 14, errno: 'EPROTO', meaning: 'A peer broke the protocol.' },
  ERR_ACCEL_IO: { number: 15, errno: 'EIO', meaning: 'The device answered with an error.' },
  ERR_ACCEL_DMA_FAULT: {
    number: 16,
    errno: 'EFAULT',
    meaning: 'A device reached for memory outside its mappings.',
  },
  ERR_ACCEL_BAD_ACCESS: {
    number: 17,
    errno: 'EFAULT',
    meaning: 'A register access of undeclared offset, width or kind.',
  },
  ERR_ACCEL_WRONG_DRIVER: {
    number: 18,
    errno: 'EBUSY',
    meaning: 'The device is bound to another kernel driver.',
  },
  ERR_ACCEL_GROUP_NOT_VIABLE: {
    number: 19,
    errno: 'EPERM',
    meaning: 'Other devices of the IOMMU group are held by kernel drivers.',
  },
  ERR_ACCEL_NO_IOMMU: { number: 20, errno: 'ENODEV', meaning: 'The device stands behind no IOMMU.' },
  ERR_ACCEL_MEMLOCK: { number: 21, errno: 'ENOMEM', meaning: 'RLIMIT_MEMLOCK is too small for the mapping.' },
  ERR_ACCEL_MAPPING_LIMIT: {
    number: 22,
    errno: 'ENOSPC',
    meaning: 'The container holds as many DMA mappings as it can.',
  },
  ERR_ACCEL_NO_IOVA: {
    number: 23,
    errno: 'ENOSPC',
    meaning: 'No free I/O address range of that size and alignment.',
  },
  ERR_ACCEL_NO_DRIVER: { number: 24, errno: 'ENODEV', meaning: 'No registered driver matches the device.' },
  ERR_ACCEL_PROBE_FAILED: {
    number: 25,
    errno: 'EIO',
    meaning: "The driver's probe threw; `cause` is what it threw.",
  },
  ERR_ACCEL_UNKNOWN_COMMAND: {
    number: 26,
    errno: 'ENOTTY',
    meaning: 'The driver has no command of that number or name.',
  },
  ERR_ACCEL_BAD_SIZE: {
    number: 27,
    errno: 'EINVAL',
    meaning: 'A command argument is shorter or longer than its layout allows.',
  },
  ERR_ACCEL_BAD_FLAGS: {
    number: 28,
    errno: 'EINVAL',
    meaning: 'Flag bits are set that this version does not know.',
  },
  ERR_ACCEL_RESERVED: { number: 29, errno: 'EINVAL', meaning: 'A reserved or unknown field is not zero.' },
  ERR_ACCEL_VERSION: { number: 30, errno: 'EPROTONOSUPPORT', meaning: 'The two sides share no version.' },
  ERR_ACCEL_FIRMWARE: {
    number: 31,
    errno: 'ENOENT',
    meaning: 'A firmware file is missing or has another digest.',
  },
  ERR_ACCEL_WEDGED: { number: 32, errno: 'EIO', meaning: 'The device did not come back from a reset.' },
  ERR_ACCEL_CORRUPT_MODEL: {
    number: 33,
    errno: 'EILSEQ',
    meaning: 'An ONNX file is truncated, malformed or inconsistent.',
  },
  ERR_ACCEL_UNSUPPORTED_OPERATOR: {
    number: 34,
    errno: 'EOPNOTSUPP',
    meaning: 'A graph uses an operator, or a form of it, that is not implemented.',
  },
  ERR_ACCEL_INVALID_SHAPE: {
    number: 35,
    errno: 'EINVAL',
    meaning: "A tensor's shape or type is not the one that the graph takes.",
  },
  ERR_ACCEL_DEADLOCK: {
    number: 36,
    errno: 'EDEADLK',
    meaning: 'The call would wait for something that only its own thread can do.',
  },
  ERR_ACCEL_AGAIN: {
    number: 37,
    errno: 'EAGAIN',
    meaning:
      'Not now: the device is in reset or being cleaned, or as much is under way as may be. Try again.',
  },
} as const

/** A code of the error table. */
export type ErrorCode = keyof typeof errorTable

const codes = new Map<number, ErrorCode>(
  Object.entries(errorTable).map(([code, { number }]) => [number, code as ErrorCode]),
)

/** The code that travels as `number`; `undefined` for one that this version does not know. */
export function errorCode(number: number): ErrorCode | undefined {
  return codes.get(number)
}

/** What an {@link AccelError} carries besides code and message. */
export interface ErrorExtras {
  cause?: unknown
  /** Name of the kernel's errno, such as `EBUSY`. Absent where no system call failed. */
  errno?: string
  /** The system call that failed. */
  syscall?: string
  /** Facts for programs: offsets, names, limits. */
  details?: Readonly<Record<string, unknown>>
}

/** Every error that uaccel throws on purpose. The message says what was wanted, what was found and what to do. */
export class AccelError extends Error {
  readonly code: ErrorCode
  readonly errno: string | undefined
  readonly syscall: string | undefined
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(code: ErrorCode, message: string, extras: ErrorExtras = {}) {
    super(message, 'cause' in extras ? { cause: extras.cause } : undefined)
    this.name = 'AccelError'
    this.code = code
    this.errno = extras.errno
    this.syscall = extras.syscall
    this.details = extras.details
  }

  /** The number by which the code travels between processes. */
  get number(): number {
    return errorTable[this.code].number
  }
}

/** Short form of `new AccelError(...)`. */
export function accelError(code: ErrorCode, message: string, extras?: ErrorExtras): AccelError {
  return new AccelError(code, message, extras)
}

/** True for an {@link AccelError}, with that code where one is given. */
export function isAccelError(error: unknown, code?: ErrorCode): error is AccelError {
  return error instanceof AccelError && (code === undefined || error.code === code)
}
