import { dirname } from 'node:path'
import { Accel, type AccelClient, type AccelNode, type AnyDriver } from '@uaccel/accel'
import { loadDriver, type NodeServer, type Servable, serveSocket } from '@uaccel/server'
import { accelError, commonUapi, FIRST_DRIVER_COMMAND, isAccelError } from '@uaccel/uapi'
import { abiOf, formatAbi } from '@uaccel/uapi/reference'
import { connectVfioUser } from '@uaccel/vfio-user'
import { attributesIn } from '../nodes/ask.js'
import { duration } from '../units.js'
import { journal, leave, live, say, sayFailed } from './child.js'
import { flagged, look } from './flag.js'
import type { Claim, ToProcess } from './messages.js'
import { answerJson, requestOf, showValue } from './values.js'

/*
 * The process of the driver: it loads it, and waits until the device is free; then it probes it and serves the node, on the socket
 * that `uaccel dev` made. It lasts until the next version of the driver is there.
 */

/** The descriptor of the socket, behind those of stdio and of the channel. */
const LISTENER = 4
const LOOK_MS = 250
/** A driver that is being written may hang: whoever waits for it is not to wait long. Its device is a model. */
const LIMITS = { probeMs: 10_000, settleMs: 300, recoverMs: 1_000, removeMs: 2_000 }

let accel: Accel | undefined
let driver: AnyDriver | undefined
let node: AccelNode | undefined
let server: NodeServer | undefined
let claim: Claim | undefined
let minor = 0
let observer: AccelClient<typeof commonUapi> | undefined
let looking: NodeJS.Timeout | undefined
let stopping = false
/** Opens with a queue of their own: nobody else may have the node open then. */
const alone = new Set<unknown>()

async function load(module: string): Promise<void> {
  driver = await loadDriver(module)
  // Whoever traces the node finds the ring beside its socket.
  accel = new Accel({ limits: LIMITS, traceFolder: dirname(claim!.path) })
  accel.register(driver)
  accel.on('reset', (_node, reason) => journal.add('event', `reset: ${reason.message}`, 'warning'))
  accel.on('error', (error) => journal.add('event', `${error.message} (${error.code})`, 'error'))
  say({ type: 'loaded', name: driver.name, abi: formatAbi(abiOf(driver.uapi)) })
}

async function probe(socket: string): Promise<void> {
  node = await accel!.add(flagged(await connectVfioUser(socket)), { minor })
  if (stopping) return
  server = serveSocket(told(node), LISTENER, claim!.path)
  void node.lost.then((reason) => {
    if (!stopping) fail(reason)
  })
  say({ type: 'running' })
  looking = setInterval(() => void tellAttributes(), LOOK_MS)
  void tellAttributes()
}

/** Calls a command as any client would. */
async function call(id: number, name: string, input: Readonly<Record<string, unknown>>): Promise<void> {
  try {
    const { uapi } = driver!
    await using client = accel!.open(uapi, node!.name)
    const command = uapi.byName(name)
    const request = command.in.encode(requestOf(command, input))
    const { bytes } = await client.dispatch(command.number, request)
    say({ type: 'answered', id, ok: true, text: answerJson(command.out.decode(bytes)) })
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    say({ type: 'answered', id, ok: false, text: isAccelError(error) ? `${text} (${error.code})` : text })
  }
}

function fail(error: unknown): void {
  const { cause } = (error ?? {}) as { readonly cause?: unknown }
  // Which device it is, and where, is no news here.
  if (isAccelError(error, 'ERR_ACCEL_PROBE_FAILED') && cause instanceof Error)
    sayFailed(accelError(error.code, `its probe failed: ${cause.message}`, { cause }))
  else sayFailed(error)
  process.exitCode = 1
  void rest('its device is gone').finally(leave)
}

async function rest(reason: string): Promise<void> {
  stopping = true
  clearInterval(looking)
  await node?.release(accelError('ERR_ACCEL_NO_DEVICE', reason), 'removed')
  await server?.closed
}

let isLooking = false

