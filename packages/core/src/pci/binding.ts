import { existsSync, lstatSync, realpathSync } from 'node:fs'
import { basename, dirname, join, sep } from 'node:path'
import { type AccelError, accelError, isAccelError } from '@uaccel/uapi'
import { blockersOf, isVfioDriver } from '../vfio/iommu.js'
import { type Before, bindPlan, loadCommands, restorePlan, type SysfsWrite } from './bind-plan.js'
import { forgetRecord, isDriverName, readRecord, writeRecord } from './bind-record.js'
import { describeHolder, holdersOf } from './holders.js'
import { linkName, type MachinePaths, machinePaths, noIommuMode } from './machine.js'
import { giveNodes, type NodeOwner } from './node-owner.js'
import { userNodes } from './nodes.js'
import { type PciDeviceInfo, readPciDevice } from './sysfs.js'
import { type Limit, type SysfsAccess, sysfsAccess } from './sysfs-write.js'
import { usesOf } from './uses.js'

/** How a device is given back. */
export interface UnbindOptions {
  /** Takes the device although it is in use. */
  readonly force?: boolean
  /** Checks, and tells what would be written, but writes nothing. */
  readonly dryRun?: boolean
  /** For each step; default 10,000. An unbind waits in the kernel until nobody has the device open. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** Where the kernel shows the machine. */
  readonly paths?: Partial<MachinePaths>
  /** The kernel; for tests. */
  readonly access?: SysfsAccess
}

/** How a device is bound. */
export interface BindOptions extends UnbindOptions {
  /** Default `vfio-pci`. */
  readonly driver?: string
  /** To whom the nodes go that the device gets. Default: they stay root's. */
  readonly owner?: NodeOwner
}

/** What has become of a device. */
export interface Binding {
  readonly bdf: string
  /** Absent where it has none now. */
  readonly driver?: string
  /** Absent where it had none. */
  readonly previousDriver?: string
  /** False where everything was as wanted already. */
  readonly changed: boolean
  /** What was written to sysfs, in order, or would be. */
  readonly writes: readonly SysfsWrite[]
  /** Paths of the nodes through which programs reach the device now. */
  readonly nodes: readonly string[]
  /** Devices of the IOMMU group whose kernel drivers keep it from being given to a program. */
  readonly blockers: readonly { readonly bdf: string; readonly driver: string }[]
}

/** Drivers that give devices to programs: what was bound without a record is given back from these only. */
const isUserDriver = (driver: string) =>
  isVfioDriver(driver) || ['uio_pci_generic', 'igb_uio', 'pci-stub'].includes(driver)

/** PCI-to-PCI and CardBus bridges: base class and subclass (PCI Code and ID Assignment, 1.7). */
const isBridge = ({ classCode }: PciDeviceInfo) => [0x0604, 0x0607, 0x0609].includes(classCode >>> 8)

interface Machine {
  readonly paths: MachinePaths
  readonly access: SysfsAccess
  readonly limit: Limit
}

function machineOf({ paths, access = sysfsAccess, timeoutMs = 10_000, signal }: UnbindOptions): Machine {
  return { paths: { ...machinePaths, ...paths }, access, limit: { timeoutMs, signal } }
}

/**
 * Takes a PCI device from its kernel driver and gives it to one that hands it to programs. Loads no module. What was
 * before is remembered until the next boot, for {@link unbindDevice}; where a step fails it is restored at once.
 *
 * @throws ERR_ACCEL_BUSY where the device is in use (`details.uses` names by whom) and `force` is not set;
 * ERR_ACCEL_NOT_FOUND for a device or driver that is not there; ERR_ACCEL_NO_IOMMU, ERR_ACCEL_PERMISSION;
 * ERR_ACCEL_UNSUPPORTED for a bridge; ERR_ACCEL_TIMEOUT and ERR_ACCEL_ABORTED: the kernel goes on with the step;
 * ERR_ACCEL_SYSTEM where the driver did not take the device
 */
