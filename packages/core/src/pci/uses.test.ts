import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FakeBus } from './fake-bus.test.support.js'
import { readPciDevice } from './sysfs.js'
import { afterUses, deviceNumber, usesOf } from './uses.js'

const bdf = '0000:00:06.0'

/** A device with parts: paths below its folder, and what is in each. `SUBSYSTEM` is where the link points. */
function machine(t: Test, parts: Record<string, Record<string, string>>, driver = 'nvme') {
  const bus = new FakeBus(t, { devices: [{ bdf, group: 5, driver }] })
  for (const [place, files] of Object.entries(parts)) {
    const folder = place.startsWith('/') ? join(bus.paths.sysfs, place) : join(bus.folder(bdf), place)
    mkdirSync(folder, { recursive: true })
    for (const [name, text] of Object.entries(files)) {
      if (name === 'subsystem' || name === 'master') symlinkSync(`../../class/${text}`, join(folder, name))
      else if (name.startsWith('holders/')) mkdirSync(join(folder, name), { recursive: true })
      else writeFileSync(join(folder, name), `${text}\n`)
    }
    if (files.subsystem !== 'block') continue
    mkdirSync(join(bus.paths.sysfs, 'class/block'), { recursive: true })
    symlinkSync(folder, join(bus.paths.sysfs, 'class/block', folder.split('/').at(-1)!))
  }
  const uses = () => usesOf(readPciDevice(bdf, bus.paths), bus.paths)
  return { bus, uses, proc: (name: string, text: string) => writeFileSync(join(bus.paths.proc, name), text) }
}

const disk = {
  'nvme/nvme0': { subsystem: 'nvme', dev: '240:0', uevent: 'DEVNAME=nvme0' },
  'nvme/nvme0/nvme0n1': { subsystem: 'block', dev: '259:0', uevent: 'MAJOR=259\nDEVNAME=nvme0n1' },
  'nvme/nvme0/nvme0n1/nvme0n1p1': { subsystem: 'block', dev: '259:1', uevent: 'DEVNAME=nvme0n1p1' },
}

t.test('disks', async (t) => {
  const { bus, uses, proc } = machine(t, disk)
  t.strictSame(uses(), [])
  const node = (name: string) => join(bus.paths.devfs, name)
  proc(
    'self/mountinfo',
    '22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 259:1 / /my\\040disk rw,noatime shared:1 - ext4 /dev/nvme0n1p1 rw\n',
  )
  t.strictSame(uses(), [
    { kind: 'mount', what: `${node('nvme0n1p1')} is mounted on /my disk`, command: "umount '/my disk'" },
  ])
  proc('self/mountinfo', '30 22 259:1 / /Größe rw - ext4 /dev/x rw\n')
  t.match(uses(), [{ command: "umount '/Größe'" }])
  proc('self/mountinfo', `31 22 0:40 /vol /srv rw - btrfs ${node('nvme0n1')} rw\n`)
  t.match(uses(), [{ kind: 'mount', command: 'umount /srv' }], 'by its source')
  proc('self/mountinfo', '')
  proc('swaps', `Filename Type Size Used Priority\n${node('nvme0n1p1')} partition 1 0 -2\n`)
  t.match(uses(), [{ kind: 'swap', command: `swapoff ${node('nvme0n1p1')}` }])
})

t.test('disks below volumes, and paths of multipath', async (t) => {
  const { bus, uses, proc } = machine(t, {
    ...disk,
    'nvme/nvme0/nvme0n1/nvme0n1p1': {
      ...disk['nvme/nvme0/nvme0n1/nvme0n1p1'],
      'holders/dm-0': '',
    },
    '/devices/virtual/block/dm-0': { subsystem: 'block', dev: '253:0', uevent: 'DEVNAME=dm-0' },
  })
  proc('self/mountinfo', '30 22 253:0 / /home rw - ext4 /dev/mapper/home rw\n')
  t.match(uses(), [
    { kind: 'holder', what: /nvme0n1p1 is a part of dm-0/ },
    { kind: 'mount', what: /dm-0 is mounted on \/home/ },
  ])

  const paths = machine(t, {
    'nvme/nvme0': { subsystem: 'nvme', dev: '240:0', uevent: 'DEVNAME=nvme0' },
    'nvme/nvme0/nvme0c0n1': { subsystem: 'block', uevent: '' },
    '/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1': {
      subsystem: 'block',
      dev: '259:3',
      uevent: 'DEVNAME=nvme0n1',
    },
    '/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p2': {
      subsystem: 'block',
      dev: '259:4',
      uevent: 'DEVNAME=nvme0n1p2',
    },
  })
  paths.proc('self/mountinfo', '30 22 259:4 / /home rw - ext4 /dev/nvme0n1p2 rw\n')
  t.match(paths.uses(), [{ kind: 'mount', what: /nvme0n1p2 is mounted on \/home/ }])
  t.ok(bus)
})