/** Tells the attributes, and what happened. Without an open of its own while a client wants the device for itself. */
async function tellAttributes(): Promise<void> {
  if (isLooking || alone.size > 0 || !node || stopping) return
  isLooking = true
  try {
    if (!observer) {
      observer = accel!.open(commonUapi, node.name)
      void follow(observer)
    }
    const client = observer
    const attributes = await look(() => attributesIn(client, '', { timeoutMs: 1000 }))
    say({
      type: 'attributes',
      shown: attributes.flatMap(({ path, value, error }) =>
        value ? [[path, value.value, value.unit] as const] : error ? [[path, error.code, ''] as const] : [],
      ),
      state: node.status.state,
      opens: node.opens.size - 1,
    })
  } catch (error) {
    if (!isAccelError(error)) throw error
    // In reset, or on its way out: it is asked again.
  } finally {
    isLooking = false
  }
}

async function follow(client: AccelClient<typeof commonUapi>): Promise<void> {
  try {
    for await (const { kind, reason, error } of client.events()) {
      // Those of the node itself are told by `accel`, and by whoever removes it.
      if (kind === 'error' || kind === 'reset' || kind === 'removal') continue
      journal.add('event', `${kind}: ${reason}`, error === 0 ? 'plain' : 'warning')
    }
  } catch (error) {
    if (!isAccelError(error)) throw error
  }
}

async function stepAside(): Promise<void> {
  const client = observer
  observer = undefined
  await client?.close()
}

/** The node, of whose commands the journal is told. */
function told(served: AccelNode): Servable {
  const { queueCreate } = commonUapi.commands
  return {
    name: served.name,
    driver: served.driver,
    get reason() {
      return served.reason
    },
    get state() {
      return served.state
    },
    lost: served.lost,
    open: (options) => served.open(options),
    async close(open) {
      alone.delete(open)
      await served.close(open as Parameters<AccelNode['close']>[0])
    },
    jobsEnded: (open) => served.jobsEnded(open as Parameters<AccelNode['close']>[0]),
    async dispatch(open, number, bytes, options) {
      if (number === queueCreate.number) {
        alone.add(open)
        await stepAside()
      }
      const start = performance.now()
      const name = () => nameOf(served, number)
      const input = askedOf(served, number, bytes)
      const took = () => duration((performance.now() - start) * 1e6)
      try {
        const reply = await served.dispatch(
          open as Parameters<AccelNode['dispatch']>[0],
          number,
          bytes,
          options,
        )
        if (!quiet.has(number))
          journal.trace('command', `${name()} ${input} -> ${replyOf(served, number, reply.bytes)}  ${took()}`)
        return reply
      } catch (error) {
        const code = isAccelError(error) ? error.code : 'ERR_ACCEL_IO'
        const message = error instanceof Error ? error.message : String(error)
        if (!quiet.has(number))
          journal.add('command', `${name()} ${input} failed after ${took()}: ${message} (${code})`, 'error')
        throw error
      }
    },
  }
}

/** Commands that only ask or wait: their callers ask all the time. */
const quiet: ReadonlySet<number> = new Set(
  (
    ['version', 'info', 'query', 'events', 'attrList', 'attrShow', 'attrWatch', 'wait', 'boWait'] as const
  ).map((name) => commonUapi.commands[name].number),
)

const commandOf = (served: AccelNode, number: number) =>
  (number < FIRST_DRIVER_COMMAND ? commonUapi : served.driver.uapi).byNumber(number)

const nameOf = (served: AccelNode, number: number) =>
  tried(() => commandOf(served, number).name, `command ${number}`)
const askedOf = (served: AccelNode, number: number, bytes: Uint8Array) =>
  tried(() => showValue(commandOf(served, number).in.decode(bytes)), `${bytes.length} bytes`)
const replyOf = (served: AccelNode, number: number, bytes: Uint8Array) =>
  tried(() => showValue(commandOf(served, number).out.decode(bytes)), `${bytes.length} bytes`)

/** What cannot be decoded here, such as descriptors and what is wrong in a request, is told by its size. */
function tried(work: () => string, otherwise: string): string {
  try {
    return work()
  } catch {
    return otherwise
  }
}

live((message: ToProcess) => {
  if (message.type === 'driver') {
    claim = message.claim
    minor = message.minor
    void load(message.module).catch(fail)
  } else if (message.type === 'probe') void probe(message.socket).catch(fail)
  else if (message.type === 'call') void call(message.id, message.name, message.input)
}, rest)