export async function bindDevice(address: string, options: BindOptions = {}): Promise<Binding> {
  const machine = machineOf(options)
  const [binding] = await bindAll([readPciDevice(address, machine.paths)], machine, options)
  return binding!
}

/**
 * Binds all devices of a device's IOMMU group, but for bridges, which do not keep it from being viable. All are
 * checked before the first is touched, and if one fails, all are given back. Errors: those of {@link bindDevice}.
 */
export async function bindGroup(address: string, options: BindOptions = {}): Promise<Binding[]> {
  const machine = machineOf(options)
  const device = readPciDevice(address, machine.paths)
  const members = (device.iommuGroup?.members ?? [device.bdf]).map((bdf) => readPciDevice(bdf, machine.paths))
  return bindAll(
    members.filter((member) => member.bdf === device.bdf || !isBridge(member)),
    machine,
    options,
  )
}

async function bindAll(
  devices: readonly PciDeviceInfo[],
  machine: Machine,
  { driver = 'vfio-pci', force = false, dryRun = false, owner }: BindOptions,
): Promise<Binding[]> {
  const { paths } = machine
  checkDriver(driver, machine)
  for (const device of devices) checkBindable(device, driver, force, machine)
  const plans = devices.map((device) =>
    device.driver === driver ? [] : bindPlan(device, driver, paths.sysfs),
  )
  if (!dryRun) {
    const undos: (() => Promise<void>)[] = []
    try {
      for (const [index, device] of devices.entries()) {
        if (plans[index]!.length > 0) undos.push(await bindOne(device, driver, plans[index]!, machine))
      }
    } catch (error) {
      // what went wrong first is what is told
      for (const undo of undos.reverse()) await undo().catch(() => {})
      throw error
    }
  }
  const bindings: Binding[] = []
  for (const [index, before] of devices.entries()) {
    const device = dryRun ? before : readPciDevice(before.bdf, paths)
    const nodes = dryRun ? [] : userNodes(device, paths)
    if (owner !== undefined) await giveNodes(nodes, owner, machine.limit)
    bindings.push(
      outcome(
        before,
        device,
        plans[index]!,
        machine,
        nodes.map(({ path }) => path),
      ),
    )
  }
  return bindings
}

function outcome(
  before: PciDeviceInfo,
  now: PciDeviceInfo,
  writes: readonly SysfsWrite[],
  { paths }: Machine,
  nodes: readonly string[] = [],
): Binding {
  const group = now.driver !== undefined && isVfioDriver(now.driver) ? now.iommuGroup : undefined
  return {
    bdf: now.bdf,
    ...(now.driver === undefined ? {} : { driver: now.driver }),
    ...(before.driver === undefined ? {} : { previousDriver: before.driver }),
    changed: now.driver !== before.driver,
    writes,
    nodes,
    blockers:
      group === undefined
        ? []
        : blockersOf(group, paths).map(({ bdf, driver }) => ({ bdf, driver: driver! })),
  }
}

function checkDriver(driver: string, { paths: { sysfs } }: Machine): void {
  if (!isDriverName(driver)) {
    throw accelError(
      'ERR_ACCEL_INVALID_ARGUMENT',
      `"${driver}" is no name of a kernel driver, such as vfio-pci`,
    )
  }
  if (existsSync(join(sysfs, 'bus/pci/drivers', driver))) return
  const commands = loadCommands(driver, sysfs)
  throw accelError(
    'ERR_ACCEL_NOT_FOUND',
    `the kernel has no PCI driver ${driver} loaded. As root: \`${commands.join('; ')}\``,
    { details: { driver, commands } },
  )
}

