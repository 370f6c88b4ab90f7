import { EventKind } from '@uaccel/trace'

/**
 * What a recording holds: the kinds that a trace has too, and from 64 on its own (`EventKind` of `@uaccel/trace` leaves them to it).
 * Append-only. Each is a record of 32 bytes; those that {@link payloadBytes} has bytes for are followed by them, filled up to 8.
 */
export const Kind = {
  ...EventKind,
  /** The device left `b` bytes, which follow, at offset `a` of mapping `id`. */
  deviceMemory: 64,
  /** The driver put `b` bytes, which follow, at offset `a` of mapping `id`; `width` 1: unless the device did, which wrote there before. */
  driverMemory: 65,
  /** The driver took `b` vectors of kind `id` (an index of core's `irqTypes`). */
  irqArm: 66,
  /** It gave those of kind `id` back. */
  irqDisarm: 67,
  /** It masked (`width` 1) or unmasked (0) vector `index` of kind `id`. */
  irqMask: 68,
  /** The driver's names of the registers of region `index`: JSON of `b` bytes follows. */
  registers: 69,
  /** The device was lost; why, in `b` bytes, follows. */
  lost: 70,
  /** The administrator wanted the device back; why, in `b` bytes, follows. */
  request: 71,
  /** The driver put the device to sleep (`width` 1) or woke it (0). */
  power: 72,
  /** The driver asked for a reset of kind `index` (an index of core's `resetKinds`). `reset` follows when it is done. */
  resetBegin: 73,
  /** What the driver did last failed with error number `a`; its message, in `b` bytes, follows. */
  failed: 74,
  /** What mapping `id` holds is not recorded: it is no memory of the driver, or more than the recording may hold. */
  unobserved: 75,
  /** The session ended: the transport was closed (`a` 0), the process ended (1), or the file had reached its limit (2). */
  end: 76,
} as const

export type KindName = keyof typeof Kind

const names = new Map<number, KindName>(
  Object.entries(Kind).map(([name, number]) => [number, name as KindName]),
)

/** The name of a kind of a recording; `undefined` for kinds of a trace alone, and those that this version does not know. */
export function kindNameOf(kind: number): KindName | undefined {
  return names.get(kind)
}

const withPayload: ReadonlySet<number> = new Set([
  Kind.deviceMemory,
  Kind.driverMemory,
  Kind.registers,
  Kind.lost,
  Kind.request,
  Kind.failed,
])

/** How many bytes follow a record, before they are filled up to a multiple of 8. */
export function payloadBytes({ kind, width, b }: { kind: number; width: number; b: bigint }): bigint {
  const copies = (kind === Kind.mmioRead || kind === Kind.mmioWrite) && width === 0
  return copies || withPayload.has(kind) ? b : 0n
}

/** Largest payload, which a step has in one piece: a recording with a larger one would not be read. */
export const MAX_PAYLOAD_BYTES = 4 << 20

/** Access of a mapping, in `width` of `dmaMap`. */
export const accessNumbers = { read: 1, write: 2, readwrite: 3 } as const

/** A read or write of more bytes is recorded in pieces of this. */
export const PIECE_BYTES = 64 << 10
