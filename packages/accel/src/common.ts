import { commonUapi, type Reply } from '@uaccel/uapi'
import type { AccelNode } from './node.js'

type CommonCommands = typeof commonUapi.commands
type Answer<K extends keyof CommonCommands> = Parameters<CommonCommands[K]['out']['encode']>[0]

/** What else has no such numbers: `bus` says so. */
const noPciIds = { vendor: 0, device: 0, classCode: 0 }

/** What a node says to the commands that every device answers. */
const answers: { readonly [K in keyof CommonCommands]: (node: AccelNode) => Answer<K> } = {
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
}

/** Bytes of the address and taint fields of INFO. */
const TEXT_BYTES = 256

/** A socket path or reason cut to the room that INFO has for it. */
function fit(text: string): string {
  let cut = text
  while (Buffer.byteLength(cut) > TEXT_BYTES) cut = [...cut].slice(0, -1).join('')
  return cut
}

/** Encodes the answer to a common command without input. */
export function answerCommon(node: AccelNode, name: string): Reply {
  const key = name as keyof CommonCommands
  const fds: number[] = []
  return { bytes: commonUapi.byName(name).out.encode(answers[key](node), fds), fds }
}
