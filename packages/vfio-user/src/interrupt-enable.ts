import { decodeConfigSpace, type IrqType, PciRegion, type Transport } from '@uaccel/core'

/** Bytes of config space in which the header and its capabilities are (PCI 3.0, 6.1). */
const CONFIG_BYTES = 256
/** Where a word of config space says whether a kind of interrupt is enabled. */
interface Switch {
  /** Its capability; the header for none. */
  readonly capability?: number
  readonly offset: number
  /** The bits that are ours. */
  readonly mask: number
  /** Their value for so many vectors. */
  value(vectors: number): number
}

/** Interrupt Disable of the command register (PCI 3.0, 6.2.2). */
export const INTX_DISABLE = 1 << 10
/** MSI Enable and Multiple Message Enable, the log2 of the vectors (6.8.1.3). */
const MSI_ENABLE = 1 << 0
const MSI_VECTORS_SHIFT = 4
const MSI_VECTORS = 7 << MSI_VECTORS_SHIFT
/** MSI-X Enable and Function Mask (6.8.2.3). */
const MSIX_ENABLE = 1 << 15
const MSIX_MASK = 1 << 14

const switches: Partial<Record<IrqType, Switch>> = {
  intx: { offset: 4, mask: INTX_DISABLE, value: (vectors) => (vectors > 0 ? 0 : INTX_DISABLE) },
  msi: {
    capability: 0x05,
    offset: 2,
    mask: MSI_ENABLE | MSI_VECTORS,
    value: (vectors) => (vectors > 0 ? MSI_ENABLE | (Math.ceil(Math.log2(vectors)) << MSI_VECTORS_SHIFT) : 0),
  },
  msix: {
    capability: 0x11,
    offset: 2,
    mask: MSIX_ENABLE | MSIX_MASK,
    value: (vectors) => (vectors > 0 ? MSIX_ENABLE : 0),
  },
}

/**
 * Enables a kind of interrupt in config space for so many vectors, or disables it for 0. The kernel does so for a device whose vectors it
 * arms; vfio-user servers leave it to their client, and their devices ask whether it was done before they take or send one.
 */
export function enableInterrupts(device: Transport, type: IrqType, vectors: number): void {
  const found = switches[type]
  if (found === undefined) return
  const bytes = Buffer.alloc(Math.min(CONFIG_BYTES, device.regions[PciRegion.CONFIG]?.sizeBytes ?? 0))
  device.readBytes(PciRegion.CONFIG, 0, bytes)
  const at = place(bytes, found)
  // A server may offer vectors without the capability: then nothing says that they are off.
  if (at === undefined || at + 2 > bytes.length) return
  const word = Buffer.alloc(2)
  word.writeUInt16LE((bytes.readUInt16LE(at) & ~found.mask) | found.value(vectors))
  device.writeBytes(PciRegion.CONFIG, at, word)
}

function place(config: Uint8Array, { capability, offset }: Switch): number | undefined {
  if (capability === undefined) return offset
  const start = decodeConfigSpace(config).capabilities.find(({ id }) => id === capability)?.offset
  return start === undefined ? undefined : start + offset
}
