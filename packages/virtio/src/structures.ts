import { decodeConfigSpace, type RegionInfo } from '@uaccel/core'
import { accelError } from '@uaccel/uapi'
import { COMMON_BYTES } from './registers.js'

/** A part of a BAR. */
export interface Structure {
  readonly bar: number
  readonly offset: number
  readonly sizeBytes: number
}

/** Where the structures of a virtio device lie (virtio 1.2, 4.1.4). */
export interface Structures {
  readonly common: Structure
  /** A queue is notified at `QUEUE_NOTIFY_OFF * multiplier` bytes from its start. */
  readonly notify: Structure & { readonly multiplier: number }
  readonly isr: Structure
  /** Absent where the type of device has none. */
  readonly device: Structure | undefined
}

/** PCI_CAP_ID_VNDR (include/uapi/linux/pci_regs.h). */
const VENDOR_CAPABILITY = 0x09
/** `cfg_type` (4.1.4). */
const KINDS = { common: 1, notify: 2, isr: 3, device: 4 } as const
type Kind = keyof typeof KINDS
/** Offsets in struct virtio_pci_cap and virtio_pci_notify_cap (4.1.4), and their sizes. */
const CAP = { length: 2, type: 3, bar: 4, offset: 8, sizeBytes: 12, multiplier: 16 } as const
const CAP_BYTES = 16
const NOTIFY_CAP_BYTES = 20
/** Above it a BAR is reserved, and the capability to be ignored (4.1.4.1). */
const LAST_BAR = 5
/** What each must have at least, and how it is aligned (4.1.4.3 to 4.1.4.6). */
const NEEDS: Readonly<Record<Kind, { readonly bytes: number; readonly align: number }>> = {
  common: { bytes: COMMON_BYTES, align: 4 },
  notify: { bytes: 2, align: 2 },
  isr: { bytes: 1, align: 1 },
  device: { bytes: 0, align: 4 },
}

/**
 * Finds the structures of a device in its config space: of each kind the first that can be used, as 4.1.4 wants it.
 *
 * @throws ERR_ACCEL_UNSUPPORTED one is not there: no virtio device of version 1
 */
export function findStructures(config: Uint8Array, regions: readonly RegionInfo[]): Structures {
  const view = new DataView(config.buffer, config.byteOffset, config.length)
  const found: { [K in Kind]?: Structure & { multiplier: number } } = {}
  for (const { id, offset: at } of decodeConfigSpace(config).capabilities) {
    if (id !== VENDOR_CAPABILITY || at + CAP_BYTES > config.length) continue
    const length = view.getUint8(at + CAP.length)
    const kind = kindOf(view.getUint8(at + CAP.type))
    if (kind === undefined || found[kind] !== undefined) continue
    const wanted = kind === 'notify' ? NOTIFY_CAP_BYTES : CAP_BYTES
    if (length < wanted || at + wanted > config.length) continue
    const place = {
      bar: view.getUint8(at + CAP.bar),
      offset: view.getUint32(at + CAP.offset, true),
      sizeBytes: view.getUint32(at + CAP.sizeBytes, true),
    }
    if (!usable(kind, place, regions)) continue
    found[kind] = { ...place, multiplier: kind === 'notify' ? view.getUint32(at + CAP.multiplier, true) : 0 }
  }
  const { common, notify, isr, device } = found
  if (common && notify && isr) return { common, notify, isr, device }
  const missing = [common ? '' : 'common', notify ? '' : 'notify', isr ? '' : 'ISR'].filter(Boolean)
  throw accelError(
    'ERR_ACCEL_UNSUPPORTED',
    `A virtio device of version 1 has capabilities for its structures; ${missing.join(', ')} is missing or does not lie in a BAR. ` +
      'Is it a legacy device (disable-modern)?',
  )
}

function kindOf(type: number): Kind | undefined {
  return (Object.keys(KINDS) as Kind[]).find((kind) => KINDS[kind] === type)
}

/** What the device says of itself is checked: a structure lies within a BAR that is there, is long enough and aligned. */
function usable(kind: Kind, { bar, offset, sizeBytes }: Structure, regions: readonly RegionInfo[]): boolean {
  const { bytes, align } = NEEDS[kind]
  const region = bar <= LAST_BAR ? regions[bar] : undefined
  return (
    region !== undefined &&
    sizeBytes >= bytes &&
    offset % align === 0 &&
    offset + sizeBytes <= region.sizeBytes
  )
}
