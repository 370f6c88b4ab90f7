/** An access of a device that an IOMMU refused, as the kernel logged it. */
export interface IommuFault {
  readonly iommu: 'intel' | 'amd' | 'arm'
  /** The device, with its domain; absent where the kernel does not say whose it was. */
  readonly device?: string
  readonly access?: 'read' | 'write'
  /** The I/O address. */
  readonly address: bigint
  /** Absent where the transfer was not tagged. */
  readonly pasid?: number
  /** What the IOMMU gives as its reason, in words. */
  readonly reason: string
  /** What that usually comes of; absent where nothing is known of the reason. */
  readonly hint?: string
}

const NOT_MAPPED =
  'nothing is mapped there: an address that was never mapped or is unmapped, or one that lost its high bits (`uaccel dma-test`)'
const NO_RIGHT = 'it is mapped, and not for this: see the access that it was mapped with'

/** Reasons of Intel's IOMMU (VT-d 4.1, 7.1.3), by number; the kernel gives the words. */
const intelHints: Readonly<Record<number, string>> = {
  1: 'the device has no root entry: it was not attached to an address space',
  2: 'the device was not attached to an address space: is it open, or bound to a driver?',
  4: 'the address has more bits than the IOMMU translates: has the device put garbage on the bus?',
  5: NOT_MAPPED,
  6: NOT_MAPPED,
}

/** Flags of AMD's IO_PAGE_FAULT (AMD I/O Virtualization Technology 3.08, 2.5.3), counted from bit 16 of the second word as the kernel prints them. */
const amdFlag = { interrupt: 1 << 3, present: 1 << 4, write: 1 << 5 } as const

interface Format {
  readonly pattern: RegExp
  read(groups: Readonly<Record<string, string | undefined>>): IommuFault | undefined
}

/** `00:05.0` is in domain 0: kernels that leave it out cannot say another. */
const withDomain = (device: string) => (device.length === 7 ? `0000:${device}` : device)

const formats: readonly Format[] = [
  {
    // dmar_fault_do_one of drivers/iommu/intel/dmar.c; before Linux 5.14 without NO_PASID and 0x; newer ones (seen in 7.2) have the domain.
    pattern:
      /DMAR: \[DMA (?<access>Read|Write)(?: NO_PASID| PASID (?<pasid>0x[0-9a-f]+))?\] Request device \[(?<device>(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\](?: PASID (?<oldPasid>[0-9a-f]+))? fault addr (?:0x)?(?<address>[0-9a-f]{1,16}) \[fault reason (?:0x)?(?<code>[0-9a-f]{2})\] (?<reason>.*)/,
    read({ access, pasid, device, oldPasid, address, code, reason }) {
      const tag = pasid ?? (oldPasid === undefined || /^f+$/.test(oldPasid) ? undefined : `0x${oldPasid}`)
      const hint = intelHints[Number.parseInt(code!, 16)]
      return {
        iommu: 'intel',
        device: withDomain(device!),
        access: access === 'Read' ? 'read' : 'write',
        address: BigInt(`0x${address}`),
        ...(tag === undefined ? {} : { pasid: Number(tag) }),
        reason: reason!.trim(),
        ...(hint && { hint }),
      }
    },
  },
  {
    // amd_iommu_report_page_fault of drivers/iommu/amd/iommu.c: the device before the colon, or among the members.
    pattern:
      /(?:(?<owner>[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): )?AMD-Vi: Event logged \[IO_PAGE_FAULT (?:device=(?<device>(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) )?(?:pasid=(?<pasid>0x[0-9a-f]+) )?domain=0x[0-9a-f]+ address=0x(?<address>[0-9a-f]{1,16}) flags=0x(?<flags>[0-9a-f]{1,4})\]/,
    read({ owner, device, pasid, address, flags: text }) {
      const flags = Number.parseInt(text!, 16)
      const whose = owner ?? (device && withDomain(device))
      const present = (flags & amdFlag.present) !== 0
      const interrupt = (flags & amdFlag.interrupt) !== 0
      return {
        iommu: 'amd',
        ...(whose && { device: whose }),
        access: (flags & amdFlag.write) !== 0 ? 'write' : 'read',
        address: BigInt(`0x${address}`),
        ...(pasid === undefined || Number(pasid) === 0 ? {} : { pasid: Number(pasid) }),
        reason: `IO_PAGE_FAULT, flags 0x${text}: ${interrupt ? 'an interrupt' : present ? 'no right' : 'not present'}`,
        ...(interrupt ? {} : { hint: present ? NO_RIGHT : NOT_MAPPED }),
      }
    },
  },
  {
    // arm_smmu_dump_event of drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c; read or write is in the next line.
    pattern:
      /arm-smmu-v3 \S+ event: (?<event>F_\w+) client: (?<client>\S+|\(unassigned sid\)) sid: 0x[0-9a-f]+ ssid: (?:0x)?(?<ssid>[0-9a-f]+) iova: (?:0x)?(?<address>[0-9a-f]{1,16}) /,
    read({ event, client, ssid, address }) {
      const hint = { F_TRANSLATION: NOT_MAPPED, F_PERMISSION: NO_RIGHT }[event!]
      const device = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/.test(client!) ? client : undefined
      const pasid = Number.parseInt(ssid!, 16)
      return {
        iommu: 'arm',
        ...(device && { device }),
        address: BigInt(`0x${address}`),
        ...(pasid === 0 ? {} : { pasid }),
        reason: event!,
        ...(hint && { hint }),
      }
    },
  },
  {
    // arm_smmu_context_fault of drivers/iommu/arm/arm-smmu/arm-smmu.c: WNR is bit 4 of fsynr, TF bit 1 and PF bit 3 of fsr.
    pattern:
      /Unhandled context fault: fsr=0x(?<fsr>[0-9a-f]+), iova=0x(?<address>[0-9a-f]{1,16}), fsynr=0x(?<fsynr>[0-9a-f]+)/,
    read({ fsr: text, address, fsynr }) {
      const fsr = Number.parseInt(text!, 16)
      const hint = (fsr & 2) !== 0 ? NOT_MAPPED : (fsr & 8) !== 0 ? NO_RIGHT : undefined
      return {
        iommu: 'arm',
        access: (Number.parseInt(fsynr!, 16) & 0x10) !== 0 ? 'write' : 'read',
        address: BigInt(`0x${address}`),
        reason: `context fault, fsr 0x${text}`,
        ...(hint && { hint }),
      }
    },
  },
]

/** The fault that a line of the kernel's log tells of; `undefined` for any other line. */
export function parseIommuFault(line: string): IommuFault | undefined {
  for (const { pattern, read } of formats) {
    const groups = pattern.exec(line)?.groups
    if (groups !== undefined) return read(groups)
  }
  return undefined
}
