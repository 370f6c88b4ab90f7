import { writeSync } from 'node:fs'
import { type CellHost, runCell } from './cell.js'
import { findMatrix } from './find.js'
import { countRegions } from './held.js'
import { LocalPeer, type Peer, RemotePeer } from './peers.js'
import { BEAT_MS, type RunnerMessage, STACK_FD } from './runner.js'
import type { CellRequest } from './types.js'
import { real, VirtualTime } from './virtual-time.js'

/**
 * Runs the cells of a matrix that its parent sends, one after the other. Arguments: its module, the name of its
 * export, a folder for sockets, and for how many ms it may work without a turn of the event loop.
 */
const [module, name, folder, blocked] = process.argv.slice(2) as [string, string, string, string]
const blockedMs = Number(blocked)
const time = new VirtualTime()
time.install()
const matrix = await findMatrix(module, name)
const local = new LocalPeer(matrix)
const remote = new RemotePeer([module, name], folder)

const uncaught: unknown[] = []
process.on('uncaughtException', (error) => uncaught.push(error))
process.on('unhandledRejection', (error) => uncaught.push(error))

/** When the event loop had its last turn, and what the process had worked by then. */
let turnMs = real.now()
let turnCpu = process.cpuUsage()
real.setInterval(() => {
  turnMs = real.now()
  turnCpu = process.cpuUsage()
  tell({ kind: 'beat' })
}, BEAT_MS)

const host: CellHost = {
  matrix,
  time,
  regions: countRegions(),
  // A driver that waits for a register and lets nothing else run is caught where it reads it: from outside nobody sees its stack.
  touched() {
    if (real.now() - turnMs < blockedMs) return
    if (process.cpuUsage(turnCpu).user + process.cpuUsage(turnCpu).system < blockedMs * 1000) return
    writeSync(STACK_FD, new Error('the thread was blocked here').stack ?? '')
    process.kill(process.pid, 'SIGKILL')
  },
  async peer(transport): Promise<Peer> {
    if (transport === 'loopback') return local
    await remote.start()
    return remote
  },
  uncaught: () => uncaught.splice(0),
}

function tell(message: RunnerMessage): void {
  if (process.connected) process.send?.(message)
}

process.on('message', async (request: CellRequest) => {
  const result = await runCell(host, request)
  await new Promise((resolve) => setImmediate(resolve))
  tell({ kind: 'result', result })
})
// The model's process ends with this one, also where it is stopped: both are of this group.
process.on('disconnect', () => process.kill(-process.pid, 'SIGKILL'))
tell({ kind: 'ready' })
