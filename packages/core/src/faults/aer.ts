import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeConfigSpace } from '../pci/describe.js'
import { parseBdf } from '../pci/sysfs.js'

export const aerSeverities = ['correctable', 'nonfatal', 'fatal'] as const

/** Errors of PCI Express that the kernel counted for a device. */
export interface AerCount {
  readonly severity: (typeof aerSeverities)[number]
  /** In the kernel's words: `Completion Timeout`. */
  readonly error: string
  readonly count: number
}

/**
 * What the kernel counted, without zeros (aer_dev_* of Documentation/ABI/testing/sysfs-bus-pci-devices-aer). Absent for a device without
 * AER, or a kernel that does not handle it.
 */
export function readAerCounts(
  address: string,
  { sysfs = '/sys' }: { readonly sysfs?: string } = {},
): AerCount[] | undefined {
  const folder = join(sysfs, 'bus/pci/devices', parseBdf(address))
  let found: AerCount[] | undefined
  for (const severity of aerSeverities) {
    let text: string
    try {
      text = readFileSync(join(folder, `aer_dev_${severity}`), 'latin1')
    } catch {
      continue // not there
    }
    found ??= []
    for (const [, error, count] of text.matchAll(/^(?!TOTAL_)(.+?) (\d+)$/gm))
      if (Number(count) > 0) found.push({ severity, error: error!, count: Number(count) })
  }
  return found
}

/** Errors that a device says it has seen, in its AER capability: those whose status bit is set. */
export interface AerStatus {
  readonly uncorrectable: readonly string[]
  readonly correctable: readonly string[]
}

/** Decodes the status registers of AER. Absent where the device has no such capability, or the bytes do not reach so far. */
export function aerStatusIn(config: Uint8Array): AerStatus | undefined {
  const registers = describeConfigSpace(config).extendedCapabilities.find(({ id }) => id === 1)?.registers
  const set = (name: string) => {
    const fields = registers?.find((register) => register.name === name)?.fields
    return fields && Object.keys(fields).filter((field) => fields[field] === true)
  }
  const [uncorrectable, correctable] = [set('UNCOR_STATUS'), set('COR_STATUS')]
  return uncorrectable && correctable && { uncorrectable, correctable }
}
