import Table from 'cli-table3'
import type { Side } from './compare.js'

/** What `--json` prints of one direction. */
interface SideSummary {
  readonly bytes: number
  /** Megabytes (10^6) a second. */
  readonly deviceMegabytesPerSecond: number
  readonly nodeMegabytesPerSecond: number
  readonly mismatches: number
}

/** What `--json` prints. */
export interface Summary {
  readonly device: string
  readonly transport: string
  readonly message: string
  readonly cipher: string
  /** In hexadecimal: no secret. */
  readonly iv: string
  readonly encrypted: SideSummary
  readonly decrypted: SideSummary
  readonly mismatches: number
}

/** What the node says of its device (QUERY identity). */
export interface Identity {
  readonly name: string
  readonly node: string
  readonly emulated: 'unknown' | 'no' | 'yes'
  readonly transport: string
  readonly iommu: string
}

export function summarise(
  identity: Identity,
  message: string,
  { key, iv }: { readonly key: Uint8Array; readonly iv: Uint8Array },
  { encrypted, decrypted }: { readonly encrypted: Side; readonly decrypted: Side },
): Summary {
  const { name, node, emulated, transport, iommu } = identity
  return {
    device: `${name}${emulated === 'yes' ? ', emulated' : ''} (${node})`,
    transport: iommu === '' ? transport : `${transport}, ${iommu}`,
    message,
    cipher: `AES-${key.length * 8}-CBC`,
    iv: Buffer.from(iv).toString('hex'),
    encrypted: summariseSide(encrypted),
    decrypted: summariseSide(decrypted),
    mismatches: encrypted.mismatches + decrypted.mismatches,
  }
}

function summariseSide({ bytes, deviceSeconds, nodeSeconds, mismatches }: Side): SideSummary {
  const rate = (seconds: number) => Number((bytes / 1e6 / Math.max(seconds, 1e-9)).toFixed(1))
  return {
    bytes,
    deviceMegabytesPerSecond: rate(deviceSeconds),
    nodeMegabytesPerSecond: rate(nodeSeconds),
    mismatches,
  }
}

/** The summary for people, at most 80 columns wide. */
export function formatReport(summary: Summary): string {
  const table = new Table({
    head: ['', 'bytes', 'device MB/s', 'node:crypto MB/s', 'mismatches'],
    colAligns: ['left', 'right', 'right', 'right', 'right'],
    // No lines between the rows.
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
  })
  for (const side of ['encrypted', 'decrypted'] as const) {
    const { bytes, deviceMegabytesPerSecond, nodeMegabytesPerSecond, mismatches } = summary[side]
    table.push([
      side,
      bytes.toLocaleString('en'),
      deviceMegabytesPerSecond.toFixed(1),
      nodeMegabytesPerSecond.toFixed(1),
      mismatches,
    ])
  }
  const { device, transport, message, cipher, iv } = summary
  return `device     ${device}\ntransport  ${transport}\nmessage    ${message}\ncipher     ${cipher}, IV ${iv}\n\n${table}\n`
}
