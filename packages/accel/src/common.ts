import { type CommandRequest, commonUapi, type Reply } from '@uaccel/uapi'
import { type Call, commandError } from './call.js'
import type { AccelNode } from './node.js'

type CommonCommands = typeof commonUapi.commands
type Answer<K extends keyof CommonCommands> = Parameters<CommonCommands[K]['out']['encode']>[0]

/** What else has no such numbers: `bus` says so. */
const noPciIds = { vendor: 0, device: 0, classCode: 0 }

/** How a command is answered: at once, or with a promise where it waits. */
type Answerer<K extends keyof CommonCommands> = (
  node: AccelNode,
  request: CommandRequest<typeof commonUapi, K>,
  call: Call,
) => Answer<K> | Promise<Answer<K>>

/** What a node says to the commands that every device answers. */
const answers: { readonly [K in keyof CommonCommands]: Answerer<K> } = {
  version: ({ driver: { uapi } }) => ({
    uapi: uapi.name,
    version: uapi.version,
    commonVersion: commonUapi.version,
    digest: new Uint8Array(Buffer.from(uapi.digest, 'hex')),
  }),
  info: ({ name, driver, identity: { transport, ...id } }) => ({
    ...(id.bus === 'pci' ? { vendor: id.vendor, device: id.device, classCode: id.classCode } : noPciIds),
    node: name,
    driver: driver.name,
    transport: transport.kind,
    address: fit(transport.address),
    tainted: fit(transport.tainted ?? ''),
    emulated: transport.emulated === undefined ? 'unknown' : transport.emulated ? 'yes' : 'no',
    bus: id.bus,
    iommu: transport.iommu ?? '',
  }),
  boCreate: ({ work }, request, { open }) => work.of(open).boCreate(request),
  boInfo: ({ work }, request, { open }) => work.of(open).boInfo(request),
  boMmap: ({ work }, request, { open }) => work.of(open).boMmap(request),
  boSync: ({ work }, request, { open }) => work.of(open).boSync(request),
  boWait: ({ work }, request, { open, signal }) => work.of(open).boWait(request, signal),
  boDestroy: ({ work }, request, { open }) => work.of(open).boDestroy(request),
  boExport: ({ work }, request, { open }) => work.of(open).boExport(request),
  boImport: ({ work }, request, { open }) => work.of(open).boImport(request),
  submit: ({ work }, request, { open }) => work.of(open).submit(request),
  wait: ({ work }, request, { open, signal }) => work.of(open).wait(request, signal),
  fenceCreate: ({ work }, request, { open }) => work.of(open).fenceCreate(request),
  fenceEvent: ({ work }, request, { open }) => work.of(open).fenceEvent(request),
  fenceDestroy: ({ work }, request, { open }) => work.of(open).fenceDestroy(request),
}

/** Bytes of the address and taint fields of INFO. */
const TEXT_BYTES = 256

/** A socket path or reason cut to the room that INFO has for it. */
function fit(text: string): string {
  let cut = text
  while (Buffer.byteLength(cut) > TEXT_BYTES) cut = [...cut].slice(0, -1).join('')
  return cut
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
    call.finish(encode(call, given instanceof Promise ? await given : given))
  } catch (error) {
    call.fail(commandError(call, error))
  }
}

function encode({ command }: Call, answer: unknown): Reply {
  const fds: number[] = []
  return { bytes: command.out.encode(answer as never, fds), fds }
}
