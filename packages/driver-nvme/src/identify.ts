import { PAGE_BYTES } from './command.js'
import { MAX_TRANSFER_BYTES } from './prp.js'

/** What Identify Controller says (NVMe base 1.4, figure 247). */
export interface ControllerIdentity {
  readonly vendor: number
  readonly serial: string
  readonly model: string
  readonly firmware: string
  /** "1.4.0". */
  readonly version: string
  readonly controllerId: number
  /** What one command moves at most; bounded by what the driver does, too. */
  readonly maxTransferBytes: number
  /** Commands to be aborted that the controller takes at once. */
  readonly abortLimit: number
  readonly namespaces: number
  /** There is a cache that loses its contents with the power: flush has an effect. */
  readonly volatileWriteCache: boolean
  readonly compare: boolean
  readonly writeZeroes: boolean
  readonly datasetManagement: boolean
  /** Copy with source ranges of format 0 (TP 4065). */
  readonly copy: boolean
  /** Shadow doorbells: Doorbell Buffer Config, of controllers in software. */
  readonly doorbellBufferConfig: boolean
  /** Whether it tells of changed namespaces. */
  readonly namespaceNotices: boolean
}

/** A namespace (figure 245). */
export interface NamespaceIdentity {
  readonly nsid: number
  readonly blocks: bigint
  readonly blockBytes: number
  /** Bytes of metadata beside each block. */
  readonly metadataBytes: number
  /** True where this driver reads and writes it: blocks of 512 bytes to 64 KiB without metadata. */
  readonly usable: boolean
  /** What one copy may be (TP 4065): source ranges, blocks of each, blocks of all. */
  readonly copy: { readonly ranges: number; readonly rangeBlocks: number; readonly blocks: number }
}

/** The health log page (figure 194). Counters of 128 bits end at 2^64 - 1 here. */
export interface Health {
  /** Bit 0 spare, 1 temperature, 2 reliability, 3 read-only, 4 backup of volatile memory, 5 persistent memory region. */
  readonly criticalWarning: number
  readonly temperatureKelvin: number
  readonly availableSparePercent: number
  readonly spareThresholdPercent: number
  readonly usedPercent: number
  readonly bytesRead: bigint
  readonly bytesWritten: bigint
  readonly readCommands: bigint
  readonly writeCommands: bigint
  readonly busyMinutes: bigint
  readonly powerCycles: bigint
  readonly powerOnHours: bigint
  readonly unsafeShutdowns: bigint
  readonly mediaErrors: bigint
  readonly errorLogEntries: bigint
}

export const HEALTH_BYTES = 512
/** A data unit is 1,000 blocks of 512 bytes (figure 194). */
const DATA_UNIT_BYTES = 512_000n
const MAX_U64 = (1n << 64n) - 1n
const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Text of a fixed place: printable ASCII, padded with spaces. Whatever else is there is shown as such. */
function text(bytes: Uint8Array, from: number, to: number): string {
  const characters = Array.from(bytes.subarray(from, to), (code) =>
    code >= 0x20 && code < 0x7f ? String.fromCharCode(code) : code === 0 ? ' ' : '?',
  )
  return characters.join('').trim()
}

/** Reads the 4,096 bytes of Identify Controller. They are the device's: nothing in them is an address or a length to trust. */
export function decodeController(bytes: Uint8Array): ControllerIdentity {
  const view = viewOf(bytes)
  const mdts = bytes[77]
  const version = view.getUint32(80, true)
  const oncs = view.getUint16(520, true)
  return {
    vendor: view.getUint16(0, true),
    serial: text(bytes, 4, 24),
    model: text(bytes, 24, 64),
    firmware: text(bytes, 64, 72),
    version: `${version >>> 16}.${(version >>> 8) & 0xff}.${version & 0xff}`,
    controllerId: view.getUint16(78, true),
    // 2^MDTS pages; 0 is no limit.
    maxTransferBytes:
      mdts === 0 || mdts > 20 ? MAX_TRANSFER_BYTES : Math.min(MAX_TRANSFER_BYTES, PAGE_BYTES * 2 ** mdts),
    abortLimit: bytes[258] + 1,
    namespaces: view.getUint32(516, true),
    doorbellBufferConfig: (view.getUint16(256, true) & 0x100) !== 0,
    volatileWriteCache: (bytes[525] & 1) !== 0,
    compare: (oncs & 1) !== 0,
    datasetManagement: (oncs & 4) !== 0,
    writeZeroes: (oncs & 8) !== 0,
    copy: (oncs & 0x100) !== 0 && (view.getUint16(534, true) & 1) !== 0,
    namespaceNotices: (view.getUint32(92, true) & 0x100) !== 0,
  }
}

/** Reads the 4,096 bytes of Identify Namespace. */
export function decodeNamespace(nsid: number, bytes: Uint8Array): NamespaceIdentity {
  const view = viewOf(bytes)
  const format = 128 + 4 * (bytes[26] & 0xf)
  const metadataBytes = view.getUint16(format, true)
  const blockLog2 = bytes[format + 2]
  const blocks = view.getBigUint64(0, true)
  const usable = blockLog2 >= 9 && blockLog2 <= 16 && metadataBytes === 0 && blocks > 0n && blocks < 1n << 53n
  const copy = {
    ranges: bytes[80] + 1,
    rangeBlocks: view.getUint16(74, true),
    blocks: view.getUint32(76, true),
  }
  return { nsid, blocks, blockBytes: blockLog2 <= 31 ? 2 ** blockLog2 : 0, metadataBytes, usable, copy }
}

/** The namespaces of a list (figure 251): ascending, up to the first 0. */
export function decodeNamespaceList(bytes: Uint8Array, after: number): number[] {
  const view = viewOf(bytes)
  const found: number[] = []
  let last = after
  for (let at = 0; at + 4 <= bytes.length; at += 4) {
    const nsid = view.getUint32(at, true)
    if (nsid <= last) break // the end, or a list that does not end
    found.push(nsid)
    last = nsid
  }
  return found
}

/** Reads the health log page. */
export function decodeHealth(bytes: Uint8Array): Health {
  const view = viewOf(bytes)
  const counter = (at: number, unit = 1n) => {
    const value = (view.getBigUint64(at, true) | (view.getBigUint64(at + 8, true) << 64n)) * unit
    return value > MAX_U64 ? MAX_U64 : value
  }
  return {
    criticalWarning: bytes[0],
    temperatureKelvin: view.getUint16(1, true),
    availableSparePercent: bytes[3],
    spareThresholdPercent: bytes[4],
    usedPercent: bytes[5],
    bytesRead: counter(32, DATA_UNIT_BYTES),
    bytesWritten: counter(48, DATA_UNIT_BYTES),
    readCommands: counter(64),
    writeCommands: counter(80),
    busyMinutes: counter(96),
    powerCycles: counter(112),
    powerOnHours: counter(128),
    unsafeShutdowns: counter(144),
    mediaErrors: counter(160),
    errorLogEntries: counter(176),
  }
}
