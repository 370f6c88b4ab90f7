import { accelError } from '@uaccel/uapi'

/** How a device without an IOMMU is accepted. */
export interface NoIommuOptions {
  /**
   * Takes a device also where no IOMMU keeps it from memory that is not its driver's. It then can read and write all memory of
   * the machine, by a mistake of its driver too: a warning says so (code `UACCEL_NO_IOMMU`), and INFO (`tainted`). Default false.
   */
  readonly allowNoIommu?: boolean
}

/** The devices that were warned of: once each. */
const warned = new Set<string>()

/**
 * Refuses a device without an IOMMU unless that was asked for.
 *
 * @param remedy What would isolate it.
 * @throws ERR_ACCEL_NO_IOMMU
 */
export function requireConsent(what: string, { allowNoIommu = false }: NoIommuOptions, remedy: string): void {
  if (allowNoIommu) return
  throw accelError(
    'ERR_ACCEL_NO_IOMMU',
    `nothing isolates ${what}: without an IOMMU a device can read and write all memory of this machine, by a mistake of its driver ` +
      `too. ${remedy}. Where that risk is acceptable, open it with \`allowNoIommu: true\` (--allow-no-iommu)`,
  )
}

/** Warns of a device that was opened without an IOMMU, and answers why it counts as tainted. */
export function taint(what: string): string {
  const reason = 'no IOMMU: the device can reach all memory of the machine'
  if (!warned.has(what)) {
    warned.add(what)
    process.emitWarning(`${what} was opened with ${reason}`, {
      type: 'UaccelWarning',
      code: 'UACCEL_NO_IOMMU',
    })
  }
  return reason
}
