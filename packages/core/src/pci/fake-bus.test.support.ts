import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { accelError } from '@uaccel/uapi'
import { linkName, type MachinePaths } from './machine.js'
import { makeSysfs, type TreeDevice } from './sysfs-tree.test.support.js'
import type { SysfsAccess } from './sysfs-write.js'

/** How a made-up machine behaves. */
export interface FakeBusOptions {
  readonly devices: readonly TreeDevice[]
  /** Drivers that are loaded, besides those of the devices. */
  readonly drivers?: readonly string[]
  /** The driver that takes each device by itself. */
  readonly natural?: Readonly<Record<string, string>>
  /** Drivers whose probe fails. */
  readonly refusing?: readonly string[]
  /** Drivers that do not let go. */
  readonly hanging?: readonly string[]
}

/** A PCI bus in a folder that does what the kernel does when its files are written (drivers/base/bus.c, drivers/pci/pci-driver.c). */
export class FakeBus implements SysfsAccess {
  readonly paths: MachinePaths
  readonly written: string[] = []
  readonly #options: FakeBusOptions

  constructor(t: { teardown(end: () => void): void }, options: FakeBusOptions) {
    this.#options = options
    const tree = makeSysfs(
      options.devices.map((device) => ({
        ...device,
        files: { driver_override: '(null)\n', ...device.files },
      })),
    )
    t.teardown(tree.remove)
    const pci = join(tree.path, 'bus/pci')
    writeFileSync(join(pci, 'drivers_probe'), '')
    const drivers = [...options.devices.flatMap(({ driver }) => driver ?? []), ...(options.drivers ?? [])]
    for (const driver of drivers) {
      mkdirSync(join(pci, 'drivers', driver), { recursive: true })
      writeFileSync(join(pci, 'drivers', driver, 'unbind'), '')
    }
    this.paths = {
      sysfs: tree.path,
      proc: join(tree.path, 'proc'),
      devfs: join(tree.path, 'dev'),
      run: join(tree.path, 'run'),
    }
    for (const folder of ['proc/self', 'dev', 'run']) mkdirSync(join(tree.path, folder), { recursive: true })
    writeFileSync(join(tree.path, 'proc/self/mountinfo'), '')
    writeFileSync(join(tree.path, 'proc/swaps'), 'Filename\n')
  }

  /** Folder of a device. */
  folder(bdf: string): string {
    return join(this.paths.sysfs, 'bus/pci/devices', bdf)
  }

  driver(bdf: string): string | undefined {
    return linkName(join(this.folder(bdf), 'driver'))
  }

  override(bdf: string): string {
    return readFileSync(join(this.folder(bdf), 'driver_override'), 'utf8').trim()
  }

  async read(path: string): Promise<string> {
    return readFileSync(path, 'utf8')
  }

  async write(path: string, value: string): Promise<void> {
    this.written.push(`${basename(path)}=${value}`)
    const { hanging = [], refusing = [], natural = {} } = this.#options
    if (basename(path) === 'driver_override') writeFileSync(path, value === '' ? '(null)\n' : `${value}\n`)
    else if (basename(path) === 'unbind') {
      if (hanging.includes(basename(dirname(path)))) throw accelError('ERR_ACCEL_TIMEOUT', 'it did not end')
      rmSync(join(this.folder(value), 'driver'))
    } else if (this.driver(value) === undefined) {
      const override = this.override(value)
      const driver = override === '(null)' ? natural[value] : override
      if (driver === undefined || refusing.includes(driver)) return
      symlinkSync(join(this.paths.sysfs, 'bus/pci/drivers', driver), join(this.folder(value), 'driver'))
    }
  }
}
