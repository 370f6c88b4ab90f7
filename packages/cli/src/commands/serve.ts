import { Accel, type AccelNode } from '@uaccel/accel'
import { loopback } from '@uaccel/model'
import { type NodeServer, serveNode } from '@uaccel/server'
import { isAccelError } from '@uaccel/uapi'
import { type Command, InvalidArgumentError } from 'commander'
import { known, knownByName } from '../drivers.js'
import { note } from '../output.js'

interface ServeFlags {
  model?: string[]
  folder?: string
  mode: number
  owner?: string
  group?: string
  exclusive?: boolean
  drain: number
}

/** `uaccel serve`: nodes for the devices of this machine, or for models, in one process. */
export function serveCommand(command: Command): void {
  command
    .option(
      '-m, --model <name...>',
      `models in this process, in place of devices: ${Object.keys(known).join(', ')}`,
    )
    .option(
      '-f, --folder <folder>',
      'where nodes are made (default: /run/uaccel as root, else $XDG_RUNTIME_DIR/uaccel)',
    )
    .option('--mode <octal>', 'permissions of the nodes: who may write may open them', mode, 0o600)
    .option('--owner <user>', 'their owner, by name or number')
    .option('--group <group>', 'their group, by name or number')
    .option('-x, --exclusive', 'one open at a time for each')
    .option('--drain <ms>', 'how long requests under way may take when it is stopped', milliseconds, 5000)
    .addHelpText(
      'after',
      `
Devices are those that are bound to vfio-pci, now or later, and that a driver here takes. SIGTERM or SIGINT stops it: new opens
are refused, requests under way get their time, devices are brought to rest.

Example:
  uaccel serve --model edu --folder /tmp/uaccel`,
    )
    .action(run)
}

async function run(flags: ServeFlags): Promise<void> {
  const accel = new Accel()
  const servers = new Set<NodeServer>()
  const serve = async (node: AccelNode) => {
    const server = await serveNode(node, {
      mode: flags.mode,
      exclusive: flags.exclusive ?? false,
      ...(flags.folder === undefined ? {} : { folder: flags.folder }),
      ...(flags.owner === undefined ? {} : { owner: account(flags.owner) }),
      ...(flags.group === undefined ? {} : { group: account(flags.group) }),
    })
    servers.add(server)
    void server.closed.then(() => servers.delete(server))
    note(
      `${server.path}: ${node.driver.name}, ${node.identity.transport.kind} ${node.identity.transport.address}`,
    )
  }
  accel.on('removed', ({ name }, reason) => note(`${name} is gone: ${reason.message}`))
  accel.on('reset', ({ name }, reason) => note(`${name} works again: ${reason.message}`))
  accel.on('error', (error) => note(`${error.message} (${error.code})`))
  for (const { driver } of Object.values(known)) accel.register(driver)
  try {
    if (flags.model) {
      for (const name of flags.model)
        await serve(await accel.add(loopback(await knownByName(name).loadModel())))
    } else {
      // A node that cannot be made is told, and the others are served.
      accel.on('added', (node) => void serve(node).catch(tell))
      const discovery = await accel.discover({ ref: true })
      discovery.on('skipped', ({ error }) => tell(error))
      discovery.on('error', tell)
      for (const { error } of discovery.skipped) tell(error)
    }
  } catch (error) {
    await Promise.all([...servers].map((server) => server.close({ drainMs: 0 })))
    await accel.close()
    throw error
  }
  let stopping = false
  const stop = async () => {
    if (stopping) return
    stopping = true
    await Promise.all([...servers].map((server) => server.close({ drainMs: flags.drain })))
    await accel.close()
    if (process.connected) process.disconnect()
  }
  // Started by another program of Node: it is told when the nodes are there, and its end is this one's.
  process.send?.('ready')
  process.once('SIGINT', stop).once('SIGTERM', stop).once('disconnect', stop)
}

function tell(error: Error): void {
  note(isAccelError(error) ? `${error.message} (${error.code})` : String(error))
}

const account = (text: string): number | string => (/^\d+$/.test(text) ? Number(text) : text)

function mode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) throw new InvalidArgumentError('It is three octal digits, such as 660.')
  return Number.parseInt(text, 8)
}

function milliseconds(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value > 600_000) throw new InvalidArgumentError('It is a number up to 600000.')
  return value
}
