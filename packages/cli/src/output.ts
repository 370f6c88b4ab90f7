import { type AccelError, isAccelError } from '@uaccel/uapi'
import pc from 'picocolors'
import { COLUMNS, clean } from './text.js'

export type Colors = ReturnType<typeof pc.createColors>

/** What the command's exit code says. */
export const exitCodes = {
  done: { code: 0, meaning: 'done' },
  failed: { code: 1, meaning: 'an error of the device, a file, a value or the system' },
  usage: { code: 2, meaning: 'the command line is not understood' },
  notFound: { code: 3, meaning: 'no such device, node, driver, register, file or socket' },
  gone: { code: 4, meaning: 'the device went away, or its server did' },
} as const

/** Tells an error to a person, on stderr. Answers the exit code. */
export function report(error: unknown): number {
  const colors = colorsOf(process.stderr)
  if (!isAccelError(error)) {
    process.stderr.write(
      `${colors.red('uaccel:')} ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    )
    return exitCodes.failed.code
  }
  process.stderr.write(
    `${colors.red('uaccel:')} ${harmless(error.message)} ${colors.dim(`(${error.code})`)}\n`,
  )
  return exitCodeOf(error)
}

/** The exit code of an error of the table. */
export function exitCodeOf({ code }: AccelError): number {
  if (code === 'ERR_ACCEL_NOT_FOUND') return exitCodes.notFound.code
  return code === 'ERR_ACCEL_NO_DEVICE' ? exitCodes.gone.code : exitCodes.failed.code
}

/** Messages may hold what others said: lines stay, what a terminal would obey does not. */
export const harmless = (text: string) => text.split('\n').map(clean).join('\n')

/** Colours, where the stream is a terminal that wants them: neither NO_COLOR (no-color.org) nor `--no-color` is given. */
export function colorsOf(stream: NodeJS.WriteStream): Colors {
  return pc.createColors(
    stream.isTTY === true &&
      !process.env.NO_COLOR &&
      process.env.TERM !== 'dumb' &&
      !process.argv.includes('--no-color'),
  )
}

/** Columns for what goes to stdout: a terminal that was never told its size says 0, and what is no terminal nothing. */
export const columnsOfStdout = (): number => process.stdout.columns || COLUMNS

/** The option that {@link colorsOf} looks at. */
export const noColor = [
  '--no-color',
  'no colours, as with NO_COLOR; there are none but on a terminal',
] as const

/** A JSON object on stdout, of a form that is named: fields may be added to it, and never change their meaning. */
export function printSchema(schema: JsonSchema, value: object, indent = 2): void {
  process.stdout.write(`${JSON.stringify({ schema, ...value }, undefined, indent)}\n`)
}

/** The forms that there are (docs/cli.md). */
export type JsonSchema =
  `uaccel.${'info' | 'nodes' | 'query' | 'events' | 'attributes' | 'trace' | 'infer'}/1`

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
