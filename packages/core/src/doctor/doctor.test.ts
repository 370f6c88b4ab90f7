import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { FakeBus } from '../pci/fake-bus.test.support.js'
import type { TreeDevice } from '../pci/sysfs-tree.test.support.js'
import { examineDevice, examineMachine } from './doctor.js'

const bdf = '0000:00:05.0'
/** Files by path below the machine's folder; null leaves one out. */
type Files = Readonly<Record<string, string | Uint8Array | null>>

/** Header of a device with pin A and no capabilities (PCI Local Bus 3.0, 6.1). */
const config = Buffer.alloc(256)
config.set([0x34, 0x12, 0xe8, 0x11])
config[0x3d] = 1

/** What a machine has on which all is well. */
const healthy: Files = {
  'class/iommu/dmar0/intel-iommu/cap': 'd2008c22260286\n',
  'kernel/iommu_groups/4/type': 'DMA\n',
  'module/vfio_iommu_type1/parameters/allow_unsafe_interrupts': 'N\n',
  'kernel/security/lockdown': '[none] integrity confidentiality\n',
  'kernel/mm/hugepages/hugepages-2048kB/free_hugepages': '0\n',
  'proc/cmdline': 'root=/dev/sda1 ro quiet\n',
  'proc/cpuinfo': 'processor\t: 0\nvendor_id\t: GenuineIntel\n',
  'proc/interrupts': ' 24: 1 IR-PCI-MSI-0000:00:02.0 0-edge eth0\n',
  'class/vfio/4/dev': '1:3\n',
}

/** The other way round: no IOMMU. */
const bare: Files = {
  ...healthy,
  'class/iommu/dmar0/intel-iommu/cap': null,
  'kernel/iommu_groups/4/type': null,
  'module/vfio/parameters/enable_unsafe_noiommu_mode': 'N\n',
}

function machine(
  t: Test,
  files: Files = {},
  device: Partial<TreeDevice> = {},
  others: readonly TreeDevice[] = [],
) {
  const bus = new FakeBus(t, {
    devices: [
      {
        bdf,
        group: 4,
        driver: 'vfio-pci',
        ...device,
        files: { config, reset_method: 'flr bus\n', power_state: 'D0\n', ...device.files },
      },
      ...others,
    ],
    drivers: ['vfio-pci'],
  })
  const { sysfs, devfs } = bus.paths
  for (const [name, text] of Object.entries({ ...healthy, ...files })) {
    if (text === null) continue
    mkdirSync(dirname(join(sysfs, name)), { recursive: true })
    writeFileSync(join(sysfs, name), text)
  }
  if (existsAny(files, healthy)) symlinkSync('../../../virtual/iommu/dmar0', join(bus.folder(bdf), 'iommu'))
  mkdirSync(join(devfs, 'vfio'), { recursive: true })
  for (const name of ['vfio/4', 'vfio/vfio']) writeFileSync(join(devfs, name), '')
  const find = (id: string) =>
    [...examineMachine(bus.paths).findings, ...examineDevice(bdf, bus.paths).findings].find(
      (each) => each.id === id,
    )!
  return { bus, find }
}

const existsAny = (files: Files, base: Files) =>
  ({ ...base, ...files })['class/iommu/dmar0/intel-iommu/cap'] !== null

t.test('a machine and a device on which all is well', async (t) => {
  const { bus } = machine(t)
  const { ok, findings, device } = examineDevice('00:05.0', bus.paths)
  t.equal(device.bdf, bdf)
  t.ok(ok)
  t.strictSame(
    findings.map(({ id, status, found }) => [id, status, found]),
    [
      ['power', 'ok', 'it answers; D0'],
      ['iommu-group', 'ok', 'dmar0, group 4, I/O addresses of 39 bits'],
      ['driver', 'ok', 'vfio-pci'],
      ['group-viable', 'ok', 'it is alone'],
      ['permission', 'ok', `can open ${bus.paths.devfs}/vfio/4`],
      ['holder', 'ok', 'no'],
      ['interrupts', 'ok', 'INTx (pin A)'],
      ['reset', 'ok', 'flr, bus'],
    ],
  )
  for (const finding of examineMachine(bus.paths).findings)
    if (finding.id !== 'memlock') t.equal(finding.status, 'ok', `${finding.id}: ${finding.found}`)
  t.throws(() => examineDevice('00:09.0', bus.paths), { code: 'ERR_ACCEL_NOT_FOUND' })
})

