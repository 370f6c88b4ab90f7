import * as lab from '@uaccel/lab'
import { devicePresets, type LabProgress, runInLab } from '@uaccel/lab'
import { type Command, InvalidArgumentError } from 'commander'
import { note } from '../output.js'

interface LabFlags {
  device?: string[]
  iommu: boolean
  bind?: boolean
  cpus: number
  memory: number
  hugepages?: number
  limit: number
  kernel?: string
  log?: string
  qemuArg?: string[]
  quiet?: boolean
  check?: boolean
}

const help = `
DEVICE is one of
  ${Object.keys(devicePresets).join(', ').padEnd(23)} a device of QEMU's
  NAME,OPTION=VALUE...    a -device string of QEMU, without bus and addr
  nvme:FILE               an NVMe controller whose disk is that image, read-only
  vfio-user:SOCKET        the device of a vfio-user server on this machine, such
                          as 'uaccel model'; needs QEMU 10.1+ (see fetch-qemu)
NAME= names it for COMMAND, which finds NAME=BDF,... in UACCEL_LAB_DEVICES.
port/ puts it behind a PCI Express root port, alone on its bus.

Example:
  uaccel model edu --socket ./edu.sock &
  uaccel lab --device edu vfio-user:./edu.sock -- uaccel list`

/** `uaccel lab`: a command in an emulated guest with devices on vfio-pci. */
export function labCommand(command: Command): void {
  command
    .usage('[options] -- COMMAND...')
    .argument('[command...]', 'program and arguments, run in this folder')
    .option('-d, --device <device...>', 'device to add: [NAME=][port/]DEVICE, see below')
    .option('--no-iommu', 'a machine without IOMMU; its devices are left unbound')
    .option('--bind', "bind to vfio-pci without IOMMU too, in the kernel's unsafe mode for it")
    .option('--no-bind', "leave the devices with the kernel's drivers")
    .option('--cpus <n>', 'processors of the guest', count, 1)
    .option('--memory <MiB>', 'memory of the guest', count, 1024)
    .option('--hugepages <n>', 'pages of 2 MiB to set aside of it', count)
    .option('--limit <seconds>', 'time that the guest may take', count, 300)
    .option('--kernel <image>', 'kernel image with its drivers built in (or UACCEL_LAB_KERNEL)')
    .option('--log <file>', 'where to write the log of the guest')
    .option('--qemu-arg <arg...>', 'more arguments for QEMU')
    .option('-q, --quiet', 'no progress on stderr')
    .option('--check', 'tell what the lab has and what it lacks, and run nothing')
    .addHelpText('after', help)
    .passThroughOptions()
    .action(run)
  command
    .command('build-kernel')
    .description(
      'build the small kernel that boots in seconds (10 minutes on 2 processors); from then on it is used',
    )
    .action(async () => {
      const { version, imagePath } = await lab.buildKernel({ onProgress: progressLine() })
      note(`Linux ${version} is in ${imagePath}; the lab uses it from now on.`)
    })
  command
    .command('fetch-qemu')
    .description('fetch a QEMU that takes vfio-user devices (30 MB, on Debian); it is not installed')
    .action(async () => {
      const { path } = await lab.fetchQemu({ onProgress: progressLine() })
      note(`QEMU is in ${path}; the lab uses it for vfio-user devices.`)
    })
}

async function run(command: string[], flags: LabFlags, self: Command): Promise<void> {
  if (flags.check) {
    const found = await lab.findLab({ kernel: flags.kernel })
    process.stdout.write(`${lab.describeLab(found).join('\n')}\n`)
    process.exitCode = found.missing.length > 0 && !found.canFetch ? 1 : 0
    return
  }
  if (command.length === 0)
    self.error('error: no command for the guest; for example: uaccel lab -- uname -r', { exitCode: 2 })
  const stop = new AbortController()
  const onSignal = () => stop.abort(new Error('interrupted'))
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  const { exitCode } = await runInLab({
    command,
    devices: flags.device ?? [],
    iommu: flags.iommu,
    cpus: flags.cpus,
    memoryMiB: flags.memory,
    limitMs: flags.limit * 1000,
    qemuArgs: flags.qemuArg ?? [],
    stdout: process.stdout,
    stderr: process.stderr,
    signal: stop.signal,
    ...(flags.bind !== undefined && { bind: flags.bind }),
    ...(flags.hugepages && { hugepages: flags.hugepages }),
    ...(flags.kernel && { kernel: flags.kernel }),
    ...(flags.log && { logPath: flags.log }),
    ...(!flags.quiet && { onProgress: progressLine() }),
  })
  process.exitCode = exitCode
}

/** Progress on stderr: a line that renews itself on a terminal, a line for each stage elsewhere. */
function progressLine(): (progress: LabProgress) => void {
  let last = ''
  return ({ stage, message, fraction }) => {
    const text = `lab: ${stage} ${message}`
    if (process.stderr.isTTY) {
      const percent = fraction === undefined ? '' : ` ${Math.floor(fraction * 100)} %`
      process.stderr.write(`\r\x1b[K${text}${percent}${stage === 'boot' ? '\n' : ''}`)
    } else if (stage !== last) note(text)
    last = stage
  }
}

function count(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('A positive whole number is wanted.')
  return value
}
