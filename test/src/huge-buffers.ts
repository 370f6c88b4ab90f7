import { existsSync, writeFileSync } from 'node:fs'

/** What shared memory is backed with (Linux Documentation/admin-guide/mm/transhuge.rst). */
const backing = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'

/**
 * In a guest, and nowhere else: has the kernel back our buffers with huge pages where they have 2 MiB. The IOMMU then maps such a one
 * at once, which is one message of QEMU's to a device's server, and not 512. npu.guest.ts goes without.
 */
export function hugeBuffers(): void {
  if (!process.env.UACCEL_LAB) throw new Error('this changes the whole machine: run it in the lab')
  if (existsSync(backing)) writeFileSync(backing, 'always')
}
