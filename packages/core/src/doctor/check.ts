import type { MachinePaths } from '../pci/machine.js'
import type { PciDeviceInfo } from '../pci/sysfs.js'

/** What a check came to: `failed` keeps drivers from opening devices, `unknown` could not be found out. */
export type Status = 'ok' | 'warning' | 'failed' | 'unknown'

/** A way to mend what was found. */
export interface Fix {
  /** What it does, and when to choose it. */
  readonly what: string
  /** For a shell of root, in order. Empty where no command can do it. One may be a list of several lines. */
  readonly commands: readonly string[]
  /** It gives up protection: any memory of the machine is then within the device's reach. */
  readonly unsafe?: boolean
  /** It counts from the next boot on. */
  readonly reboot?: boolean
}

/** What a check has found. */
export interface Finding {
  readonly status: Status
  /** What there is. */
  readonly found: string
  /** Why that is in the way. */
  readonly cause?: string
  /** Alternatives, the best first. */
  readonly fixes?: readonly Fix[]
}

/** A machine, seen by a user. */
export interface MachineContext {
  readonly paths: MachinePaths
}

/** And one device of it. */
export interface DeviceContext extends MachineContext {
  readonly device: PciDeviceInfo
}

/** One thing that must be right before a driver can open a device. */
export interface Check<Context> {
  readonly id: string
  readonly title: string
  run(context: Context): Finding
}

/** A finding, and whose it is. */
export interface CheckResult extends Finding {
  readonly id: string
  readonly title: string
}

/** Runs checks, in order. One that throws comes to `unknown`. */
export function runChecks<Context>(checks: readonly Check<Context>[], context: Context): CheckResult[] {
  return checks.map(({ id, title, run }) => {
    try {
      return { id, title, ...run(context) }
    } catch (error) {
      return { id, title, status: 'unknown', found: error instanceof Error ? error.message : String(error) }
    }
  })
}
