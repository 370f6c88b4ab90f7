import type { DmaDomain, DmaRegion } from '@uaccel/memory'
import type { AdminQueue } from './admin.js'
import { Admin, PAGE_BYTES } from './command.js'
import type { ShadowDoorbells } from './queue.js'
import { warmUp } from './warm-up.js'

const PAGE_WORDS = PAGE_BYTES / 4

/** Whether the doorbells of so many queue pairs have room in a page of shadow doorbells. */
export function shadowFits(pairs: number, stride: number): boolean {
  return pairs * 2 * stride <= PAGE_BYTES
}

/** Takes memory for the shadow doorbells of a controller: the page that the driver writes, and that of the controller's event indexes behind it. */
export function allocShadow(dma: DmaDomain): DmaRegion {
  return dma.alloc(2 * PAGE_BYTES, { alignBytes: PAGE_BYTES, name: 'NVMe shadow doorbells', separate: true })
}

/** Has the controller use the memory, from now until it is reset (5.7): before its I/O queues are made. */
export async function configureShadow(admin: AdminQueue, memory: DmaRegion): Promise<void> {
  warmUp({ shadow: true })
  memory.u8.fill(0)
  await admin.run({ opcode: Admin.doorbellBufferConfig }, { data: memory, pages: 2 })
}

/** A queue that is made anew starts at 0: its doorbells are `sizeBytes` from `offset` on. */
export function clearShadow({ i32 }: Pick<DmaRegion, 'i32'>, offset: number, sizeBytes: number): void {
  for (const page of [0, PAGE_WORDS]) i32.fill(0, page + offset / 4, page + (offset + sizeBytes) / 4)
}

/** Shadow doorbells as a queue sees whose doorbells are counted from the one at `offset` bytes on. */
export function shadowFrom({ i32 }: Pick<DmaRegion, 'i32'>, offset: number): ShadowDoorbells {
  return {
    doorbells: i32.subarray(offset / 4, PAGE_WORDS),
    eventIndexes: i32.subarray(PAGE_WORDS + offset / 4, 2 * PAGE_WORDS),
  }
}
