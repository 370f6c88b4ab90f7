import { added } from './field.js'
import { enumeration, u16, u32 } from './scalars.js'
import { buildUapi, cmd, FIRST_DRIVER_COMMAND } from './schema.js'
import { bytes, string } from './sequences.js'

/** What every accelerator answers, whatever its driver: numbers below {@link FIRST_DRIVER_COMMAND}. Append-only. */
export const commonUapi = buildUapi(
  {
    name: 'common',
    version: 2,
    commands: {
      version: cmd(0x00, {
        doc: "Which uAPI the node speaks: the driver's name, its version, and the SHA-256 of its layouts.",
        out: { uapi: string(32), version: u32, commonVersion: u32, digest: bytes(32) },
        concurrent: true,
      }),
      info: cmd(0x01, {
        doc:
          'Which device this is. An empty `tainted` means that an IOMMU isolates it; `iommu` names the interface to ' +
          'the IOMMU (type1, iommufd, or none) and is empty where the device is not behind the kernel. `vendor`, `device` and ' +
          '`classCode` are those of PCI, and 0 on other buses.',
        out: {
          node: string(32),
          driver: string(32),
          transport: string(16),
          address: string(256),
          tainted: string(256),
          emulated: enumeration({ unknown: 0, no: 1, yes: 2 }),
          bus: enumeration({ pci: 0, platform: 1 }),
          vendor: u16,
          device: u16,
          classCode: u32,
          iommu: added(2, string(16)),
        },
        concurrent: true,
      }),
    },
  },
  { first: 0, last: FIRST_DRIVER_COMMAND - 1 },
)
