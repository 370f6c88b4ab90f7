import {
  type AccessWidth,
  type IrqInfo,
  type IrqType,
  irqTypes,
  PciRegion,
  type RegionInfo,
  type ResetKind,
  resetKinds,
  type Transport,
} from '@uaccel/core'
import type { IovaRange } from '@uaccel/memory'
import { accelError } from '@uaccel/uapi'

/** First 8 bytes of a recording. */
export const MAGIC = Buffer.from('uaccrec\n', 'latin1')
/** Counts the changes of the format that a reader of before would misread. */
export const VERSION = 1
/** Magic, u32 version, u32 bytes of the JSON that follows, filled up to 8. */
export const PREFIX_BYTES = 16
/** Configuration space of 4096 bytes is the most of it. */
const MAX_JSON_BYTES = 1 << 20

/** What of a device does not change in a session. */
export interface RecordedDevice {
  /** The transport that it was recorded on, and the device's address there. */
  readonly transport: string
  readonly address: string
  /** When the recording began, in ISO 8601. */
  readonly startedAt: string
  readonly platform?: { readonly name: string; readonly version: string }
  /** Without mappable areas: each access is a call. */
  readonly regions: readonly RegionInfo[]
  readonly irqs: Readonly<Record<IrqType, IrqInfo>>
  readonly resets: readonly ResetKind[]
  readonly canSleep: boolean
  readonly dma: {
    readonly pageSizeBytes: number
    /** `null` where there is no limit. */
    readonly maxMappings: number | null
    readonly ranges: readonly IovaRange[]
  }
  /** Configuration space when the recording began. */
  readonly config: Uint8Array
}

/** What a transport tells of its device. */
export function describe(transport: Transport): RecordedDevice {
  const { identity, platform, dma } = transport
  const config = new Uint8Array(transport.regions[PciRegion.CONFIG]?.sizeBytes ?? 0)
  if (config.length > 0) transport.readBytes(PciRegion.CONFIG, 0, config)
  return {
    transport: identity.kind,
    address: identity.address,
    startedAt: new Date().toISOString(),
    ...(platform === undefined ? {} : { platform }),
    regions: transport.regions.map((region) => ({ ...region, mappable: [] })),
    irqs: transport.irqs,
    resets: transport.resets,
    canSleep: transport.setLowPower !== undefined,
    dma: {
      pageSizeBytes: dma.pageSizeBytes,
      maxMappings: Number.isFinite(dma.maxMappings) ? dma.maxMappings : null,
      ranges: dma.ranges(),
    },
    config,
  }
}

/** The header of a file, as bytes. */
export function encodeHeader(device: RecordedDevice): Buffer {
  const { regions, irqs, dma, config, ...rest } = device
  const json = Buffer.from(
    JSON.stringify({
      ...rest,
      regions: regions.map(({ index, sizeBytes, readable, writable }) => ({
        index,
        sizeBytes,
        readable,
        writable,
      })),
      irqs: irqTypes.map((type) => irqs[type]),
      dma: { ...dma, ranges: dma.ranges.map(({ first, last }) => [`${first}`, `${last}`]) },
      config: Buffer.from(config).toString('base64'),
    }),
  )
  const header = Buffer.alloc(PREFIX_BYTES + Math.ceil(json.length / 8) * 8)
  MAGIC.copy(header)
  header.writeUInt32LE(VERSION, 8)
  header.writeUInt32LE(json.length, 12)
  json.copy(header, PREFIX_BYTES)
  return header
}

/**
 * Reads the header of a file. Answers also where the records begin.
 *
 * @throws ERR_ACCEL_PROTOCOL it is no recording, or a damaged one; ERR_ACCEL_VERSION one of another version
 */
export function decodeHeader(bytes: Buffer, name: string): { device: RecordedDevice; endOffset: number } {
  const wrong = (what: string) =>
    accelError('ERR_ACCEL_PROTOCOL', `${name} is no recording of a device: ${what}`)
  if (bytes.length < PREFIX_BYTES || !bytes.subarray(0, 8).equals(MAGIC))
    throw wrong('it does not begin as one')
  const version = bytes.readUInt32LE(8)
  if (version !== VERSION) {
    throw accelError(
      'ERR_ACCEL_VERSION',
      `${name} is a recording of version ${version}; this program reads version ${VERSION}: record it again, or take the program that made it`,
    )
  }
  const sizeBytes = bytes.readUInt32LE(12)
  const endOffset = PREFIX_BYTES + Math.ceil(sizeBytes / 8) * 8
  if (sizeBytes > MAX_JSON_BYTES || endOffset > bytes.length)
    throw wrong(`its header is to have ${sizeBytes} bytes, and the file has ${bytes.length}`)
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8', PREFIX_BYTES, PREFIX_BYTES + sizeBytes))
  } catch (cause) {
    throw accelError('ERR_ACCEL_PROTOCOL', `${name} is no recording of a device: its header is not JSON`, {
      cause,
    })
  }
  return { device: checkDevice(json, wrong), endOffset }
}

