/** One access to a device's registers, as QEMU saw it. */
export interface MemoryAccess {
  kind: 'read' | 'write'
  /** Name of QEMU's memory region: `edu-mmio` for edu's BAR 0. */
  region: string
  /** Guest physical address. */
  address: bigint
  /** Value read or written, the lowest byte first in line. */
  value: bigint
  /** Width of the access in bytes. */
  size: number
}

/** What to hand to `trace` so that {@link memoryAccesses} has something to read. */
export const memoryTrace: readonly string[] = ['memory_region_ops_read', 'memory_region_ops_write']

const row =
  /memory_region_ops_(read|write) cpu -?\d+ mr 0x[0-9a-f]+ addr 0x([0-9a-f]+) value 0x([0-9a-f]+) size (\d+)(?: name '([^']*)')?/g

/**
 * The accesses in a trace, in order (the events `memory_region_ops_*` of QEMU's system/trace-events).
 * @param trace text of the trace, see `trace` of runInLab
 * @param region only those of the memory region of this name
 */
export function memoryAccesses(trace: string, region?: string): MemoryAccess[] {
  const accesses: MemoryAccess[] = []
  for (const [, kind, address, value, size, name = ''] of trace.matchAll(row)) {
    if (region !== undefined && name !== region) continue
    accesses.push({
      kind: kind as 'read' | 'write',
      region: name,
      address: BigInt(`0x${address}`),
      value: BigInt(`0x${value}`),
      size: Number(size),
    })
  }
  return accesses
}
