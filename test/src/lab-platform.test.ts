import { findLab } from '@uaccel/lab'
import t from 'tap'
import { runGuest } from './guest.js'
import { repeatResults } from './iommufd-lane.js'

t.setTimeout(600_000)

// The lab's own kernel has no driver that shows a device as one of another bus; Debian's has.
delete process.env.UACCEL_LAB_KERNEL

t.test("a platform device through UIO, with the distribution's kernel", async (t) => {
  t.comment(`kernel: ${(await findLab()).kernel?.image ?? 'to be fetched'}`)
  const { exitCode, stdout, stderr } = await runGuest('platform', {
    iommu: false,
    memoryMiB: 640,
    hugepages: 32,
    devices: ['nvme,serial=uaccel,drive=disk,cmb_size_mb=1,pmrdev=pmr'],
    qemuArgs: [
      ...['-drive', 'if=none,id=disk,format=raw,file.driver=null-co,file.size=1M'],
      ...['-object', 'memory-backend-ram,id=pmr,size=1M,share=on'],
    ],
  })
  if (exitCode !== 0) t.comment(`${stdout}\n${stderr}`)
  t.equal(exitCode, 0)
  await repeatResults(t, stdout, [
    'a device of UIO that is not there',
    'it is found by name, with its maps',
    'a driver of ours takes it: registers, doorbells, its memory, DMA',
    'its interrupt is armed by a written 1, and taken back',
    'the command line lists it, and opens it where told that nothing isolates it',
  ])
})
