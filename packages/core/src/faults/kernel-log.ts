import { closeSync, constants, openSync, readSync } from 'node:fs'
import { accelError } from '@uaccel/uapi'
import { type IommuFault, parseIommuFault } from './iommu-faults.js'

/** A line of the kernel's log. */
export interface KernelLine {
  /** Since boot, in microseconds. */
  readonly atUs: number
  readonly text: string
}

/** The longest record (CONSOLE_EXT_LOG_MAX of include/linux/console.h; larger ones are refused with EINVAL). */
const RECORD_BYTES = 8192
/** What a ring of the largest size holds at most (CONFIG_LOG_BUF_SHIFT, 25). */
const MAX_RECORDS = 1 << 20

/**
 * The kernel's log, oldest first (Documentation/ABI/testing/dev-kmsg). `ERR_ACCEL_PERMISSION` for a user who may not read it,
 * `ERR_ACCEL_UNSUPPORTED` where there is none.
 */
export function readKernelLog(path = '/dev/kmsg'): KernelLine[] {
  const fd = open(path)
  const record = Buffer.alloc(RECORD_BYTES)
  const lines: KernelLine[] = []
  try {
    for (let i = 0; i < MAX_RECORDS; i++) {
      let size: number
      try {
        size = readSync(fd, record)
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'EPIPE') continue // overwritten while it was read: the next one is there
        if (code === 'EAGAIN') break
        throw error
      }
      if (size === 0) break
      const line = parseRecord(record.toString('utf8', 0, size))
      if (line !== undefined) lines.push(line)
    }
  } catch (cause) {
    throw accelError('ERR_ACCEL_IO', `${path} cannot be read to its end: ${(cause as Error).message}`, {
      cause,
    })
  } finally {
    closeSync(fd)
  }
  return lines
}

function open(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'EPERM' || code === 'EACCES') {
      throw accelError(
        'ERR_ACCEL_PERMISSION',
        `This user may not read the kernel's log (${path}), where IOMMU faults are: run this as root, or \`sysctl kernel.dmesg_restrict=0\``,
        { cause },
      )
    }
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${path} cannot be opened (${code}): there is no log of the kernel here`,
      { cause },
    )
  }
}

/** `priority,number,microseconds,flags;text`, and lines of properties that begin with a space. */
function parseRecord(record: string): KernelLine | undefined {
  const match = /^\d+,\d+,(\d+),[^;]*;([^\n]*)/.exec(record)
  return match ? { atUs: Number(match[1]), text: match[2]! } : undefined
}

/** A fault, and when the kernel logged it. */
export interface LoggedFault extends IommuFault, Pick<KernelLine, 'atUs'> {
  /** As the kernel wrote it. */
  readonly line: string
}

/** The IOMMU faults in a log, of one device or of all. Rate limits of the kernel leave some out when there are many. */
export function iommuFaultsIn(lines: readonly KernelLine[], device?: string): LoggedFault[] {
  return lines.flatMap(({ atUs, text }) => {
    const fault = parseIommuFault(text)
    return fault !== undefined && (device === undefined || fault.device === device)
      ? [{ ...fault, atUs, line: text }]
      : []
  })
}
