import { createSealedMemory, Mapping, sys } from '@uaccel/sys'
import type { Width } from './registers.js'
import type { ModelBar, ModelMemory } from './types.js'

/** A part of a BAR that is memory, as this process sees it. */
export interface MemoryPart extends ModelMemory {
  readonly mapping: Mapping
}

/** A BAR with the memory behind it: one sealed file of the BAR's size, of which only what is used takes room. */
export class Bar {
  readonly sizeBytes: number
  readonly fd: number | undefined
  readonly parts: readonly MemoryPart[]

  constructor({ index, sizeBytes, memory = [] }: ModelBar, model: string) {
    this.sizeBytes = sizeBytes
    if (memory.length === 0) {
      this.parts = []
      return
    }
    const { fd } = createSealedMemory(`${model}-bar${index}`, sizeBytes)
    this.fd = fd
    this.parts = memory.map((part) => ({
      ...part,
      mapping: Mapping.map({
        fd,
        offset: part.offset,
        sizeBytes: part.sizeBytes,
        dontFork: true,
        label: `${part.name} of ${model}`,
      }),
    }))
  }

  /** The memory that holds all of a range. */
  partAt(offset: number, sizeBytes: number): MemoryPart | undefined {
    for (const part of this.parts) {
      if (offset >= part.offset && offset + sizeBytes <= part.offset + part.sizeBytes) return part
    }
    return undefined
  }

  close(): void {
    for (const { mapping } of this.parts) mapping.revoke()
    if (this.fd !== undefined) sys.close(this.fd)
  }
}

/** One naturally aligned access to memory that is not mapped into the driver. */
export function readMemory({ mapping }: MemoryPart, offset: number, width: Width): number | bigint {
  const { window } = mapping
  if (width === 4) return window.u32[offset >> 2]!
  if (width === 8) return window.u64[offset >> 3]!
  return width === 2 ? window.u16[offset >> 1]! : window.u8[offset]!
}

export function writeMemory(
  { mapping }: MemoryPart,
  offset: number,
  width: Width,
  value: number | bigint,
): void {
  const { window } = mapping
  if (width === 4) window.u32[offset >> 2] = Number(value)
  else if (width === 8) window.u64[offset >> 3] = BigInt(value)
  else if (width === 2) window.u16[offset >> 1] = Number(value)
  else window.u8[offset] = Number(value)
}
