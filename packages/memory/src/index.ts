export { arenaBytes, DmaRegion, type DmaRegionOptions } from './arena.js'
export { DmaBuffer, type DmaBufferOptions } from './buffer.js'
export {
  ClientBuffer,
  ClientBuffers,
  type ClientJob,
  type ClientPoint,
  type ClientRange,
  type CommonCaller,
  deadlineIn,
  openBuffers,
} from './client-buffers.js'
export {
  ClientQueue,
  openQueue,
  type QueueDoorbell,
  type QueueOpener,
  type QueueOptions,
  type QueueRange,
} from './client-queue.js'
export { DmaBuf, type DmaBufInfo, dmaBufInfo } from './dma-buf.js'
export {
  type DmaBufMapping,
  DmaDomain,
  type DmaDomainOptions,
  type DmaMapOptions,
  type DmaMapping,
  type DmaRange,
} from './domain.js'
export {
  hugePageBytes,
  IovaAllocator,
  type IovaAllocatorOptions,
  type IovaRequest,
  isPowerOfTwo,
} from './iova.js'
export { type MemlockState, readMemlock } from './memlock.js'
export { withOwnCode } from './own-code.js'
export { offsetInPage, PageMap, type PageRange, pageOf } from './page-map.js'
export { PhysicalMapper, type PhysicalMapperOptions, type PhysicalMemory } from './physical.js'
export { RangeAllocator, type UnitRange } from './ranges.js'
export { type CompletionLayout, CompletionRing, memoryFence, ProducerRing, type RingLayout } from './rings.js'
export * from './types.js'
export { MemoryViews } from './views.js'
