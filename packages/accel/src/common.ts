import { closeAll } from '@uaccel/sys'
import {
  type AccelError,
  ATTRIBUTES_AT_ONCE,
  accelError,
  type CommandRequest,
  commonUapi,
  type Reply,
} from '@uaccel/uapi'
import type { Placed } from './attributes.js'
import { type Call, commandError } from './call.js'
import type { AccelNode } from './node.js'
import { answerQuery } from './query.js'
import { fit } from './text.js'

type CommonUapi = typeof commonUapi
type CommonCommands = CommonUapi['commands']
type Answer<K extends keyof CommonCommands> = Parameters<CommonCommands[K]['out']['encode']>[0]

/** What else has no such numbers: `bus` says so. */
const noPciIds = { vendor: 0, device: 0, classCode: 0 }

/** Bytes of the address and taint fields of INFO. */
const TEXT_BYTES = 256

/** How a command is answered: at once, or with a promise where it waits. */
type Answerer<K extends keyof CommonCommands> = (
  node: AccelNode,
  request: CommandRequest<CommonUapi, K>,
  call: Call,
) => Answer<K> | Promise<Answer<K>>

/** What a node says to the commands that every device answers. */
const answers: { readonly [K in keyof CommonCommands]: Answerer<K> } = {
  version: ({ driver }) => ({
    uapi: driver.uapi.name,
    version: driver.uapi.version,
    commonVersion: commonUapi.version,
    digest: new Uint8Array(Buffer.from(driver.uapi.digest, 'hex')),
  }),

  info(node) {
    const { transport, ...id } = node.identity
    return {
      ...(id.bus === 'pci' ? { vendor: id.vendor, device: id.device, classCode: id.classCode } : noPciIds),
      node: node.name,
      driver: node.driver.name,
      transport: transport.kind,
      address: fit(transport.address, TEXT_BYTES),
      tainted: fit(transport.tainted ?? '', TEXT_BYTES),
      emulated: transport.emulated === undefined ? 'unknown' : transport.emulated ? 'yes' : 'no',
      bus: id.bus,
      iommu: transport.iommu ?? '',
    }
  },

  query: (node, request, { open }) => answerQuery(node, open, request),

  events(node, { after, options }, { open, signal }) {
    const { events } = node.record
    if (after > BigInt(events.last)) throw aheadOf('event', after, events.last)
    const from = Math.max(Number(after), open.eventsFrom)
    if (events.last > from) return events.read(from)
    open.check()
    if (options.nonblock) return events.read(from)
    return open.wait(async () => {
      await events.bell.wait(signal)
      return events.read(from)
    })
  },

  async reset(node, { kind, reason }, { open }) {
    if (!open.rights.reset) {
      throw accelError('ERR_ACCEL_PERMISSION', `Open ${open.id} has no right to reset ${node.name}`)
    }
    await node.reset({
      ...(kind === 'default' ? {} : { kind }),
      // It gets into messages to others: one line.
      ...(reason === '' ? {} : { reason: reason.replace(/\p{Cc}/gu, ' ') }),
    })
    return {}
  },

  trace(node, _request, { open }) {
    if (open.rights.as === 'owner') return node.tracing.join(open)
    throw accelError(
      'ERR_ACCEL_PERMISSION',
      `Open ${open.id} may not trace ${node.name}: root may, and the user of its server`,
    )
  },

  boCreate: ({ work }, request, { open }) => work.of(open).boCreate(request),
  boInfo: ({ work }, request, { open }) => work.of(open).boInfo(request),
  boMmap: ({ work }, request, { open }) => work.of(open).boMmap(request),
  boSync: ({ work }, request, { open }) => work.of(open).boSync(request),
  boWait: ({ work }, request, { open, signal }) => open.wait(() => work.of(open).boWait(request, signal)),
  boDestroy: ({ work }, request, { open }) => work.of(open).boDestroy(request),
  boExport: ({ work }, request, { open }) => work.of(open).boExport(request),
  boImport: ({ work }, request, { open }) => work.of(open).boImport(request),
  submit({ work, record }, request, { open }) {
    try {
      return work.of(open).submit(request)
    } catch (error) {
      record.refusals++
      throw error
    }
  },
  wait: ({ work }, request, { open, signal }) => open.wait(() => work.of(open).fences.wait(request, signal)),
  fenceCreate: ({ work }, request, { open }) => work.of(open).fences.create(request),
  fenceEvent: ({ work }, request, { open }) => work.of(open).fences.event(request),
  fenceDestroy: ({ work }, request, { open }) => work.of(open).fences.destroy(request),
  queueCreate: ({ work }, request, { open, signal }) => work.of(open).queueCreate(request, signal),
  queueDestroy: ({ work }, request, { open }) => work.of(open).queueDestroy(request),
  queueEvent: ({ work }, request, { open }) => work.of(open).queueEvent(request),

  async attrList(node, { path, from }, { open }) {
    const found = await node.attributes.list(open, path)
    const entries = found.slice(from, from + ATTRIBUTES_AT_ONCE)
    return {
      total: found.length,
      entries: entries.map((placed) => ({ path: placed.path, ...described(node, placed) })),
    }
  },

  attrShow: async (node, { path }, { open }) => shown(node, await node.attributes.find(open, path, 'read')),

  async attrStore(node, { path, value }, { open }) {
    const { attributes } = node
    const placed = await attributes.find(open, path, 'write')
    return { revision: BigInt(await attributes.store(placed, value)) }
  },

  attrWatch(node, { path, after }, { open, signal }) {
    const { attributes } = node
    if (after > BigInt(attributes.latest)) throw aheadOf('revision', after, attributes.latest)
    return open.wait(async () => {
      while (true) {
        const placed = await attributes.find(open, path, 'read')
        signal.throwIfAborted()
        if (attributes.revision(placed) > Number(after)) return shown(node, placed)
        await attributes.change(path, signal)
      }
    })
  },
}

/** What an attribute is. */
const described = (node: AccelNode, placed: Placed) => ({
  mode: placed.mode,
  scope: placed.scope,
  type: placed.type,
  unit: placed.unit,
  revision: BigInt(node.attributes.revision(placed)),
})

/** An attribute with its value. The revision is that from before: what changed meanwhile is shown to a watch again. */
async function shown(node: AccelNode, placed: Placed) {
  const what = described(node, placed)
  return { ...what, value: await node.attributes.show(placed) }
}

/** The refusal of a number that was not given yet: its giver is another node, or this one before it was there anew. */
function aheadOf(what: string, after: bigint, latest: number): AccelError {
  return accelError(
    'ERR_ACCEL_OUT_OF_RANGE',
    `after ${what} ${after} was asked for, and the latest is ${latest}: begin anew with 0`,
  )
}

/**
 * Answers a common command. What needs no wait is done when this returns, so that commands act in the order of their calls, and
 * so that no descriptor is made for a call that has ended. Never rejects.
 */
export async function answerCommon(node: AccelNode, call: Call, request: unknown): Promise<void> {
  if (call.ended) return
  try {
    const answer = answers[call.command.name as keyof CommonCommands] as Answerer<keyof CommonCommands>
    const given = answer(node, request as never, call)
    const reply = encode(call, given instanceof Promise ? await given : given)
    if (call.ended) closeAll(reply.fds)
    else call.finish(reply)
  } catch (error) {
    call.fail(commandError(call, error))
  }
}

function encode({ command }: Call, answer: unknown): Reply {
  const fds: number[] = []
  return { bytes: command.out.encode(answer as never, fds), fds }
}
