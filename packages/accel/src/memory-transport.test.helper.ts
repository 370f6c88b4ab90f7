import type { DmaMapper, DmaMapRequest, Iova, IovaRange } from '@uaccel/memory'
import { FakeTransport } from './fake-transport.test.helper.js'

/** A transport whose device reaches memory, and that keeps record of what is mapped for it. */
export class MemoryTransport extends FakeTransport {
  /** What is mapped, by I/O address. */
  readonly mapped = new Map<Iova, DmaMapRequest>()
  readonly #mapper: DmaMapper = {
    pageSizeBytes: 4096,
    maxMappings: Number.POSITIVE_INFINITY,
    locksMemory: false,
    ranges: (): readonly IovaRange[] => [{ first: 0x10_0000n, last: 0xffff_ffffn }],
    map: (request) => void this.mapped.set(request.iova, request),
    unmap: (iova) => void this.mapped.delete(iova),
  }

  override get dma(): DmaMapper {
    return this.#mapper
  }
}
