import type { NpuBar } from './queue-control.js'

/** What the device can do (4.1). */
export interface NpuCapabilities {
  readonly version: string
  readonly queues: number
  readonly windows: number
  readonly minRingEntries: number
  readonly maxRingEntries: number
  readonly maxDimension: number
  readonly maxElements: number
  readonly maxMacs: number
  /** Bit n: opcode n. */
  readonly opcodes: bigint
  /** Bit n: data type n. */
  readonly dataTypes: number
  readonly cardBytes: number
  readonly clockKhz: number
  readonly readyTimeoutMs: number
}

/** Reads the capability registers. */
export function readCapabilities(bar: NpuBar): NpuCapabilities {
  const { major, minor, patch } = bar.VERSION.get()
  const { queues, windows, readyTimeoutMs } = bar.CAP0.get()
  const limits = bar.CAP1.get()
  return {
    version: `${major}.${minor}.${patch}`,
    // Both are of 8 bits; this version of the register map has room for so many.
    queues: Math.min(queues, bar.QUEUE.length),
    windows: Math.min(windows, bar.QUEUE[0].WINDOW.length),
    minRingEntries: 2 ** limits.minEntriesLog2,
    maxRingEntries: 2 ** limits.maxEntriesLog2,
    maxDimension: bar.MAX_DIM.read(),
    maxElements: 2 ** limits.maxElementsLog2,
    maxMacs: 2 ** limits.maxMacsLog2,
    opcodes: (BigInt(bar.OPCODES_HI.read()) << 32n) | BigInt(bar.OPCODES_LO.read()),
    dataTypes: bar.DTYPES.read(),
    cardBytes: bar.LMEM_SIZE_LO.read() + bar.LMEM_SIZE_HI.read() * 2 ** 32,
    clockKhz: bar.CLOCK_KHZ.read(),
    readyTimeoutMs,
  }
}
