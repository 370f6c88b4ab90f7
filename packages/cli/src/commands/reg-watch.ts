import type { RegisterEntry, Transport } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import { type Command, InvalidArgumentError } from 'commander'
import { hex } from '../output.js'
import {
  type DeviceOptions,
  type Found,
  find,
  type Maps,
  type Reading,
  readDecoded,
  readingText,
  registersOf,
  requireAccess,
  withDevice,
} from '../register-access.js'
import { timeOf } from '../register-session.js'
import { targetHelp } from '../target.js'
import { interrupted, pause, positive } from './loop.js'

interface WatchFlags extends DeviceOptions {
  interval: number
  count?: number
  clearing?: boolean
  json?: boolean
}

/** `uaccel reg watch`: tells when a register changes. */
export function regWatchCommand(reg: Command): void {
  reg
    .command('watch')
    .argument('<device>', targetHelp)
    .argument('<names...>', 'registers; * stands for anything: "QUEUE[*].HEAD"')
    .description('read registers again and again, and tell what changed')
    .option('-i, --interval <ms>', 'milliseconds from one look to the next', milliseconds, 100)
    .option('-n, --count <n>', 'end after so many looks', positive)
    .option('--clearing', 'take registers that reading clears (rc), too')
    .option('--json', 'a line of JSON for each change')
    .addHelpText(
      'after',
      `
The first look tells all values, each later one what differs, by field. A change
and back between two looks is not seen.

Examples:
  uaccel reg watch 00:05.0 STATUS IRQ_STATUS
  uaccel reg watch ./npu.sock "QUEUE[*].*" --interval 10
  uaccel reg watch ./edu.sock LIVENESS --count 50 --json`,
    )
    .action((target: string, names: string[], flags: WatchFlags) =>
      withDevice(target, flags, (transport, maps) => watch(transport, choose(maps, names, flags), flags)),
    )
}

function milliseconds(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < 1 || value > 3_600_000)
    throw new InvalidArgumentError('Milliseconds are wanted, from 1 to 3600000.')
  return value
}

/** The registers that were named; of a pattern those that can be read, and with `clearing` those that reading clears. */
function choose(maps: Maps, names: readonly string[], { clearing }: WatchFlags): Found[] {
  const all = registersOf(maps)
  const found = names.flatMap((name) => {
    if (!name.includes('*')) {
      const one = find(maps, name)
      requireAccess(one.entry, 'read', 'wo')
      if (one.entry.access === 'rc' && !clearing) {
        throw accelError(
          'ERR_ACCEL_BAD_ACCESS',
          `Reading ${name} clears it, and its driver would not see what was there: --clearing reads it all the same.`,
        )
      }
      return [one]
    }
    const parts = name.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
    const pattern = new RegExp(`^${parts.join('.*')}$`)
    const matches = all.filter(
      ({ entry }) => pattern.test(entry.name) && entry.access !== 'wo' && (clearing || entry.access !== 'rc'),
    )
    if (matches.length > 0) return matches
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `No register that may be read matches ${name}; see \`uaccel reg list\`.`,
    )
  })
  return [...new Map(found.map((each) => [each.entry, each])).values()]
}

async function watch(
  transport: Transport,
  registers: readonly Found[],
  { interval, count, json }: WatchFlags,
): Promise<void> {
  const signal = interrupted()
  const last = new Map<RegisterEntry, Reading>()
  for (let look = 1; !signal.aborted; look++) {
    for (const register of registers) {
      const now = readDecoded(transport, register)
      const before = last.get(register.entry)
      if (before?.value === now.value) continue
      last.set(register.entry, now)
      tell(now, before, json)
    }
    if (look === count) break
    await pause(interval, signal)
  }
}

function tell(now: Reading, before: Reading | undefined, json = false): void {
  const at = new Date()
  if (json) {
    const text = JSON.stringify(
      { at: at.toISOString(), name: now.name, value: now.value, before: before?.value, fields: now.fields },
      (_, part) => (typeof part === 'bigint' ? hex(part) : part),
    )
    process.stdout.write(`${text}\n`)
    return
  }
  if (before === undefined) {
    process.stdout.write(`${timeOf(at)}  ${readingText(now)}\n`)
    return
  }
  const changed = Object.entries(now.fields)
    .filter(([field, value]) => before.fields[field] !== value)
    .map(([field, value]) => `${field}: ${before.fields[field]} -> ${value}`)
  const values = `${now.name} = ${hex(before.value, now.width / 4)} -> ${hex(now.value, now.width / 4)}`
  process.stdout.write(`${timeOf(at)}  ${[values, ...changed].join('  ')}\n`)
}
