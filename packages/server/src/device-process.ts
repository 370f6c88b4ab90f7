import { Accel, type AccelNode } from '@uaccel/accel'
import { metrics } from '@uaccel/accel/metrics'
import { openVfio, type Transport } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import { accelError, isAccelError } from '@uaccel/uapi'
import { connectVfioUser } from '@uaccel/vfio-user'
import type { DeviceJob, FromDevice, ToDevice } from './messages.js'
import { loadDriver, loadModel } from './modules.js'
import { type NodeServer, serveNode } from './server.js'

/*
 * The process of one device: it loads the driver, probes the device, serves its node, and ends when it is told to, when the device
 * is gone, or when its supervisor is.
 */

let accel: Accel | undefined
let server: NodeServer | undefined
let node: AccelNode | undefined
let beating: NodeJS.Timeout | undefined
let stopping = false

function say(message: FromDevice): void {
  // A supervisor that is gone is told of by `disconnect`, after which the device is brought to rest: an error here is not to be faster.
  if (process.connected) process.send!(message, undefined, undefined, () => {})
}

async function open({ way, address }: DeviceJob): Promise<Transport> {
  switch (way.kind) {
    case 'vfio':
      return openVfio(address, { iommu: way.iommu, allowNoIommu: way.allowNoIommu })
    case 'vfioUser':
      return connectVfioUser(address)
    case 'model':
      return loopback(await loadModel(way.module))
  }
}

async function serve(job: DeviceJob): Promise<void> {
  accel = new Accel({
    limits: job.timeouts,
    quotas: job.quotas,
    ...(job.serve.folder === undefined ? {} : { traceFolder: job.serve.folder }),
  })
  const name = `accel${job.number}`
  accel.on('reset', (_node, reason) => say({ type: 'note', text: `works again: ${reason.message}` }))
  accel.on('error', (error) => say({ type: 'note', text: `${error.message} (${error.code})` }))
  beating = setInterval(beat, job.beatMs)
  for (const module of job.drivers) accel.register(await loadDriver(module))
  node = await accel.add(await open(job), { minor: job.number })
  if (stopping) return
  server = await serveNode(node, { ...job.serve, onClient: beat })
  if (stopping) return void server.close({ drainMs: 0 })
  void server.closed.then(() => {
    const { reason } = node!
    if (!stopping && reason) void fail(reason)
  })
  const { transport } = node.identity
  say({
    type: 'running',
    driver: node.driver.name,
    transport: transport.kind,
    address: job.address,
  })
  beat()
  process.title = `uaccel ${name} ${node.driver.name} ${job.address}`
}

function beat(): void {
  if (node) say({ type: 'beat', status: node.status.state, opens: server?.connections.length ?? 0 })
  else say({ type: 'beat', status: 'beingCreated', opens: 0 })
}

/** Ends this process for a reason that its supervisor is told. */
async function fail(error: unknown): Promise<void> {
  const known = isAccelError(error) ? error : accelError('ERR_ACCEL_IO', String(error))
  say({ type: 'failed', code: known.code, message: known.message })
  process.exitCode = 1
  await stop(0)
}

/** Never rejects. */
async function stop(drainMs: number): Promise<void> {
  const first = !stopping
  stopping = true
  await server?.close({ drainMs })
  if (!first) return
  try {
    await accel?.close()
  } catch (error) {
    say({
      type: 'note',
      text: `did not come to rest: ${error instanceof Error ? error.message : String(error)}`,
    })
  }
  clearInterval(beating)
  if (process.connected) process.disconnect()
}

process.on('message', (message: ToDevice) => {
  if (message.type === 'serve') void serve(message.job).catch(fail)
  else if (message.type === 'stop') void stop(message.drainMs)
  else if (accel) {
    const { id } = message
    metrics(accel).then(
      (text) => say({ type: 'metrics', id, text }),
      () => {}, // one that does not answer is left out
    )
  }
})
// Without a supervisor nobody may stop or restart this one: a new supervisor has a process of its own for the device.
process.once('disconnect', () => {
  process.exitCode ??= 0
  void stop(0).then(() => process.exit())
})
process.on('uncaughtExceptionMonitor', (error) =>
  say({
    type: 'failed',
    code: 'ERR_ACCEL_IO',
    message: `${error instanceof Error ? error.message : String(error)}`,
  }),
)
// What a driver writes may have no reader any more: a pipe, a terminal.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
// A terminal sends these to all of its processes: what happens then is the supervisor's to say.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})
process.once('SIGTERM', () => void stop(0))
