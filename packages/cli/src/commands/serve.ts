import { resolve } from 'node:path'
import {
  type ConfigSource,
  checkConfig,
  DEFAULT_METRICS_ADDRESS,
  defaultConfigFile,
  runService,
} from '@uaccel/server'
import { type Command, InvalidArgumentError } from 'commander'
import { known } from '../drivers.js'
import { note } from '../output.js'

interface ServeFlags {
  config?: string
  check?: boolean
  metrics?: string | true
  model?: string[]
  folder?: string
  mode?: string
  owner?: string
  group?: string
  exclusive?: boolean
  drain?: number
}

/** What stands for a configuration file. */
const short = ['model', 'folder', 'mode', 'owner', 'group', 'exclusive', 'drain'] as const

/** `uaccel serve`: nodes for the devices of this machine, or for models, each in a process of its own. */
export function serveCommand(command: Command): void {
  command
    .option(
      '-c, --config <file>',
      'what to serve, see docs/serve.md (default: $XDG_CONFIG_HOME or /etc, uaccel/uaccel.json)',
    )
    .option('--check', 'check the configuration, tell what would be served, and end')
    .option(
      '--metrics [address]',
      `offer metrics for Prometheus at this address:port or Unix socket (default: ${DEFAULT_METRICS_ADDRESS})`,
    )
    .option('-m, --model <name...>', `models in place of devices: ${Object.keys(known).join(', ')}`)
    .option(
      '-f, --folder <folder>',
      'where nodes are made (default: /run/uaccel as root, else $XDG_RUNTIME_DIR/uaccel)',
    )
    .option('--mode <octal>', 'permissions of the nodes: who may write may open them (default: 600)', mode)
    .option('--owner <user>', 'their owner, by name or number')
    .option('--group <group>', 'their group, by name or number')
    .option('-x, --exclusive', 'one open at a time for each')
    .option(
      '--drain <ms>',
      'how long requests under way may take when it is stopped (default: 5000)',
      milliseconds,
    )
    .addHelpText(
      'after',
      `
Devices are those that are bound to vfio-pci, now or later, and that a driver
takes; a configuration says more. Each has a process of its own, which is
started again when it ends. SIGTERM or SIGINT stops them: new opens are refused,
requests under way get their time, devices are brought to rest; a second signal
hurries. SIGHUP reads the configuration anew.

Examples:
  uaccel serve --model edu --folder /tmp/uaccel
  uaccel serve --config ./uaccel.json --check`,
    )
    .action(run)
}

async function run(flags: ServeFlags, command: Command): Promise<void> {
  const given = short.filter((name) => flags[name] !== undefined)
  if (flags.config !== undefined && given.length > 0)
    command.error(`error: --${given[0]} is for a run without --config: the file says it`)
  const source = sourceOf(flags, given.length > 0)
  if (flags.check) {
    for (const line of await checkConfig(source)) process.stdout.write(`${line}\n`)
    return
  }
  // A service outlives who reads its notes: a pipe, a terminal.
  process.stderr.on('error', () => {})
  if (source.file !== undefined) note(`configuration: ${source.file}`)
  await runService({
    source,
    note,
    ...(flags.metrics === undefined
      ? {}
      : { metrics: flags.metrics === true ? DEFAULT_METRICS_ADDRESS : flags.metrics }),
  })
}

function sourceOf(flags: ServeFlags, isShort: boolean): ConfigSource {
  const file = flags.config ?? (isShort ? undefined : defaultConfigFile())
  const common = {
    drivers: Object.keys(known).map((name) => `@uaccel/driver-${name}`),
    resolveFrom: [import.meta.url],
  }
  if (file !== undefined) return { ...common, file }
  const { model, folder, mode, owner, group, exclusive, drain } = flags
  return {
    ...common,
    value: {
      folder: folder === undefined ? undefined : resolve(folder),
      defaults: { mode, owner: account(owner), group: account(group), exclusive, drainMs: drain },
      // Numbered in their order.
      devices: model?.map((name, number) => ({ model: name, number })),
    },
  }
}

const account = (text: string | undefined) => (text !== undefined && /^\d+$/.test(text) ? Number(text) : text)

function mode(text: string): string {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('It is three octal digits, such as 660.')
  return text
}

function milliseconds(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value > 600_000) throw new InvalidArgumentError('It is a number up to 600000.')
  return value
}
