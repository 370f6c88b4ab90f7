import type { Area } from '@uaccel/core'
import { broken, CAP_SPARSE_MMAP, RegionFlag } from './protocol.js'

/** Page size: areas of another alignment cannot be mapped. */
const PAGE_BYTES = 4096
/** struct vfio_info_cap_header: id, version, next. */
const CAP_HEADER_BYTES = 8
const MAX_CAPS = 32

/**
 * The mappable areas of a region whose reply carries a descriptor: those of the sparse mmap capability, or all of it.
 * Offsets come from another process: each is checked against the reply and the region, and the chain is bounded.
 */
export function mappableAreas(reply: Buffer, flags: number, sizeBytes: number): Area[] {
  const sparse = flags & RegionFlag.CAPS ? sparseAreas(reply) : undefined
  const areas = sparse ?? [{ offset: 0, sizeBytes }]
  for (const { offset, sizeBytes: length } of areas) {
    if (offset + length > sizeBytes)
      throw broken(`a mappable area of ${length} bytes at ${offset} in a region of ${sizeBytes}`)
  }
  return areas
    .filter(
      (area) => area.sizeBytes > 0 && area.offset % PAGE_BYTES === 0 && area.sizeBytes % PAGE_BYTES === 0,
    )
    .sort((a, b) => a.offset - b.offset)
}

function sparseAreas(reply: Buffer): Area[] | undefined {
  let at = reply.readUInt32LE(12)
  for (let caps = 0; at !== 0; caps++) {
    if (caps === MAX_CAPS || at + CAP_HEADER_BYTES > reply.length)
      throw broken('a broken chain of region capabilities')
    if (reply.readUInt16LE(at) === CAP_SPARSE_MMAP) return areasAt(reply, at + CAP_HEADER_BYTES)
    at = reply.readUInt32LE(at + 4)
  }
  return undefined
}

/** nr_areas, reserved, then offset and size of each (struct vfio_region_info_cap_sparse_mmap). */
function areasAt(reply: Buffer, at: number): Area[] {
  const count = at + 8 <= reply.length ? reply.readUInt32LE(at) : 0
  if (at + 8 + 16 * count > reply.length)
    throw broken(`a sparse mmap capability of ${count} areas in ${reply.length} bytes`)
  return Array.from({ length: count }, (_, i) => ({
    offset: small(reply.readBigUInt64LE(at + 8 + 16 * i)),
    sizeBytes: small(reply.readBigUInt64LE(at + 16 + 16 * i)),
  }))
}

function small(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken(`an area at or of ${value} bytes`)
  return Number(value)
}
