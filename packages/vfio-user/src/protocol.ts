import { accelError } from '@uaccel/uapi'

/**
 * The vfio-user protocol, version 0.1, as in QEMU's docs/interop/vfio-user.rst (formerly libvfio-user's).
 * All fields are little-endian. Flags and indices that are VFIO's own come from linux/vfio.h.
 */
export const Command = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const

const commandNames = new Map<number, string>(Object.entries(Command).map(([name, number]) => [number, name]))

/** Name of a command for messages to people. */
export function commandName(command: number): string {
  return commandNames.get(command) ?? `command ${command}`
}

/** Header flags ("Header"). */
export const Flag = { TYPE_MASK: 0xf, REPLY: 0x1, NO_REPLY: 0x10, ERROR: 0x20 } as const

export const VERSION_MAJOR = 0
export const VERSION_MINOR = 1
export const HEADER_BYTES = 16
/** Fixed part of REGION_READ/WRITE and DMA_READ/WRITE, before the data. */
export const ACCESS_BYTES = 16
/** `count` that a peer may use when it named no `max_data_xfer_size`. */
export const DEFAULT_TRANSFER_BYTES = 1 << 20
/** DMA mappings that a client may have at once where the server named no `max_dma_maps`; QEMU refuses a server that names more. */
export const DEFAULT_DMA_MAPS = 65_535
/** Descriptors that we take in one message: QEMU refuses a peer that names more than 8. */
export const MAX_MESSAGE_FDS = 8
/** The largest message that either side of ours accepts: a whole transfer, with room for the fixed parts. */
export const MAX_MESSAGE_BYTES = HEADER_BYTES + ACCESS_BYTES + DEFAULT_TRANSFER_BYTES

/** Flags of DMA_MAP, and of DMA_UNMAP ("VFIO_USER_DMA_MAP", "VFIO_USER_DMA_UNMAP"). */
export const DmaFlag = { READ: 1, WRITE: 2, MMAP: 4 } as const
export const UnmapFlag = { DIRTY_BITMAP: 1, ALL: 2 } as const
/** VFIO_DEVICE_FLAGS_*, VFIO_REGION_INFO_FLAG_*, VFIO_IRQ_INFO_*, VFIO_IRQ_SET_* of linux/vfio.h. */
export const DeviceFlag = { RESET: 1, PCI: 2 } as const
export const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const
export const IrqFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const
export const IrqSet = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  MASK: 8,
  UNMASK: 16,
  TRIGGER: 32,
} as const
/** VFIO_REGION_INFO_CAP_SPARSE_MMAP of linux/vfio.h. */
export const CAP_SPARSE_MMAP = 1

/** Sizes of the fixed structures, in bytes. */
export const Size = {
  DMA_MAP: 32,
  DMA_UNMAP: 24,
  DEVICE_INFO: 16,
  REGION_INFO: 32,
  IRQ_INFO: 16,
  IRQ_SET: 20,
} as const

/** What both sides say of themselves in VERSION. */
export interface Capabilities {
  /** Descriptors that the sender takes in one message. */
  readonly maxMessageFds: number
  /** Largest `count` of one transfer, in bytes. */
  readonly maxTransferBytes: number
  /** DMA mappings that a client may have at once. */
  readonly maxDmaMaps: number
}

/** The VERSION payload: major, minor, JSON with its NUL. */
export function encodeVersion(minor: number, capabilities: Partial<Capabilities>): Buffer {
  const json = JSON.stringify({
    capabilities: {
      max_msg_fds: capabilities.maxMessageFds,
      max_data_xfer_size: capabilities.maxTransferBytes,
      max_dma_maps: capabilities.maxDmaMaps,
    },
  })
  const payload = Buffer.alloc(4 + Buffer.byteLength(json) + 1)
  payload.writeUInt16LE(VERSION_MAJOR, 0)
  payload.writeUInt16LE(minor, 2)
  payload.write(json, 4)
  return payload
}

/** Reads a VERSION payload; what a peer leaves out has the specification's default. `ERR_ACCEL_PROTOCOL` where it is malformed. */
export function decodeVersion(payload: Uint8Array): {
  major: number
  minor: number
  capabilities: Capabilities
} {
  if (payload.length < 4) throw broken(`a VERSION of ${payload.length} bytes; at least 4 are needed`)
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length)
  const capabilities = bytes.length > 4 ? decodeCapabilities(bytes.subarray(4)) : {}
  return {
    major: bytes.readUInt16LE(0),
    minor: bytes.readUInt16LE(2),
    capabilities: {
      maxMessageFds: positive(capabilities, 'max_msg_fds', 1),
      maxTransferBytes: positive(capabilities, 'max_data_xfer_size', DEFAULT_TRANSFER_BYTES),
      maxDmaMaps: positive(capabilities, 'max_dma_maps', DEFAULT_DMA_MAPS),
    },
  }
}

function decodeCapabilities(bytes: Buffer): object {
  if (bytes[bytes.length - 1] !== 0) throw broken('VERSION data without its terminating NUL')
  const text = bytes.toString('utf8', 0, bytes.indexOf(0))
  let data: unknown
  try {
    data = JSON.parse(text || '{}')
  } catch (cause) {
    throw broken(`VERSION data that is not JSON: ${JSON.stringify(text.slice(0, 80))}`, cause)
  }
  const capabilities = isObject(data) && 'capabilities' in data ? data.capabilities : {}
  if (!isObject(data) || !isObject(capabilities))
    throw broken('VERSION data that is not an object of objects')
  return capabilities
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function positive(capabilities: object, name: string, fallback: number): number {
  const value: unknown = name in capabilities ? (capabilities as Record<string, unknown>)[name] : fallback
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
    throw broken(`VERSION with ${name} ${JSON.stringify(value)}; a positive integer is wanted`)
  }
  return value
}

/** A peer that breaks the protocol, in words that end with what it sent. */
export function broken(what: string, cause?: unknown) {
  return accelError(
    'ERR_ACCEL_PROTOCOL',
    `The vfio-user peer sent ${what}.`,
    cause === undefined ? {} : { cause },
  )
}