t.test('network interfaces', async (t) => {
  const eth = (files: Record<string, string>) =>
    machine(t, { 'net/eth0': { subsystem: 'net', flags: '0x1002', operstate: 'down', ...files } }).uses()
  t.strictSame(eth({}), [])
  t.match(eth({ flags: '0x1003', operstate: 'up' }), [
    {
      kind: 'network',
      what: 'network interface eth0 is up and has a link',
      command: 'ip link set eth0 down',
    },
  ])
  t.match(eth({ master: 'br0' }), [{ kind: 'network', what: 'network interface eth0 is a part of br0' }])
  const { bus, uses } = machine(t, { net: {} })
  t.match(uses(), [{ kind: 'network', what: /another network namespace/ }])
  rmSync(join(bus.folder(bdf), 'net'), { recursive: true })
  t.strictSame(uses(), [])
})

t.test('processes', async (t) => {
  const { bus, uses } = machine(
    t,
    { 'vfio-dev/vfio3': { subsystem: 'vfio-dev', dev: '246:3', uevent: 'DEVNAME=vfio/devices/vfio3' } },
    'vfio-pci',
  )
  mkdirSync(join(bus.paths.sysfs, 'class/vfio/5'), { recursive: true })
  writeFileSync(join(bus.paths.sysfs, 'class/vfio/5/dev'), '247:0\n')
  t.strictSame(uses(), [])
  const open = (pid: number, name: string, fd: number, path: string) => {
    mkdirSync(join(bus.paths.proc, `${pid}/fd`), { recursive: true })
    writeFileSync(join(bus.paths.proc, `${pid}/comm`), `${name}\n`)
    symlinkSync(path, join(bus.paths.proc, `${pid}/fd/${fd}`))
  }
  open(71, 'bash', 0, '/dev/tty1')
  open(72, 'qemu-system-x86', 9, join(bus.paths.devfs, 'vfio/5'))
  open(73, 'dp\x1bdk', 4, `${join(bus.paths.devfs, 'vfio/devices/vfio3')} (deleted)`)
  t.match(uses(), [
    { kind: 'process', what: /^qemu-system-x86 \(process 72\) has .*vfio\/5 open$/, command: 'kill 72' },
    { kind: 'process', what: /^dp\?dk \(process 73\) has .*devices\/vfio3 open$/, command: 'kill 73' },
  ])
})

t.test('device numbers', async (t) => {
  t.equal(deviceNumber(0x103_00), '259:0')
  t.equal(deviceNumber((259 << 8) | 4), '259:4')
  // minor 256 and major 4096 spread over the bits that glibc gives them
  t.equal(deviceNumber(0x10_0000 + (8 << 8)), '8:256')
})

t.test('a device is not taken away where a use of it does not end', async (t) => {
  const use = { kind: 'mount', what: 'a disk is mounted' } as const
  const commands = ['echo override', 'echo unbind']
  const run = (...ends: string[]) => {
    const uses = ends.map((command) => ({ ...use, command }))
    const { status, stdout } = spawnSync('sh', {
      input: afterUses(uses, commands).join('\n'),
      encoding: 'utf8',
    })
    return { status, stdout }
  }
  t.strictSame(afterUses([], commands), commands)
  t.strictSame(afterUses([use, { ...use, command: 'true' }], commands), [], 'one that no command ends')
  t.strictSame(run('true', 'true'), { status: 0, stdout: 'override\nunbind\n' })
  t.strictSame(run('true', 'false'), { status: 1, stdout: '' })
})