function checkBindable(device: PciDeviceInfo, driver: string, force: boolean, { paths }: Machine): void {
  const { bdf } = device
  if (device.driver === driver) return
  if (isBridge(device)) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${bdf} is a bridge: other devices are reached through it, and no program can drive it. It keeps no IOMMU group from being viable`,
    )
  }
  if (isVfioDriver(driver) && device.iommuGroup === undefined && !noIommuMode(paths)) {
    throw accelError(
      'ERR_ACCEL_NO_IOMMU',
      `${bdf} stands behind no IOMMU, and ${driver} takes no such device: \`uaccel doctor ${bdf}\` says how to get one`,
    )
  }
  if (!force) checkUnused(device, `bound to ${driver}`, paths)
}

function checkUnused(device: PciDeviceInfo, wanted: string, paths: MachinePaths): void {
  const uses = usesOf(device, paths)
  if (uses.length === 0) return
  const lines = uses.map(
    ({ what, command }) => `  ${what}${command === undefined ? '' : `  (\`${command}\`)`}`,
  )
  throw accelError(
    'ERR_ACCEL_BUSY',
    `${device.bdf} is in use and was not ${wanted}:\n${lines.join('\n')}\n` +
      'End that first, or take it all the same with `force` (--force)',
    { details: { bdf: device.bdf, uses } },
  )
}

/** Binds one device. Answers how to give it back to what it was a moment ago. */
async function bindOne(
  device: PciDeviceInfo,
  driver: string,
  plan: readonly SysfsWrite[],
  machine: Machine,
): Promise<() => Promise<void>> {
  const { paths } = machine
  const was = await stateOf(device, machine)
  const record = readRecord(device, paths)
  const undo = async () => {
    const now = readPciDevice(device.bdf, paths)
    await execute(now, restorePlan(now, was, paths.sysfs), machine)
    if (record === undefined) forgetRecord(device.bdf, paths)
    else writeRecord(device, record, paths)
  }
  // bound from one driver for programs to the next: what was before the first stays what is restored
  const before = record !== undefined && record.driver === device.driver ? record.before : was
  remember(device, { driver, before }, machine)
  try {
    await execute(device, plan, machine)
    return undo
  } catch (cause) {
    if (goesOn(cause) || !isAccelError(cause)) throw cause
    const end = await undo().then(
      () =>
        device.driver === undefined ? 'It has no driver, as before' : `It is bound to ${device.driver} again`,
      (error: Error) => `And it could not be given back to ${device.driver ?? 'nobody'}: ${error.message}`,
    )
    throw accelError(cause.code, `${cause.message}. ${end}`, { cause })
  }
}

function remember(
  device: PciDeviceInfo,
  record: { driver: string; before: Before },
  { paths }: Machine,
): void {
  try {
    writeRecord(device, record, paths)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS'
    throw accelError(
      denied ? 'ERR_ACCEL_PERMISSION' : 'ERR_ACCEL_SYSTEM',
      `what ${device.bdf} was before could not be written down below ${paths.run}/uaccel, so it was not touched: ${message}` +
        (denied ? '. Run this as root' : ''),
      { cause },
    )
  }
}

async function stateOf({ bdf, driver }: PciDeviceInfo, { paths, access, limit }: Machine): Promise<Before> {
  const override = await access.read(
    resolveInside(join(paths.sysfs, 'bus/pci/devices', bdf, 'driver_override'), paths),
    limit,
  )
  const name = override.trim()
  return {
    ...(driver === undefined ? {} : { driver }),
    // what the kernel prints for none
    ...(name === '(null)' || !isDriverName(name) ? {} : { override: name }),
  }
}

/**
 * Gives a device back to the driver that it had before {@link bindDevice}. Where nobody knows which that was, and a
 * driver for programs has it, the kernel chooses. A device of a driver of the kernel is left alone.
 *
 * @throws ERR_ACCEL_BUSY where a program has the device open and `force` is not set; with it the program is asked
 * for the device. Else as {@link bindDevice}
 */
export async function unbindDevice(address: string, options: UnbindOptions = {}): Promise<Binding> {
  const machine = machineOf(options)
  const { paths } = machine
  const { force = false, dryRun = false } = options
  const device = readPciDevice(address, paths)
  const record = readRecord(device, paths)
  const known = record !== undefined && (device.driver === undefined || device.driver === record.driver)
  if (!known && device.driver !== undefined && !isUserDriver(device.driver)) {
    if (!dryRun && record !== undefined) forgetRecord(device.bdf, paths)
    return outcome(device, device, [], machine)
  }
  if (device.driver !== undefined && !force) checkUnused(device, 'given back', paths)
  const before = known ? record.before : undefined
  if (before?.driver !== undefined) checkDriver(before.driver, machine)
  const plan = restorePlan(device, before, paths.sysfs)
  if (dryRun) return outcome(device, device, plan, machine)
  await execute(device, plan, machine)
  forgetRecord(device.bdf, paths)
  return outcome(device, readPciDevice(device.bdf, paths), plan, machine)
}

async function execute(device: PciDeviceInfo, plan: readonly SysfsWrite[], machine: Machine): Promise<void> {
  const { paths, access, limit } = machine
  const { bdf } = device
  const nodes = userNodes(device, paths).map(({ path }) => path)
  for (const { path, value, driverAfter } of plan) {
    try {
      await access.write(resolveInside(path, paths), value, limit)
    } catch (cause) {
      throw isAccelError(cause) ? explain(cause, bdf, nodes, machine) : cause
    }
    if (driverAfter === undefined) continue
    const found = linkName(join(paths.sysfs, 'bus/pci/devices', bdf, 'driver'))
    if (found !== (driverAfter ?? undefined)) {
      throw accelError(
        'ERR_ACCEL_SYSTEM',
        `${bdf} was to be bound to ${driverAfter ?? 'no driver'}, and is bound to ${found ?? 'none'} after "${value}" was written to ${path}; ` +
          '`dmesg | tail` may say why',
      )
    }
  }
}

/** True where the kernel has not ended a step: whatever touches the device in sysfs now would wait for that too. */
const goesOn = (error: unknown) =>
  isAccelError(error, 'ERR_ACCEL_TIMEOUT') || isAccelError(error, 'ERR_ACCEL_ABORTED')

function explain(cause: AccelError, bdf: string, nodes: readonly string[], { paths }: Machine): AccelError {
  if (cause.code === 'ERR_ACCEL_PERMISSION') {
    return accelError(cause.code, `${cause.message}. Run this as root`, { cause })
  }
  if (!goesOn(cause)) return cause
  const holders = holdersOf(nodes, paths)
  const who =
    holders.length === 0
      ? 'whoever has it'
      : holders.map((holder) => `${describeHolder(holder)}, which has ${holder.path} open,`).join(' and ')
  return accelError(
    cause.code,
    `${cause.message}: the kernel waits for ${who} to give ${bdf} up, and goes on then. End that, and repeat the command: ` +
      'until then the device has to be left alone, /sys as well',
    { cause, details: { bdf, holders } },
  )
}

/** A file of sysfs without symbolic links, below the devices and the PCI bus. */
function resolveInside(path: string, { sysfs }: MachinePaths): string {
  try {
    const root = realpathSync(sysfs)
    const folder = realpathSync(dirname(path))
    const resolved = join(folder, basename(path))
    const inside = ['devices', 'bus/pci'].some((top) =>
      `${folder}${sep}`.startsWith(`${join(root, top)}${sep}`),
    )
    if (inside && lstatSync(resolved).isFile()) return resolved
  } catch (cause) {
    throw accelError('ERR_ACCEL_SYSTEM', `${path} cannot be written: ${(cause as Error).message}`, { cause })
  }
  throw accelError(
    'ERR_ACCEL_SYSTEM',
    `${path} leads out of ${sysfs} or is no file: nothing was written to it`,
  )
}
