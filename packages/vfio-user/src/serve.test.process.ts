import { createFunction, Faults } from '@uaccel/model'
import { replayModel } from './replay.test.device.js'
import { scratchModel } from './scratch.test.device.js'
import { serveVfioUser } from './server.js'

/** Serves the scratch device, or with --replay the one of recorded sessions, on the socket that the first argument names; `{hang}` on the channel stops answering, `{fault, reason}` is a misfortune of the device. */
const faults = new Faults()
const server = serveVfioUser({
  path: process.argv[2]!,
  device: createFunction(
    process.argv.includes('--replay') ? replayModel : scratchModel,
    {},
    { strict: false, faults, dma: { requireSealed: false } },
  ),
  timeoutMs: 1000,
  mapUnsealed: process.argv.includes('--map-unsealed'),
  keepState: process.argv.includes('--keep-state'),
  onClient: (event, reason) =>
    process.send?.({ event, reason: reason && 'code' in reason ? reason.code : undefined }),
})
process.on('message', (message: string | { fault: 'request' | 'error' | 'vanish'; reason?: string }) => {
  if (typeof message === 'object') faults[message.fault](message.reason)
  if (message === 'hang') for (;;);
  if (message === 'close') {
    server.close()
    process.disconnect()
  }
})
process.on('uncaughtException', (error) => {
  process.send?.({ event: 'crashed', reason: String(error.stack) })
  process.exit(70)
})
process.send?.({ event: 'ready' })
