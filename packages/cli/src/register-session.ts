import type { RegisterEntry, Transport } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import { hex } from './output.js'
import {
  type Found,
  find,
  findReadable,
  type Maps,
  parseValue,
  readDecoded,
  readingText,
  readRegister,
  requireAccess,
  writeRegister,
} from './register-access.js'

/** An access that was made, for the history. */
interface Done {
  readonly at: Date
  /** What makes it again: `read ID`. */
  readonly command: string
  /** What came of it: `ID = 0x010000ed  ...`. */
  readonly text: string
}

interface Verb {
  readonly usage: string
  readonly meaning: string
  /** Answers what is to be printed. */
  run(words: readonly string[]): string | Promise<string>
}

/** The longest `sleep`. */
const MAX_SLEEP_MS = 3_600_000

/** Commands on registers, one a line: those of `uaccel reg shell`, and of scripts. Reads and writes are kept, with their times. */
export class RegisterSession {
  readonly verbs: Readonly<Record<string, Verb>>
  readonly #target: string
  readonly #transport: Transport
  readonly #maps: Maps
  readonly #done: Done[] = []
  #wake = () => {}

  constructor(target: string, transport: Transport, maps: Maps) {
    this.#target = target
    this.#transport = transport
    this.#maps = maps
    this.verbs = {
      read: { usage: 'read NAME...', meaning: 'read registers, in order', run: (names) => this.#read(names) },
      write: {
        usage: 'write NAME VALUE',
        meaning: 'write one; VALUE is a number, or field=value,... of which the other fields stay',
        run: (words) => this.#write(words),
      },
      list: {
        usage: 'list [PART]',
        meaning: 'registers whose name has PART in it',
        run: ([part]) => this.#list(part),
      },
      fields: { usage: 'fields NAME', meaning: 'fields of a register', run: (words) => this.#fields(words) },
      sleep: { usage: 'sleep MS', meaning: 'wait', run: (words) => this.#sleep(words) },
      history: {
        usage: 'history',
        meaning: 'what was read and written, and when',
        run: () => this.history(),
      },
    }
  }

  /** Ends a `sleep` early. */
  wake(): void {
    this.#wake()
  }

  /** Names of all registers. */
  get names(): string[] {
    return Object.values(this.#maps).flatMap(({ entries }) => entries.map(({ name }) => name))
  }

  /** Does what a line says. Answers what is to be printed; nothing for an empty line or one that begins with #. */
  async execute(line: string): Promise<string> {
    const [word = '', ...words] = line.replace(/#.*/, '').trim().split(/\s+/)
    if (word === '') return ''
    // What is no command, and no beginning of one alone, is an error.
    const meant = Object.keys(this.verbs).filter((name) => name.startsWith(word))
    const verb = Object.hasOwn(this.verbs, word)
      ? this.verbs[word]
      : meant.length === 1
        ? this.verbs[meant[0]!]
        : undefined
    if (verb) return verb.run(words)
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `There is no command "${word}"; there are ${Object.keys(this.verbs).join(', ')}.`,
    )
  }

  /** A line for each access: when, and what came of it. */
  history(): string {
    return this.#done.map(({ at, text }) => `${timeOf(at)}  ${text}`).join('\n')
  }

  /** The accesses as a script that makes them again. */
  script(): string {
    const head = `# uaccel reg run ${this.#target} FILE`
    return `${[head, ...this.#done.flatMap(({ at, command, text }) => [`# ${at.toISOString()}  ${text}`, command])].join('\n')}\n`
  }

  /** What a word may be completed to, and the part of the line that is completed. */
  complete(line: string): [string[], string] {
    const words = line.split(/\s+/)
    const last = words.pop() ?? ''
    if (words.length === 0) return [matching(Object.keys(this.verbs), last), last]
    const name = words[0] === 'write' && words.length === 2 ? words[1]! : undefined
    if (name === undefined) return [matching(this.names, last), last]
    const entry = this.#entries().find((candidate) => candidate.name === name)
    const given = last.slice(0, last.lastIndexOf(',') + 1)
    return [
      matching(Object.keys(entry?.fields ?? {}), last.slice(given.length)).map(
        (field) => `${given}${field}=`,
      ),
      last,
    ]
  }

  #entries(): RegisterEntry[] {
    return Object.values(this.#maps).flatMap(({ entries }) => entries)
  }

  #read(names: readonly string[]): string {
    if (names.length === 0) throw usage(this.verbs.read!)
    return findReadable(this.#maps, names)
      .map((register) => {
        const text = readingText(readDecoded(this.#transport, register))
        this.#done.push({ at: new Date(), command: `read ${register.entry.name}`, text })
        return text
      })
      .join('\n')
  }

  #write([name, value, ...more]: readonly string[]): string {
    if (name === undefined || value === undefined || more.length > 0) throw usage(this.verbs.write!)
    const register = find(this.#maps, name)
    const { entry } = register
    requireAccess(entry, 'written', 'ro', 'rc')
    const raw = value.includes('=') ? this.#encode(register, value) : parseValue(value, entry)
    writeRegister(this.#transport, register, raw)
    const command = `write ${entry.name} ${hex(raw, entry.width / 4)}`
    this.#done.push({ at: new Date(), command, text: `${entry.name} <- ${hex(raw, entry.width / 4)}` })
    return ''
  }

  /** Other fields stay as they are where they can be read back; of one that can only be written, or whose ones clear, they are 0. */
  #encode(register: Found, text: string): bigint {
    const { entry } = register
    const values = new Map<string, boolean | number | string>()
    for (const part of text.split(',')) {
      const [field = '', value, ...more] = part.split('=')
      if (value === undefined || more.length > 0 || values.has(field))
        throw accelError(
          'ERR_ACCEL_INVALID_ARGUMENT',
          `"${text}": wanted field=value,... with each field once.`,
        )
      values.set(field, fieldValue(entry, field, value))
    }
    const base = entry.access === 'rw' ? readRegister(this.#transport, register) : 0
    return entry.width === 64
      ? entry.codec.encode64(Object.fromEntries(values), BigInt(base))
      : BigInt(entry.codec.encode(Object.fromEntries(values), Number(base)))
  }

  #list(part = ''): string {
    return this.#entries()
      .filter(({ name }) => name.toUpperCase().includes(part.toUpperCase()))
      .map(({ name, access, width, doc }) =>
        [name.padEnd(20), access.padEnd(3), `${width}`, doc].filter(Boolean).join('  '),
      )
      .join('\n')
  }

  #fields([name, ...more]: readonly string[]): string {
    if (name === undefined || more.length > 0) throw usage(this.verbs.fields!)
    const { entry } = find(this.#maps, name)
    const lines = Object.entries(entry.fields).map(([field, { hi, lo, ...rest }]) => {
      const bits = hi === lo ? `${lo}` : `${hi}:${lo}`
      const choices =
        'choices' in rest ? Object.entries(rest.choices).map(([each, value]) => `${each}=${value}`) : []
      return [bits.padEnd(6), field, ...choices].join('  ')
    })
    return lines.length === 0 ? `${entry.name} has no fields.` : lines.join('\n')
  }

  async #sleep([text, ...more]: readonly string[]): Promise<string> {
    const ms = /^\d+$/.test(text ?? '') ? Number(text) : Number.NaN
    if (more.length > 0 || !(ms <= MAX_SLEEP_MS)) throw usage(this.verbs.sleep!)
    let timer: NodeJS.Timeout | undefined
    let forget = () => {}
    try {
      await new Promise<void>((resolve, reject) => {
        timer = setTimeout(resolve, ms)
        forget = this.#transport.onLost(reject)
        this.#wake = resolve
      })
    } finally {
      clearTimeout(timer)
      forget()
    }
    return ''
  }
}

const matching = (words: readonly string[], beginning: string) =>
  words.filter((word) => word.startsWith(beginning))

function usage(verb: Verb) {
  return accelError('ERR_ACCEL_INVALID_ARGUMENT', `Wanted: ${verb.usage} (${verb.meaning}).`)
}

/** As the codec takes it: a flag is true or false, also 1 or 0, a choice its name or number. */
function fieldValue({ fields }: RegisterEntry, name: string, text: string): boolean | number | string {
  const kind = Object.hasOwn(fields, name) ? fields[name]!.kind : undefined
  if (kind === 'flag')
    return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text
  return /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : text
}

/** Local time, to the millisecond. */
export function timeOf(at: Date): string {
  const two = (value: number) => `${value}`.padStart(2, '0')
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${`${at.getMilliseconds()}`.padStart(3, '0')}`
}
