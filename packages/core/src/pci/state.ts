import { accelError } from '@uaccel/uapi'
import type { ConfigSpace } from '../config-access.js'
import { poll } from '../wait.js'
import { pciCommand, pciConfig } from './constants.js'

/** PCI Express lets a function take so long after a reset until it answers (PCI Express Base 5.0, 6.6.1). */
const ANSWER_MS = 1000
/** What is read where nobody answers (PCI Local Bus 3.0, 6.1). */
const ALL_ONES = 0xffff_ffff
/** The vendor id of a function that asks for a retry (PCI Express Base 5.0, 2.3.2: configuration request retry status). */
const RETRY = 0x0001

/** What config space must be again after a reset, or after sleep. */
export interface PciState {
  readonly command: number
  /** The six base address registers. */
  readonly bars: readonly number[]
}

/** Reads what {@link restoreState} takes. A device that is not PCI has nothing of it. */
export function readState(config: ConfigSpace): PciState | undefined {
  if (config.sizeBytes === 0) return undefined
  const bars = Array.from({ length: 6 }, (_, i) => config.read32(pciConfig.bar0 + 4 * i))
  return { command: config.read16(pciConfig.command), bars }
}

/**
 * Waits until the device answers, then restores the command register and sees that the BARs are where they were.
 * Errors: `ERR_ACCEL_TIMEOUT` where nobody answers, `ERR_ACCEL_IO` for a BAR or a bit that is not as it was.
 */
export async function restoreState(config: ConfigSpace, state: PciState | undefined): Promise<void> {
  if (state === undefined) return
  // vfio-pci answers the vendor id itself, and passes reads of the class and revision on (init_pci_cap_basic_perm in
  // drivers/vfio/pci/vfio_pci_config.c).
  await poll(
    () => [config.read32(pciConfig.vendor), config.read32(pciConfig.classRevision)] as const,
    ([id, classRevision]) => id !== ALL_ONES && (id & 0xffff) !== RETRY && classRevision !== ALL_ONES,
    { timeoutMs: ANSWER_MS, what: 'an answer to reads of config space (id, class and revision)' },
  )
  // Writing it makes vfio-pci restore BARs that a reset behind its back took away (vfio_basic_config_write there).
  setCommand(config, state.command)
  for (const [i, wanted] of state.bars.entries()) {
    const found = config.read32(pciConfig.bar0 + 4 * i)
    if (found === wanted) continue
    throw accelError(
      'ERR_ACCEL_IO',
      `base address register ${i} was 0x${wanted.toString(16)} before and is 0x${found.toString(16)} now`,
    )
  }
}

/** Writes the command register and sees that memory decoding and bus mastering are as wanted. `ERR_ACCEL_IO`. */
export function setCommand(config: ConfigSpace, command: number): void {
  config.write16(pciConfig.command, command)
  const found = config.read16(pciConfig.command)
  const wanted = command & (pciCommand.memory | pciCommand.busMaster)
  if ((found & wanted) === wanted) return
  throw accelError(
    'ERR_ACCEL_IO',
    `bits 0x${wanted.toString(16)} of the command register were set, it reads 0x${found.toString(16)}`,
  )
}
