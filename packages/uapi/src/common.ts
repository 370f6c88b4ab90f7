import { added, doc } from './field.js'
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
        out: {
          uapi: doc("Name of the driver's uAPI.", string(32)),
          version: doc('Its version.', u32),
          commonVersion: doc('Version of the commands that every device answers.', u32),
          digest: doc("SHA-256 of the names, numbers and layouts of the driver's uAPI.", bytes(32)),
        },
        concurrent: true,
      }),
      info: cmd(0x01, {
        doc: 'Which device this is, which driver holds it, and what stands between it and memory.',
        out: {
          node: doc('Name of the node, such as accel0.', string(32)),
          driver: doc('Name of the driver.', string(32)),
          transport: doc('How the driver reaches the device: vfio, uio, vfio-user, loopback.', string(16)),
          address: doc('Where the transport found it: a PCI address, a socket.', string(256)),
          tainted: doc(
            'Why the device can reach memory that is not its own; empty where an IOMMU isolates it.',
            string(256),
          ),
          emulated: doc('Whether the device is software.', enumeration({ unknown: 0, no: 1, yes: 2 })),
          bus: doc('The bus that the device is identified by.', enumeration({ pci: 0, platform: 1 })),
          vendor: doc('PCI vendor id; 0 on other buses.', u16),
          device: doc('PCI device id; 0 on other buses.', u16),
          classCode: doc('PCI class code, 24 bits: base class, subclass, interface; 0 on other buses.', u32),
          iommu: added(
            2,
            doc(
              'Interface to the IOMMU: type1, iommufd, or none; empty where the kernel does not hold the device.',
              string(16),
            ),
          ),
        },
        concurrent: true,
      }),
    },
  },
  { first: 0, last: FIRST_DRIVER_COMMAND - 1 },
)