t.test('what is wrong with the machine', async (t) => {
  const unsafe = {
    unsafe: true,
    commands: ['echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode'],
  }
  const cases: [name: string, files: Files, id: string, finding: object][] = [
    [
      'no IOMMU',
      bare,
      'iommu',
      {
        status: 'failed',
        found: /describes no IOMMU/,
        fixes: [{ what: /switch VT-d on/ }, { what: /intel_iommu=on/ }, unsafe],
      },
    ],
    [
      'no IOMMU of AMD',
      { ...bare, 'proc/cpuinfo': 'vendor_id : AuthenticAMD\n' },
      'iommu',
      { fixes: [{ what: /switch AMD-Vi/ }, unsafe] },
    ],
    [
      'one that the kernel does not use',
      { ...bare, 'firmware/acpi/tables/DMAR': 'DMAR' },
      'iommu',
      { found: /table DMAR.*does not use/, fixes: [{ what: 'boot the kernel with intel_iommu=on' }, unsafe] },
    ],
    [
      'switched off',
      { ...bare, 'firmware/acpi/tables/DMAR': 'DMAR', 'proc/cmdline': 'quiet intel_iommu=off' },
      'iommu',
      { found: /booted with intel_iommu=off/, fixes: [{ what: /without intel_iommu=off/ }, unsafe] },
    ],
    [
      'a kernel without no-IOMMU mode',
      { ...bare, 'module/vfio/parameters/enable_unsafe_noiommu_mode': null, 'module/vfio/refcnt': '0\n' },
      'iommu',
      { status: 'failed', fixes: [{}, {}, { unsafe: true, commands: ['modprobe uio_pci_generic'] }] },
    ],
    [
      'a device that no IOMMU stands before',
      bare,
      'iommu-group',
      { status: 'failed', fixes: [{ unsafe: true, commands: { 0: 'modprobe uio_pci_generic', length: 4 } }] },
    ],
    [
      'done without, on request',
      { ...bare, 'module/vfio/parameters/enable_unsafe_noiommu_mode': 'Y\n' },
      'iommu',
      { status: 'warning', cause: /all memory/ },
    ],
    [
      'interrupts not remapped',
      { 'proc/interrupts': ' 24: 1 PCI-MSI-0000:00:02.0 0-edge eth0\n' },
      'interrupt-remapping',
      {
        status: 'failed',
        fixes: [
          { reboot: true },
          {
            unsafe: true,
            commands: ['echo 1 > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts'],
          },
        ],
      },
    ],
    [
      'interrupts not remapped, on request',
      {
        'proc/interrupts': ' 24: 1 PCI-MSI\n',
        'module/vfio_iommu_type1/parameters/allow_unsafe_interrupts': 'Y\n',
      },
      'interrupt-remapping',
      { status: 'warning' },
    ],
    [
      'lockdown and no IOMMU',
      { ...bare, 'kernel/security/lockdown': 'none [integrity] confidentiality\n' },
      'lockdown',
      { status: 'failed', found: 'integrity' },
    ],
    [
      'lockdown and an IOMMU',
      { 'kernel/security/lockdown': 'none [integrity] confidentiality\n' },
      'lockdown',
      { status: 'ok' },
    ],
    [
      'no huge pages and no IOMMU',
      bare,
      'hugepages',
      { status: 'warning', fixes: [{ commands: ['echo 64 > /proc/sys/vm/nr_hugepages'] }] },
    ],
    [
      'huge pages',
      { ...bare, 'kernel/mm/hugepages/hugepages-2048kB/free_hugepages': '12\n' },
      'hugepages',
      { status: 'ok', found: 'free: 12 of 2 MiB' },
    ],
  ]
  for (const [name, files, id, finding] of cases) t.match(machine(t, files).find(id), finding, name)
})