type Wrong = (what: string) => Error

function checkDevice(json: unknown, wrong: Wrong): RecordedDevice {
  const it = new Fields(json, 'the header', wrong)
  const regions = it.list('regions').map((entry, i) => {
    const region = new Fields(entry, `region ${i}`, wrong)
    if (region.count('index', PciRegion.VGA) !== i) throw wrong(`region ${i} has another index`)
    return {
      index: i,
      sizeBytes: region.count('sizeBytes', Number.MAX_SAFE_INTEGER),
      readable: region.boolean('readable'),
      writable: region.boolean('writable'),
      mappable: [],
    }
  })
  if (regions.length <= PciRegion.CONFIG) throw wrong(`it has ${regions.length} regions`)
  const irqs = it.list('irqs')
  const config = Buffer.from(it.text('config'), 'base64')
  if (config.length !== regions[PciRegion.CONFIG]?.sizeBytes || config.length > 4096)
    throw wrong(`it has ${config.length} bytes of configuration space`)
  const dma = new Fields(it.get('dma'), 'dma', wrong)
  const pageSizeBytes = dma.count('pageSizeBytes', 1 << 30)
  if (pageSizeBytes < 4096 || !Number.isInteger(Math.log2(pageSizeBytes)))
    throw wrong(`a page of ${pageSizeBytes} bytes`)
  const platform = it.has('platform') ? new Fields(it.get('platform'), 'platform', wrong) : undefined
  return {
    transport: it.text('transport'),
    address: it.text('address'),
    startedAt: it.text('startedAt'),
    ...(platform === undefined
      ? {}
      : { platform: { name: platform.text('name'), version: platform.text('version') } }),
    regions,
    irqs: Object.fromEntries(
      irqTypes.map((type, i) => {
        const irq = new Fields(irqs[i], `interrupt kind ${i}`, wrong)
        if (irq.text('type') !== type) throw wrong(`interrupt kind ${i} is not ${type}`)
        return [
          type,
          {
            type,
            count: irq.count('count', 2048),
            maskable: irq.boolean('maskable'),
            autoMasked: irq.boolean('autoMasked'),
          },
        ]
      }),
    ) as Record<IrqType, IrqInfo>,
    resets: it.list('resets').map((kind) => {
      const known = resetKinds.find((candidate) => candidate === kind)
      if (known === undefined) throw wrong('it has a kind of reset that this version does not know')
      return known
    }),
    canSleep: it.boolean('canSleep'),
    dma: {
      pageSizeBytes,
      maxMappings: dma.get('maxMappings') === null ? null : dma.count('maxMappings', Number.MAX_SAFE_INTEGER),
      ranges: dma.list('ranges').map((range) => {
        const [first, last] = Array.isArray(range) ? range.map(address) : []
        if (first === undefined || last === undefined || first > last) throw wrong('a range of I/O addresses')
        return { first, last }
      }),
    },
    config,
  }
}

/** An unsigned 64-bit number in decimal digits. */
function address(text: unknown): bigint | undefined {
  if (typeof text !== 'string' || !/^\d{1,20}$/.test(text)) return undefined
  const value = BigInt(text)
  return value < 1n << 64n ? value : undefined
}

/** Members of a JSON object, each checked as it is read. */
export class Fields {
  readonly #members: Readonly<Record<string, unknown>>
  readonly #what: string
  readonly #wrong: Wrong

  constructor(json: unknown, what: string, wrong: Wrong) {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) throw wrong(`${what} is no object`)
    this.#members = json as Record<string, unknown>
    this.#what = what
    this.#wrong = wrong
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#members, name)
  }

  get(name: string): unknown {
    if (this.has(name)) return this.#members[name]
    throw this.#wrong(`${this.#what} has no ${name}`)
  }

  text(name: string): string {
    const value = this.get(name)
    return typeof value === 'string' && value.length <= MAX_JSON_BYTES ? value : this.#refuse(name)
  }

  boolean(name: string): boolean {
    const value = this.get(name)
    return typeof value === 'boolean' ? value : this.#refuse(name)
  }

  /** A whole number from 0 to `max`. */
  count(name: string, max: number): number {
    const value = this.get(name)
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= max
      ? value
      : this.#refuse(name)
  }

  list(name: string): readonly unknown[] {
    const value = this.get(name)
    return Array.isArray(value) && value.length <= 4096 ? value : this.#refuse(name)
  }

  entries(): [string, unknown][] {
    return Object.entries(this.#members)
  }

  #refuse(name: string): never {
    throw this.#wrong(`${name} of ${this.#what} is not what it has to be`)
  }
}

/** A width of one access that fits a number. */
export function isNarrow(width: number): width is AccessWidth {
  return width === 1 || width === 2 || width === 4
}
