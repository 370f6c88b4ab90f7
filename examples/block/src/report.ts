import Table from 'cli-table3'
import type { Ext4 } from './ext4.js'
import type { Inode } from './layout.js'
import type { NamespaceReader } from './namespace.js'
import type { Verification } from './verify.js'

/** Mismatches that are printed for people. */
const SHOWN = 10

/** What `--json` prints. */
export interface Summary {
  readonly device: string
  readonly transport: string
  readonly namespace: number
  readonly fileSystem: string
  readonly blockBytes: number
  readonly files: number
  readonly directories: number
  readonly links: number
  readonly bytes: number
  /** Megabytes (10^6) a second, read and hashed. */
  readonly megabytesPerSecond: number
  /** Of the device, by the driver's jobs. */
  readonly reads: number
  readonly mostReadsAtOnce: number
  readonly mismatches: readonly string[]
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
  { name, node, emulated, transport, iommu }: Identity,
  { nsid, reads, mostAtOnce }: NamespaceReader,
  { superblock }: Ext4,
  { files, directories, links, bytes, seconds, mismatches }: Verification,
): Summary {
  return {
    device: `${printable(name)}${emulated === 'yes' ? ', emulated' : ''} (${node})`,
    transport: iommu === '' ? transport : `${transport}, ${iommu}`,
    namespace: nsid,
    fileSystem: superblock.version,
    blockBytes: superblock.blockBytes,
    ...{ files, directories, links, bytes },
    megabytesPerSecond: Number((bytes / 1e6 / Math.max(seconds, 1e-9)).toFixed(1)),
    reads,
    mostReadsAtOnce: mostAtOnce,
    mismatches,
  }
}

/** The summary for people. Its table is at most 80 columns wide. */
export function formatReport(summary: Summary): string {
  const { device, transport, namespace, fileSystem, blockBytes, mismatches } = summary
  const table = new Table({
    head: ['files', 'bytes', 'MB/s', 'reads', 'at once', 'mismatches'],
    colAligns: Array(6).fill('right'),
    style: { head: [], border: [] },
  })
  const [files, bytes, reads, count] = [summary.files, summary.bytes, summary.reads, mismatches.length].map(
    (value) => value.toLocaleString('en'),
  )
  table.push([files, bytes, summary.megabytesPerSecond.toFixed(1), reads, summary.mostReadsAtOnce, count])
  const more = mismatches.length > SHOWN ? [`and ${mismatches.length - SHOWN} more`] : []
  return [
    `device       ${device}`,
    `transport    ${transport}`,
    `file system  ${fileSystem} on namespace ${namespace}, blocks of ${blockBytes} bytes`,
    '',
    `${table}`,
    ...[...mismatches.slice(0, SHOWN).map(printable), ...more],
    '',
  ].join('\n')
}

const letters: Readonly<Record<Inode['type'], string>> = {
  file: '-',
  directory: 'd',
  link: 'l',
  fifo: 'p',
  socket: 's',
  'character device': 'c',
  'block device': 'b',
}
/** Set-user-ID, set-group-ID, sticky: the bit, where its letter stands, and the letter; a capital where nobody may execute (inode(7)). */
const specials = [
  [0o4000, 3, 's'],
  [0o2000, 6, 's'],
  [0o1000, 9, 't'],
] as const

/** A line as of `ls -l`, without owner and time. */
export function formatEntry(name: string, inode: Inode, target?: string): string {
  const mode = [letters[inode.type]]
  for (let bit = 8; bit >= 0; bit--) mode.push((inode.permissions & (1 << bit)) !== 0 ? 'xwr'[bit % 3] : '-')
  for (const [bit, at, letter] of specials)
    if ((inode.permissions & bit) !== 0) mode[at] = mode[at] === 'x' ? letter : letter.toUpperCase()
  const leads = target === undefined ? '' : ` -> ${target}`
  return `${mode.join('')} ${String(inode.sizeBytes).padStart(12)}  ${printable(`${name}${leads}`)}`
}

/** Text of others without what a terminal would obey. */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, '?')
}
