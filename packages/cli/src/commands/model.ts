import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { createFunction } from '@uaccel/model'
import { loadModel } from '@uaccel/server'
import { isAccelError } from '@uaccel/uapi'
import { serveVfioUser } from '@uaccel/vfio-user'
import type { Command } from 'commander'
import { known, knownByName } from '../drivers.js'
import { note } from '../output.js'

interface ModelFlags {
  socket: string
  trapped?: boolean
  mapUnsealed?: boolean
  quiet?: boolean
}

/** `uaccel model`: a device model in this process, for clients in others. */
export function modelCommand(command: Command): void {
  command
    .argument(
      '<name>',
      `the model: ${Object.keys(known).join(', ')}, or a module of your own: ./dist/model/index.js`,
    )
    .requiredOption('-s, --socket <path>', 'Unix socket to make')
    .option('--trapped', 'let no client map the memory of the device: each access is a message')
    .option('--map-unsealed', 'map memory that its owner can still shrink, such as guest memory in a file')
    .option('-q, --quiet', 'do not tell of clients on stderr')
    .addHelpText(
      'after',
      '\nExample:\n  uaccel model edu --socket ./edu.sock &\n  uaccel reg read ./edu.sock ID\n  uaccel model ./dist/model/index.js --socket ./mine.sock',
    )
    .action(run)
}

async function run(name: string, flags: ModelFlags): Promise<void> {
  // A module is named as a path is, and as other commands name them.
  const isModule = /[/\\]|\.[cm]?js$/.test(name)
  const model = await (isModule
    ? loadModel(pathToFileURL(resolve(name)).href)
    : knownByName(name).loadModel())
  const tell = flags.quiet ? () => {} : note
  const { trapped = false, mapUnsealed = false } = flags
  const dma = { requireSealed: !mapUnsealed }
  let agreed = false
  const device = createFunction(model, {}, { strict: false, mapped: !trapped, dma })
  const server = serveVfioUser({
    path: flags.socket,
    device,
    mapUnsealed,
    onClient: (event, reason) => {
      // Who only looks whether a server answers here, such as another server, was no client.
      if (event === 'connected') tell('client connected')
      else if (agreed || reason) tell(`client left${why(reason)}`)
      agreed = event === 'connected'
    },
  })
  tell(`${isModule ? model.identity.name : name} on ${flags.socket}`)
  const stop = () => {
    server.close()
    if (process.connected) process.disconnect()
    for (const violation of device.violations) note(`violation: ${violation.message}`)
  }
  // Started by another program of Node: it is told when the socket is there, and its end is this one's.
  process.send?.('ready')
  process.once('SIGINT', stop).once('SIGTERM', stop).once('disconnect', stop)
}

const why = (reason: Error | undefined) =>
  reason === undefined
    ? ''
    : isAccelError(reason)
      ? `: ${reason.message} (${reason.code})`
      : `: ${reason.message}`
