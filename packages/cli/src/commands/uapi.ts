import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { accelError, type Uapi } from '@uaccel/uapi'
import {
  abiOf,
  cHeader,
  formatAbi,
  markdownReference,
  parseAbi,
  requireCompatible,
} from '@uaccel/uapi/reference'
import type { Command } from 'commander'
import { note } from '../output.js'
import { loadUapi, uapiNames } from '../uapi-source.js'

/** What can be made of a uAPI, in the order in which it is written. */
const forms = {
  markdown: { file: ({ name }: Uapi) => `${name}.md`, make: markdownReference },
  header: { file: ({ name }: Uapi) => `${name}.h`, make: cHeader },
  json: { file: () => 'abi.json', make: (uapi: Uapi) => formatAbi(abiOf(uapi)) },
} as const

type Form = keyof typeof forms

interface UapiFlags extends Partial<Record<Form, boolean>> {
  write?: string
  force?: boolean
}

/** `uaccel uapi`: reference page, C header and ABI snapshot of a uAPI. */
export function uapiCommand(command: Command): void {
  command
    .argument('<name>', `${uapiNames.join(', ')}, or a module that exports a uAPI: ./dist/uapi.js`)
    .option('--markdown', 'the reference page (without an option, this)')
    .option('--header', 'a C11 header of the structures')
    .option('--json', 'the ABI snapshot')
    .option('-w, --write <dir>', 'write files into this folder: NAME.md, NAME.h, abi.json')
    .option('--force', 'write abi.json although programs built against the former one break')
    .addHelpText(
      'after',
      `
Examples:
  uaccel uapi edu
  uaccel uapi ./dist/uapi.js --header > mine.h
  uaccel uapi ./dist/uapi.js --markdown --header --write docs
  uaccel uapi ./dist/uapi.js --json --write .`,
    )
    .action(async (source: string, flags: UapiFlags, self: Command) => {
      const wanted = (Object.keys(forms) as Form[]).filter((form) => flags[form])
      if (flags.write === undefined && wanted.length > 1) {
        self.error(`error: only one of --${wanted.join(', --')} goes to stdout; --write takes several`)
      }
      if (flags.force && !(flags.write !== undefined && flags.json)) {
        self.error('error: --force is for --json --write')
      }
      if (flags.write !== undefined && wanted.length === 0) {
        self.error('error: --write wants at least one of --markdown, --header, --json')
      }
      const uapi = await loadUapi(source)
      if (flags.write === undefined) process.stdout.write(forms[wanted[0] ?? 'markdown'].make(uapi))
      else write(uapi, wanted, flags.write, flags.force ? undefined : source)
    })
}

/** Writes all or, where the snapshot there would break somebody, nothing. `source` is left out to break it. */
function write(uapi: Uapi, wanted: readonly Form[], dir: string, source: string | undefined): void {
  if (wanted.includes('json') && source !== undefined) {
    const path = join(dir, forms.json.file())
    const before = read(path)
    if (before !== undefined) {
      requireCompatible(parseAbi(before, path), abiOf(uapi), `uaccel uapi ${source} --json --write ${dir}`)
    }
  }
  const files = wanted.map((form) => ({
    path: join(dir, forms[form].file(uapi)),
    text: forms[form].make(uapi),
  }))
  try {
    mkdirSync(dir, { recursive: true })
    for (const { path, text } of files) {
      writeFileSync(path, text)
      note(path)
    }
  } catch (cause) {
    throw failure(cause, `No files can be written into ${dir}`)
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw failure(cause, `${path} cannot be read`)
  }
}

function failure(cause: unknown, problem: string): Error {
  const { code, syscall, message } = cause as NodeJS.ErrnoException
  return accelError('ERR_ACCEL_SYSTEM', `${problem}: ${message}`, {
    cause,
    ...(code === undefined ? {} : { errno: code }),
    ...(syscall === undefined ? {} : { syscall }),
  })
}
