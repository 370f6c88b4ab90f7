import { accelError } from '@uaccel/uapi'
import type { AcceleratorMemory } from '@uaccel/webnn/accelerator'
import type { NpuBuffer } from '../buffers.js'

/** Memory that the device reaches: the planner and the CPU see its bytes. */
export class NpuMemory implements AcceleratorMemory {
  readonly buffer: NpuBuffer

  constructor(buffer: NpuBuffer) {
    this.buffer = buffer
  }

  get bytes(): Uint8Array {
    return this.buffer.u8
  }

  free(): void {
    this.buffer.free()
  }
}

/** What of the NPU is behind a memory. */
export function bufferOf(memory: AcceleratorMemory): NpuBuffer {
  if (memory instanceof NpuMemory) return memory.buffer
  throw accelError(
    'ERR_ACCEL_INVALID_ARGUMENT',
    'A list of the NPU wants memory that its accelerator allocated',
  )
}

/**
 * Exchanges the places of a step, which are objects with a number as `buffer`, wherever they are.
 * @param to The place that becomes of one
 */
export function placed(part: unknown, to: (buffer: number, offset: number) => object): unknown {
  if (Array.isArray(part)) return part.map((each) => placed(each, to))
  if (typeof part !== 'object' || part === null) return part
  const { buffer, offset = 0 } = part as { buffer?: number; offset?: number }
  if (buffer !== undefined) return to(buffer, offset)
  return Object.fromEntries(Object.entries(part).map(([name, each]) => [name, placed(each, to)]))
}
