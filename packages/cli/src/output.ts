import { isAccelError } from '@uaccel/uapi'
import pc from 'picocolors'

/** What the command's exit code says. */
export const exitCodes = {
  done: { code: 0, meaning: 'done' },
  failed: { code: 1, meaning: 'an error of the device, a file, a value or the system' },
  usage: { code: 2, meaning: 'the command line is not understood' },
  notFound: { code: 3, meaning: 'no such device, driver, register, file or socket' },
} as const

/** Tells an error to a person, on stderr. Answers the exit code. */
export function report(error: unknown): number {
  const colors = pc.createColors(process.stderr.isTTY === true && !process.env.NO_COLOR)
  if (!isAccelError(error)) {
    process.stderr.write(
      `${colors.red('uaccel:')} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    )
    return exitCodes.failed.code
  }
  process.stderr.write(`${colors.red('uaccel:')} ${error.message} ${colors.dim(`(${error.code})`)}\n`)
  return error.code === 'ERR_ACCEL_NOT_FOUND' ? exitCodes.notFound.code : exitCodes.failed.code
}

/** One JSON value on stdout. What may not fit a number, such as an address, is a string like `0xfea00000`. */
export function printJson(value: unknown): void {
  const text = JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? hex(part) : part), 2)
  process.stdout.write(`${text}\n`)
}

/** Something that a person may want to know and a program does not: on stderr. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** 4660 -> `0x1234`. */
export function hex(value: number | bigint, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, '0')}`
}
