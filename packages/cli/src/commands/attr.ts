import { accelError, isAccelError } from '@uaccel/uapi'
import type { Command } from 'commander'
import {
  type AttributeEntry,
  attributesIn,
  listAttributes,
  type ShownAttribute,
  type TriedAttribute,
} from '../nodes/ask.js'
import { nearest } from '../nodes/fields.js'
import { type CommonNode, type FolderFlag, nodeHelp, nodeOptions, withNode } from '../nodes/find.js'
import { columnsOfStdout, exitCodeOf, noColor, printSchema, report } from '../output.js'
import { clean, grid } from '../text.js'
import { interrupted } from './loop.js'

interface AttrFlags extends FolderFlag {
  watch?: boolean
  debug?: boolean
  json?: boolean
}

/** `uaccel attr`: what sysfs and debugfs are to a device of the kernel. */
export function attrCommand(command: Command): void {
  nodeOptions(
    command
      .argument('<node>', nodeHelp)
      .argument(
        '[attributes...]',
        'PATH shows one, or those below it; PATH=VALUE sets one; all, unless told',
      ),
  )
    .option('-w, --watch', 'show attributes again when their driver tells of a change, until SIGINT')
    .option('-d, --debug', 'list those for debugging too: they are for root and the user of the server')
    .option('--json', 'as JSON, schema uaccel.attributes/1; with --watch an object in a line')
    .option(...noColor)
    .addHelpText(
      'after',
      `
For a single PATH its value alone is printed. --watch follows the attributes
whose driver tells of changes; of any other, the first value is the only one.

Examples:
  uaccel attr accel0
  uaccel attr accel0 counters
  uaccel attr accel0 queues/inUse --watch
  uaccel attr accel0 performance/clear=1`,
    )
    .action((node: string, paths: string[], flags: AttrFlags) =>
      withNode(node, flags, (client) => run(client, paths, flags)),
    )
}

/** Says where the paths are, in words of the command line. */
async function run(client: CommonNode, words: readonly string[], flags: AttrFlags): Promise<void> {
  try {
    await work(client, words, flags)
  } catch (cause) {
    if (!isAccelError(cause, 'ERR_ACCEL_NOT_FOUND')) throw cause
    const all = (await listAttributes(client, '')).map(({ path }) => path)
    const wrong = words
      .map((word) => word.split('=')[0]!)
      .find((path) => !all.some((each) => isIn(each, path)))
    const like = nearest(wrong ?? '', all)
    const hint = like.length > 0 ? `Did you mean ${like.join(', ')}? ` : ''
    throw accelError(
      'ERR_ACCEL_NOT_FOUND',
      `${client.name} has no attribute ${JSON.stringify(wrong)}. ${hint}All: uaccel attr ${client.name}`,
      { cause },
    )
  }
}

const isIn = (path: string, folder: string) => path === folder || path.startsWith(`${folder}/`)

async function work(client: CommonNode, words: readonly string[], flags: AttrFlags): Promise<void> {
  const settings = words.filter((word) => word.includes('='))
  const paths = words.filter((word) => !word.includes('=')).map((path) => path.replace(/\/+$/, ''))
  for (const setting of settings) {
    const at = setting.indexOf('=')
    await client.common('attrStore', { path: setting.slice(0, at), value: setting.slice(at + 1) })
  }
  if (paths.length === 0 && settings.length > 0) return
  const wanted = paths.length > 0 ? paths : ['']
  const [only] = wanted
  const found = (await Promise.all(wanted.map((path) => attributesIn(client, path)))).flat()
  const exact = (entry: AttributeEntry) => paths.includes(entry.path)
  const shown = found.filter((entry) => entry.scope === 'stable' || flags.debug || exact(entry))
  if (flags.watch) return watch(client, shown, flags, wanted.length === 1 && shown.length === 1)
  if (flags.json)
    return printSchema('uaccel.attributes/1', { node: client.name, attributes: shown.map(jsonOf) })
  if (wanted.length === 1 && found.length === 1 && found[0]!.path === only) return one(client, found[0]!)
  process.stdout.write(`${listed(shown).join('\n')}\n`)
  const failed = shown.filter(({ error }) => error !== undefined)
  for (const { error } of failed) report(error)
  if (failed[0]?.error) process.exitCode = exitCodeOf(failed[0].error)
}

function one(client: CommonNode, { path, mode, value, error }: TriedAttribute): void {
  if (error) throw error
  if (!value)
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      `Attribute ${path} of ${client.name} can only be set (mode ${octal(mode)}): uaccel attr ${client.name} ${path}=VALUE`,
    )
  process.stdout.write(`${clean(value.value)}\n`)
}

const octal = (mode: number) => mode.toString(8).padStart(4, '0')

/** A line for each, as `sysctl -a` has them, but in columns. */
function listed(attributes: readonly TriedAttribute[]): string[] {
  const rows = attributes.map(({ path, mode, scope, unit, value, error }) => [
    clean(path),
    octal(mode).slice(1),
    error ? `(${error.code})` : value ? clean(`${value.value} ${unit}`).trimEnd() : '(write only)',
    ...(scope === 'debug' ? ['debug'] : ['']),
  ])
  const columns = [
    { head: 'PATH' },
    { head: 'MODE' },
    { head: 'VALUE', flexible: true },
    { head: rows.some((row) => row[3] !== '') ? 'SCOPE' : '' },
  ]
  return grid(columns, rows, columnsOfStdout())
}

function jsonOf({ path, mode, scope, type, unit, revision, value, error }: TriedAttribute) {
  return {
    path,
    mode: octal(mode),
    scope,
    type,
    ...(unit === '' ? {} : { unit }),
    revision: Number(revision),
    ...(value ? { value: value.value } : {}),
    ...(error ? { error: { code: error.code, message: error.message } } : {}),
  }
}

/** Shows attributes, and each again when it is of a later revision. */
async function watch(
  client: CommonNode,
  attributes: readonly TriedAttribute[],
  { json }: AttrFlags,
  alone: boolean,
): Promise<void> {
  const signal = interrupted()
  const show = (path: string, { value, revision, unit }: ShownAttribute) => {
    if (json)
      printSchema(
        'uaccel.attributes/1',
        { node: client.name, path, value, ...(unit === '' ? {} : { unit }), revision: Number(revision) },
        0,
      )
    else process.stdout.write(`${alone ? '' : `${clean(path)} = `}${clean(value)}\n`)
  }
  const readable = attributes.filter(({ mode }) => (mode & 0o444) !== 0)
  if (readable.length > MOST_WATCHED) {
    throw accelError(
      'ERR_ACCEL_OUT_OF_RANGE',
      `${readable.length} attributes cannot be watched at a time, at most ${MOST_WATCHED}: name those that matter`,
    )
  }
  await Promise.all(
    readable.map(async ({ path, value, error }) => {
      if (error) throw error
      let after = value?.revision ?? 0n
      if (value) show(path, value)
      while (!signal.aborted) {
        try {
          const next = await client.common('attrWatch', { path, after }, { signal })
          after = next.revision
          show(path, next)
        } catch (failure) {
          if (signal.aborted) return
          if (!isAccelError(failure, 'ERR_ACCEL_TIMEOUT')) throw failure
        }
      }
    }),
  )
}

/** Waits that one open may have at a time (open.ts of @uaccel/accel). */
const MOST_WATCHED = 16
