import { closeSync, fstatSync, readFileSync, writeSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { placeDevices } from './devices.js'
import { channels, firstChannel, Machine, type MachineOptions } from './machine.js'

const tools = {
  qemu: {
    path: '/qemu',
    command: ['/loader', '/qemu'],
    env: { QEMU_MODULE_DIR: '/modules' },
    source: 'cache',
  },
  busyboxPath: '/busybox',
  kernel: { image: '/bzImage', source: 'built' },
}

function machine(t: Test, options: MachineOptions, devices: readonly string[] = []): Machine {
  const made = new Machine(options, tools, placeDevices(devices), Buffer.from('initramfs'))
  t.teardown(() => made.files.forEach(closeSync))
  return made
}

/** What follows each occurrence of an option. */
const values = ({ arguments: words }: Machine, option: string): string[] =>
  words.flatMap((word, index) => (word === option ? [words[index + 1]!] : []))

t.test('the plain machine', async (t) => {
  const plain = machine(t, {})
  t.strictSame(plain.arguments.slice(0, 2), ['/loader', '/qemu'])
  t.equal(plain.env.QEMU_MODULE_DIR, '/modules')
  t.strictSame(values(plain, '-machine'), ['q35,kernel-irqchip=split'])
  t.strictSame(values(plain, '-smp'), ['1'])
  t.strictSame(values(plain, '-m'), ['1024'])
  t.match(values(plain, '-append')[0], /intel_iommu=on/)
  t.ok(values(plain, '-device').includes('intel-iommu,intremap=on,caching-mode=on'))
  t.strictSame([...values(plain, '-object'), ...values(plain, '-global'), ...values(plain, '-trace')], [])
  t.equal(plain.traceFile, undefined)
  const fd = firstChannel + channels.length
  t.strictSame(values(plain, '-initrd'), [`/proc/self/fd/${fd}`], 'the first file')
  t.equal(readFileSync(`/proc/self/fd/${plain.files[0]}`, 'utf8'), 'initramfs')
})

t.test('without IOMMU, with huge pages', async (t) => {
  const bare = machine(t, { iommu: false, hugepages: 7, cpus: 3, memoryMiB: 512, qemuArgs: ['-x', 'y'] })
  t.match(values(bare, '-append')[0], / hugepagesz=2M hugepages=7$/)
  t.notMatch(values(bare, '-append')[0], /iommu/)
  t.notOk(values(bare, '-device').some((device) => device.includes('iommu')))
  t.strictSame(bare.arguments.slice(-2), ['-x', 'y'])
})

t.test('a root port takes hotplug from ACPI; a vfio-user server shares the memory', async (t) => {
  const made = machine(t, { memoryMiB: 640 }, ['port/edu', 'vfio-user:/a.sock'])
  t.strictSame(values(made, '-global'), ['ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'])
  t.strictSame(values(made, '-machine'), ['q35,kernel-irqchip=split,memory-backend=memory'])
  t.strictSame(values(made, '-object'), ['memory-backend-memfd,id=memory,size=640M,share=on'])
  const [port, edu] = values(made, '-device').slice(-3)
  t.match(port, /^pcie-root-port,id=port0,/, 'the port before its device')
  t.match(edu, /^edu,.*bus=port0/)
})

t.test('a disk of its own is a file without name', async (t) => {
  const made = machine(t, {}, ['nvme', 'nvme'])
  const fd = firstChannel + channels.length
  t.strictSame(values(made, '-drive'), [
    `if=none,id=device0-disk,format=raw,file=/proc/self/fd/${fd + 1}`,
    `if=none,id=device1-disk,format=raw,file=/proc/self/fd/${fd + 2}`,
  ])
  t.match(values(made, '-device').at(-1), /drive=device1-disk/)
  t.match(fstatSync(made.files[2]!), { size: 64 << 20, nlink: 0 })
})

t.test('a disk image is a disk that the guest cannot change', async (t) => {
  const made = machine(t, {}, [`disk=port/nvme:${fileURLToPath(import.meta.url)}`])
  const fd = firstChannel + channels.length + 1
  t.strictSame(values(made, '-drive'), [
    `if=none,id=device0-disk,format=raw,readonly=on,file=/proc/self/fd/${fd}`,
  ])
  t.equal(
    values(made, '-device').at(-1),
    'nvme,serial=uaccel,drive=device0-disk,id=device0,bus=port0,addr=0x0',
  )
  t.throws(() => writeSync(made.files[1]!, 'x'), { code: 'EBADF' })
})