t.test('what is wrong with a device', async (t) => {
  const unset = '0x0000000000000000 0x0000000000000fff 0x0000000020040200\n'
  const cases: [name: string, device: Partial<TreeDevice>, id: string, finding: object][] = [
    [
      'a driver of the kernel',
      { driver: 'nvme' },
      'driver',
      {
        status: 'failed',
        found: 'nvme',
        fixes: [
          {
            commands: [
              `echo vfio-pci > /sys/bus/pci/devices/${bdf}/driver_override`,
              `echo ${bdf} > /sys/bus/pci/drivers/nvme/unbind`,
              `echo ${bdf} > /sys/bus/pci/drivers_probe`,
            ],
          },
        ],
      },
    ],
    ['UIO', { driver: 'uio_pci_generic' }, 'driver', { status: 'warning' }],
    [
      'all ones',
      { files: { config: Buffer.alloc(64, 0xff) } },
      'power',
      {
        status: 'failed',
        fixes: [
          { commands: [`echo 1 > /sys/bus/pci/devices/${bdf}/remove`, 'echo 1 > /sys/bus/pci/rescan'] },
        ],
      },
    ],
    [
      'a BAR without a place',
      { files: { resource: unset.repeat(7) } },
      'power',
      { status: 'failed', found: /BAR 0/ },
    ],
    ['no reset', { files: { reset_method: '\n' } }, 'reset', { status: 'warning' }],
    [
      'no interrupt',
      { files: { config: Buffer.concat([config.subarray(0, 0x3d), Buffer.alloc(256 - 0x3d)]) } },
      'interrupts',
      { status: 'warning' },
    ],
    [
      'config space that root alone reads',
      { files: { config: undefined } },
      'interrupts',
      { status: 'unknown' },
    ],
  ]
  for (const [name, device, id, finding] of cases) t.match(machine(t, {}, device).find(id), finding, name)

  const shared = machine(t, {}, {}, [{ bdf: '0000:00:06.0', group: 4, driver: 'snd_hda_intel' }])
  t.match(shared.find('group-viable'), {
    status: 'failed',
    found: /0000:00:06\.0 \(snd_hda_intel\)/,
    fixes: [{ commands: ['echo 0000:00:06.0 > /sys/bus/pci/drivers/snd_hda_intel/unbind'] }],
  })
  t.notOk(examineDevice(bdf, shared.bus.paths).ok)

  const { bus, find } = machine(t)
  mkdirSync(join(bus.paths.proc, '77/fd'), { recursive: true })
  writeFileSync(join(bus.paths.proc, '77/comm'), 'dpdk-testpmd\n')
  symlinkSync(join(bus.paths.devfs, 'vfio/4'), join(bus.paths.proc, '77/fd/9'))
  t.match(find('holder'), {
    status: 'failed',
    found: /^dpdk-testpmd \(process 77\)/,
    fixes: [{ commands: ['kill 77'] }],
  })
})

t.test(
  'a user without rights',
  { skip: process.getuid?.() !== 0 && 'only root can become somebody else' },
  async (t) => {
    const { bus, find } = machine(t)
    chmodSync(bus.paths.sysfs, 0o755)
    chmodSync(join(bus.paths.devfs, 'vfio/4'), 0o600)
    process.seteuid!(65534)
    t.teardown(() => process.seteuid!(0))
    t.match(find('permission'), {
      status: 'failed',
      found: /may not open .*vfio\/4/,
      fixes: [{ commands: [/^chown \S+ \S+vfio\/4$/] }, { commands: { length: 5 } }],
    })
    process.seteuid!(0)
  },
)
