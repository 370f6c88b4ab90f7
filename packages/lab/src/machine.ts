import { randomBytes } from 'node:crypto'
import { constants, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PlacedDevice } from './devices.js'
import type { LabTools } from './tools.js'

/** What the guest's machine has. */
export interface MachineOptions {
  /** Processors of the guest; 1 by default. */
  cpus?: number
  /** Memory of the guest in MiB; 1024 by default. */
  memoryMiB?: number
  /** Huge pages of 2 MiB that are set aside out of that memory; none by default. */
  hugepages?: number
  /** Whether the machine has an IOMMU, Intel's; it has by default. */
  iommu?: boolean
  /** More arguments for QEMU. */
  qemuArgs?: readonly string[]
  /** Trace events of QEMU, such as `memoryTrace`. */
  trace?: readonly string[]
}

export const defaultMemoryMiB = 1024

/** Descriptors of QEMU: 0-2 are its own, then one socket per channel, then files. */
export const channels = ['console', 'stdout', 'stderr', 'status', 'monitor'] as const
export type Channel = (typeof channels)[number]
export const firstChannel = 3

const channelArguments: Readonly<Record<Channel, string[]>> = {
  console: ['-serial', 'chardev:console'],
  stdout: ['-device', 'virtserialport,chardev=stdout,name=lab.stdout'],
  stderr: ['-device', 'virtserialport,chardev=stderr,name=lab.stderr'],
  status: ['-device', 'virtserialport,chardev=status,name=lab.status'],
  monitor: ['-mon', 'chardev=monitor,mode=control'],
}

/** The guest's machine as QEMU is told it: a command line, and the files whose descriptors it names. */
export class Machine {
  readonly arguments: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Descriptors for QEMU to inherit, from {@link firstChannel} plus the number of channels on. The caller closes them. */
  readonly files: number[] = []
  /** Where QEMU writes its trace; only with such an option. */
  readonly traceFile: number | undefined

  constructor(
    {
      trace = [],
      cpus = 1,
      memoryMiB = defaultMemoryMiB,
      hugepages,
      iommu = true,
      qemuArgs = [],
    }: MachineOptions,
    { qemu, kernel }: LabTools,
    devices: readonly PlacedDevice[],
    initramfs: Uint8Array,
  ) {
    this.env = { ...process.env, ...qemu.env }
    const initrd = this.#pass(unnamedFile(initramfs))
    const traceArguments: string[] = []
    if (trace.length > 0) {
      this.traceFile = unnamedFile()
      traceArguments.push('-D', this.#pass(this.traceFile), ...trace.flatMap((event) => ['-trace', event]))
    }
    // no_timer_check: on a busy machine the emulated timer is late, and the kernel would take it for broken.
    const kernelArguments = ['console=ttyS0', 'panic=-1', 'no_timer_check']
    if (iommu) kernelArguments.push('intel_iommu=on', 'iommu=pt')
    if (hugepages) kernelArguments.push('hugepagesz=2M', `hugepages=${hugepages}`)
    // A vfio-user server reaches the guest's memory by its descriptor, or by messages through QEMU.
    const shared = devices.some(({ socketPath }) => socketPath !== undefined)
    this.arguments = [
      ...qemu.command,
      ...['-no-user-config', '-nodefaults', '-display', 'none', '-monitor', 'none', '-no-reboot'],
      // Hardware virtualisation only where asked for: /dev/kvm may be there and hang.
      ...['-accel', process.env.UACCEL_LAB_ACCEL || 'tcg'],
      ...['-machine', `q35,kernel-irqchip=split${shared ? ',memory-backend=memory' : ''}`],
      ...(shared ? ['-object', `memory-backend-memfd,id=memory,size=${memoryMiB}M,share=on`] : []),
      // The host's programs may have been built for more than the plainest processor.
      ...['-cpu', 'max', '-smp', String(cpus), '-m', String(memoryMiB)],
      ...['-kernel', kernel.image, '-initrd', initrd, '-append', kernelArguments.join(' ')],
      ...(iommu ? ['-device', 'intel-iommu,intremap=on,caching-mode=on'] : []),
      ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
      ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host,addr=0x2'],
      ...['-device', 'virtio-rng-pci,addr=0x3', '-device', 'virtio-serial-pci,addr=0x4'],
      ...channels.flatMap((name, index) => [
        ...['-chardev', `socket,id=${name},fd=${firstChannel + index}`],
        ...channelArguments[name],
      ]),
      // ACPI's hotplug would take root ports from PCI Express' own, which is what machines with accelerators have.
      ...(devices.some(({ portArgument }) => portArgument)
        ? ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off']
        : []),
      ...devices.flatMap((device) => this.#deviceArguments(device)),
      ...traceArguments,
      ...qemuArgs,
    ]
  }

  /** Hands a descriptor to QEMU; returns the name by which QEMU opens it. */
  #pass(fd: number): string {
    this.files.push(fd)
    return `/proc/self/fd/${firstChannel + channels.length + this.files.length - 1}`
  }

  #deviceArguments({ id, argument, portArgument, diskBytes, diskPath }: PlacedDevice): string[] {
    const port = portArgument === undefined ? [] : ['-device', portArgument]
    if (diskBytes === undefined && diskPath === undefined) return [...port, '-device', argument]
    const disk = diskPath === undefined ? unnamedFile() : openSync(diskPath, constants.O_RDONLY)
    if (diskBytes !== undefined) ftruncateSync(disk, diskBytes)
    const drive = `${id}-disk`
    const readOnly = diskPath === undefined ? '' : ',readonly=on'
    return [
      ...port,
      ...['-drive', `if=none,id=${drive},format=raw${readOnly},file=${this.#pass(disk)}`],
      ...['-device', argument.replace('drive=DRIVE', `drive=${drive}`)],
    ]
  }
}

/** A file that is there only as long as somebody holds its descriptor. */
function unnamedFile(contents: Uint8Array = new Uint8Array()): number {
  const path = join(tmpdir(), `uaccel-lab-${randomBytes(8).toString('hex')}`)
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)
  unlinkSync(path)
  for (let at = 0; at < contents.length; ) at += writeSync(fd, contents, at)
  return fd
}
