import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createFunction, type ModelEvent, type ModelFunction, observed } from '@uaccel/model'
import { loadModel } from '@uaccel/server'
import { type Server, serveVfioUser } from '@uaccel/vfio-user'
import { hex } from '../output.js'
import { journal, leave, live, say, sayFailed } from './child.js'
import { readFlag } from './flag.js'
import type { ToProcess } from './messages.js'

/*
 * The process of the model: it keeps what the device knows while drivers come and go, and tells what the device saw.
 */

/** How often violations are looked for. */
const LOOK_MS = 50

let server: Server | undefined
let device: ModelFunction | undefined
let looking: NodeJS.Timeout | undefined
let tracing = true
const forScreen = readFlag()
let left = true
/** Of its socket: this process makes it and takes it away, whatever becomes of its parent. */
let folder = ''

async function serve(job: Extract<ToProcess, { type: 'model' }>): Promise<void> {
  const model = await loadModel(job.module)
  device = createFunction(observed(model, see), {}, { strict: false, mapped: !job.trapped })
  folder = mkdtempSync(join(tmpdir(), 'uaccel-dev-'))
  const socket = join(folder, 'model.sock')
  server = serveVfioUser({
    path: socket,
    device,
    keepState: true,
    onClient: (event) => {
      left = event === 'left'
    },
  })
  looking = setInterval(tellViolations, LOOK_MS)
  say({ type: 'ready', name: model.identity.name, socket })
}

function see(event: ModelEvent): void {
  if (event.kind === 'reset') {
    // At its birth, and where nobody is there to have asked for it, it is nobody's news.
    if (left) return
    journal.add('device', 'reset: its state is lost, the driver asked for that', 'warning')
    say({ type: 'reset' })
  } else if (tracing && !forScreen()) journal.trace('device', textOf(event))
}

function textOf(event: Exclude<ModelEvent, { kind: 'reset' }>): string {
  switch (event.kind) {
    case 'read':
    case 'write': {
      const { kind, name, value, width } = event
      const shown = value === undefined ? 'refused' : hex(value, 2 * width)
      return `${kind.padEnd(5)} ${name} ${kind === 'read' ? '->' : '='} ${shown}`
    }
    case 'interrupt':
      return `irq   vector ${event.vector}`
    case 'line':
      return `irq   INTx ${event.asserted ? 'raised' : 'lowered'}`
    default: {
      const { kind, iova, sizeBytes, failed } = event
      const way = { dmaRead: 'reads', dmaWrite: 'writes', dmaView: 'looks at' }[kind]
      return `dma   ${way} ${sizeBytes} bytes at ${hex(iova)}${failed === undefined ? '' : `: failed, ${failed}`}`
    }
  }
}

function tellViolations(): void {
  for (const { message } of device?.violations.take() ?? [])
    journal.add('device', `violation: ${message}`, 'error')
}

live(
  (message) => {
    if (message.type === 'trace') tracing = message.on
    else if (message.type === 'model')
      void serve(message).catch((error) => {
        sayFailed(error)
        process.exitCode = 1
        leave()
      })
  },
  async () => {
    clearInterval(looking)
    tellViolations()
    server?.close()
    if (folder !== '') rmSync(folder, { recursive: true, force: true })
  },
)
