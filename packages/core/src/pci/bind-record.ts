import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Before } from './bind-plan.js'
import { type MachinePaths, readOwn } from './machine.js'
import type { PciDeviceInfo } from './sysfs.js'

/** What `bind` remembers of a device so that `unbind` can restore it: sysfs has no place for that. */
export interface BindRecord {
  /** The driver that it was bound to. */
  readonly driver: string
  readonly before: Before
}

const maxBytes = 4096
const driverName = /^(?!\.)[\w.+-]{1,64}$/

/** True for a name that a driver's folder in sysfs can have, and that leaves that folder nowhere. */
export const isDriverName = (name: unknown): name is string =>
  typeof name === 'string' && driverName.test(name)

const place = (bdf: string, { run }: MachinePaths) => join(run, 'uaccel/bind', bdf)

/** What was remembered. Absent where nothing was, where others may have written it, or where it is of another device. */
export function readRecord(
  { bdf, vendor, device }: PciDeviceInfo,
  paths: MachinePaths,
): BindRecord | undefined {
  const text = readOwn(place(bdf, paths), maxBytes)
  if (text === undefined) return undefined
  let record: Record<string, unknown>
  try {
    record = JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
  if (record === null || record.vendor !== vendor || record.device !== device) return undefined
  const { driver, previousDriver, previousOverride } = record
  if (!isDriverName(driver)) return undefined
  if (![previousDriver, previousOverride].every((name) => name === undefined || isDriverName(name)))
    return undefined
  return {
    driver,
    before: {
      ...(previousDriver === undefined ? {} : { driver: previousDriver as string }),
      ...(previousOverride === undefined ? {} : { override: previousOverride as string }),
    },
  }
}

/** Remembers, at once and until the next boot. */
export function writeRecord(
  { bdf, vendor, device }: PciDeviceInfo,
  { driver, before }: BindRecord,
  paths: MachinePaths,
): void {
  const path = place(bdf, paths)
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  const next = `${path}.${process.pid}`
  const record = { vendor, device, driver, previousDriver: before.driver, previousOverride: before.override }
  writeFileSync(next, `${JSON.stringify(record)}\n`, { mode: 0o644, flag: 'wx' })
  renameSync(next, path)
}

export function forgetRecord(bdf: string, paths: MachinePaths): void {
  rmSync(place(bdf, paths), { force: true })
}
