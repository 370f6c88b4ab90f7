import { type MachinePaths, machinePaths } from '../pci/machine.js'
import { type PciDeviceInfo, readPciDevice } from '../pci/sysfs.js'
import { type CheckResult, runChecks } from './check.js'
import { deviceChecks } from './device.js'
import { machineChecks } from './machine.js'

/** What the doctor has found. */
export interface Diagnosis {
  /** True where nothing is in the way of a driver: no finding is `failed`. */
  readonly ok: boolean
  readonly findings: readonly CheckResult[]
}

/** What {@link examineDevice} has found. */
export interface DeviceDiagnosis extends Diagnosis {
  readonly device: PciDeviceInfo
}

const diagnosis = (findings: readonly CheckResult[]): Diagnosis => ({
  ok: findings.every(({ status }) => status !== 'failed'),
  findings,
})

/** Whether devices of this machine can be given to programs of this user. Changes nothing. */
export function examineMachine(paths: Partial<MachinePaths> = {}): Diagnosis {
  return diagnosis(runChecks(machineChecks, { paths: { ...machinePaths, ...paths } }))
}

/**
 * Whether a driver in a program of this user could open a device, as far as the device itself is concerned. Changes
 * nothing, and does not open the device, which would reset it.
 *
 * @throws ERR_ACCEL_NOT_FOUND, ERR_ACCEL_INVALID_ARGUMENT
 */
export function examineDevice(address: string, paths: Partial<MachinePaths> = {}): DeviceDiagnosis {
  const all = { ...machinePaths, ...paths }
  const device = readPciDevice(address, all)
  return { device, ...diagnosis(runChecks(deviceChecks, { device, paths: all })) }
}
