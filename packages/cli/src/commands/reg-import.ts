import { writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import {
  at,
  type Description,
  descriptionJson,
  type Format,
  type PlannedMap,
  planBlock,
  readRegisterFile,
  selectBlocks,
  type Warning,
  writeTypeScript,
} from '@uaccel/register-import'
import { type Command, Option } from 'commander'
import { fileError } from '../file-error.js'
import { note } from '../output.js'
import { clean } from '../text.js'

interface Options {
  readonly format?: Format
  readonly block?: string[]
  readonly peripheral?: string[]
  readonly top?: string
  readonly output?: string
  readonly overlaps?: boolean
  readonly json?: boolean
}

/** `uaccel reg import`: a datasheet's registers as a typed map. */
export function regImportCommand(reg: Command): void {
  reg
    .command('import')
    .argument('<file>', 'a CMSIS-SVD, IP-XACT (2009, 2014, 2022) or SystemRDL 2.0 file')
    .description('write a typed register map from a SystemRDL, IP-XACT or SVD file')
    .addOption(
      new Option('--format <format>', 'what the file is; told by its beginning otherwise').choices([
        'svd',
        'ipxact',
        'rdl',
      ]),
    )
    .option(
      '-b, --block <names...>',
      'of these blocks only: memory maps, address blocks, register files (a.b)',
    )
    .option('-p, --peripheral <names...>', 'the same, by the word that SVD has for it')
    .option('--top <addrmap>', 'of a SystemRDL file with several address maps; its last one otherwise')
    .option('-o, --output <file>', 'where the TypeScript goes; to stdout otherwise')
    .option(
      '--overlaps',
      'registers that overlap go into maps of their own, fields that do are left out; else both are errors',
    )
    .option('--json', 'what the file says, as JSON, instead of TypeScript')
    .action(importRegisters)
    .addHelpText(
      'after',
      `
Each block becomes a map for dev.mapBar(bar, map); offsets count from the block's start. What a map
cannot hold is kept as a comment and told on stderr. A register that must not be written back as it was
read is declared twice, to read it and to write it.

Examples:
  uaccel reg import uart.rdl --output src/registers.ts
  uaccel reg import rp2040.svd --peripheral UART0 --output src/uart.ts
  uaccel reg import core.xml --format ipxact --json`,
    )
}

function importRegisters(file: string, options: Options): void {
  const { format, block = [], peripheral = [], top, output, overlaps = false, json } = options
  const description = readRegisterFile(file, {
    ...(format === undefined ? {} : { format }),
    ...(top === undefined ? {} : { top }),
  })
  const warnings: Warning[] = []
  const blocks = selectBlocks(description, [...block, ...peripheral])
  const chosen: Description = { ...description, blocks }
  const maps = blocks.flatMap((one) => planBlock(one, (warning) => warnings.push(warning), { overlaps }))
  tell([...description.warnings, ...warnings])
  const text = json ? `${descriptionJson(chosen)}\n` : writeTypeScript(chosen, basename(file), maps)
  if (output === undefined) process.stdout.write(text)
  else {
    write(output, text)
    note(`${output}: ${maps.map(summary).join(', ')}`)
  }
}

const MOST_WARNINGS = 50

function tell(warnings: readonly Warning[]): void {
  const lines = [...new Set(warnings.map(({ place, message }) => clean(`${at(place)}: ${message}`)))]
  for (const line of lines.slice(0, MOST_WARNINGS)) note(line)
  if (lines.length > MOST_WARNINGS)
    note(`... and ${lines.length - MOST_WARNINGS} more; they are in the comments of the file as well`)
}

function summary({ name, members }: PlannedMap): string {
  return `${name} (${members.length} ${members.length === 1 ? 'entry' : 'entries'})`
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch (cause) {
    throw fileError(path, 'written', cause)
  }
}
