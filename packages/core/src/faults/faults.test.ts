import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { chain } from '../pci/describe.test.support.js'
import { aerStatusIn, readAerCounts } from './aer.js'
import { parseIommuFault } from './iommu-faults.js'
import { iommuFaultsIn, readKernelLog } from './kernel-log.js'

t.test('lines of the kernel, by IOMMU', async (t) => {
  for (const [line, fault] of [
    [
      'DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x10001000 [fault reason 0x06] PTE Read access is not set',
      {
        iommu: 'intel',
        device: '0000:00:05.0',
        access: 'read',
        address: 0x10001000n,
        reason: 'PTE Read access is not set',
        hint: /never mapped/,
      },
    ],
    [
      // Linux 7.2, as the lab's guest showed it
      'DMAR: [DMA Write NO_PASID] Request device [0000:00:05.0] fault addr 0xabcd000 [fault reason 0x05] PTE Write access is not set',
      { device: '0000:00:05.0', access: 'write', address: 0xabcd000n, hint: /never mapped/ },
    ],
    [
      'DMAR: [DMA Write PASID 0x5] Request device [3a:00.1] fault addr 0xfffff000 [fault reason 0x58] SM: Present bit in first-level paging entry is clear',
      { device: '0000:3a:00.1', access: 'write', pasid: 5, address: 0xfffff000n, hint: undefined },
    ],
    [
      'DMAR: [DMA Write] Request device [02:00.0] PASID ffffffff fault addr dceff000 [fault reason 05] PTE Write access is not set',
      {
        device: '0000:02:00.0',
        access: 'write',
        pasid: undefined,
        address: 0xdceff000n,
        hint: /never mapped/,
      },
    ],
    [
      'vfio-pci 0000:04:10.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0037 address=0x7b657064 flags=0x0020]',
      { iommu: 'amd', device: '0000:04:10.0', access: 'write', address: 0x7b657064n, hint: /never mapped/ },
    ],
    [
      'AMD-Vi: Event logged [IO_PAGE_FAULT device=0a:00.0 domain=0x001d address=0x000000000637c000 flags=0x0010]',
      { iommu: 'amd', device: '0000:0a:00.0', access: 'read', address: 0x637c000n, hint: /not for this/ },
    ],
    [
      'arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x8 ssid: 0x0 iova: 0x1000 ipa: 0x0',
      { iommu: 'arm', device: '0000:01:00.0', address: 0x1000n, access: undefined, reason: 'F_TRANSLATION' },
    ],
    [
      'arm-smmu-v3 x: event: F_PERMISSION client: (unassigned sid) sid: 0x8 ssid: 0x3 iova: 0x1000 ipa: 0x0',
      { iommu: 'arm', device: undefined, pasid: 3, hint: /not for this/ },
    ],
    [
      'arm-smmu 5000000.iommu: Unhandled context fault: fsr=0x402, iova=0xdeadb000, fsynr=0x10, cbfrsynra=0x1, cb=0',
      { iommu: 'arm', access: 'write', address: 0xdeadb000n, hint: /never mapped/ },
    ],
  ] as const)
    t.match(parseIommuFault(line), fault, line)
  for (const line of [
    '',
    'DMAR: DRHD: handling fault status reg 2',
    'DMAR: [INTR-REMAP] Request device [00:05.0] fault index 0x1',
  ])
    t.equal(parseIommuFault(line), undefined, line)
  fc.assert(
    fc.property(
      fc.string(),
      (text) => void parseIommuFault(`DMAR: [DMA Read NO_PASID] Request device ${text}`),
    ),
  )
})

t.test('the log: records, what is none, and who may not read it', async (t) => {
  const folder = t.testdir({})
  const record = (text: string) => {
    writeFileSync(join(folder, 'kmsg'), text)
    return readKernelLog(join(folder, 'kmsg'))
  }
  t.same(record('3,1234,5678901,-;DMAR: something\n SUBSYSTEM=pci\n'), [
    { atUs: 5678901, text: 'DMAR: something' },
  ])
  t.same(record('no record'), [])
  t.throws(() => readKernelLog(join(folder, 'none')), { code: 'ERR_ACCEL_UNSUPPORTED' })
  const lines = [
    { atUs: 1, text: 'usb 1-1: new' },
    {
      atUs: 2,
      text: 'DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x0 [fault reason 0x06] x',
    },
    {
      atUs: 3,
      text: 'DMAR: [DMA Read NO_PASID] Request device [00:06.0] fault addr 0x0 [fault reason 0x06] x',
    },
  ]
  t.match(iommuFaultsIn(lines), [{ atUs: 2 }, { atUs: 3 }])
  t.match(iommuFaultsIn(lines, '0000:00:06.0'), [{ atUs: 3, line: lines[2]!.text }])
})

t.test('AER: what the kernel counted, and what the device says', async (t) => {
  const sysfs = t.testdir({})
  const device = join(sysfs, 'bus/pci/devices/0000:01:00.0')
  mkdirSync(device, { recursive: true })
  t.equal(readAerCounts('01:00.0', { sysfs }), undefined)
  writeFileSync(join(device, 'aer_dev_correctable'), 'RxErr 0\nBadTLP 3\nTOTAL_ERR_COR 3\n')
  writeFileSync(join(device, 'aer_dev_fatal'), 'CmpltTO 1\nnonsense\nTOTAL_ERR_FATAL 1\n')
  t.same(readAerCounts('01:00.0', { sysfs }), [
    { severity: 'correctable', error: 'BadTLP', count: 3 },
    { severity: 'fatal', error: 'CmpltTO', count: 1 },
  ])
  const config = chain({ extended: { 1: [0, 0x40, 0x10, 0, ...new Array(8).fill(0), 0x40, 0, 0, 0] } })
  t.same(aerStatusIn(config), {
    uncorrectable: ['completionTimeout', 'unsupportedRequest'],
    correctable: ['badTlp'],
  })
  t.equal(aerStatusIn(config.subarray(0, 256)), undefined)
})
