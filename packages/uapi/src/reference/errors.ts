import { type ErrorCode, errorTable } from '../errors.js'

/** What usually stands behind an error of the table, and what to do about it; Markdown. */
export interface ErrorHelp {
  readonly cause: string
  readonly cure: string
}

/** For people. The message of an error knows more than this: it names the device, the value and the command. */
export const errorHelp: Readonly<Record<ErrorCode, ErrorHelp>> = {
  ERR_ACCEL_INVALID_ARGUMENT: {
    cause:
      'A value of another type, a field that is missing or unknown, a definition that contradicts itself (two registers at one offset, two commands of one number).',
    cure: 'The message names the field. `details.field` has it for programs.',
  },
  ERR_ACCEL_OUT_OF_RANGE: {
    cause: 'A number, length, offset or count beyond what the definition or the device allows.',
    cure: 'The message has the limit. Limits of a device are told by `uaccel info NODE`, those of a command by `uaccel uapi NAME`.',
  },
  ERR_ACCEL_NOT_FOUND: {
    cause:
      'No such device, node, socket, register, file or tool. For a device on VFIO: `vfio-pci` is not loaded, or the node in /dev is missing.',
    cure: '`uaccel list` shows devices, `uaccel -L` nodes, `uaccel doctor ADDRESS` what is missing and the command that brings it.',
  },
  ERR_ACCEL_PERMISSION: {
    cause:
      'The node in /dev or the socket belongs to another user; or an open lacks the right to reset the device or to store an attribute.',
    cure: 'For a PCI device bind it for the user: `uaccel bind ADDRESS --owner USER`. For a node, `mode` and `group` of its configuration. Never run a client as root for this.',
  },
  ERR_ACCEL_BUSY: {
    cause:
      'Another process or another open has the device: a group or device that is open elsewhere, an exclusive node, a disk that is mounted, a name that is taken.',
    cure: 'The message says who. End that use; for a device in use by the kernel, `uaccel doctor ADDRESS` has the commands in order.',
  },
  ERR_ACCEL_NO_MEMORY: {
    cause:
      'The system has no memory or descriptors left, a quota of the node is used up, or no huge page is free.',
    cure: 'Destroy buffers; raise `quotas` in the configuration, `ulimit -n`, or `/proc/sys/vm/nr_hugepages`: the message says which.',
  },
  ERR_ACCEL_UNSUPPORTED: {
    cause:
      'The kernel, the device, the transport or the peer does not have the feature; or this is not x86-64 Linux.',
    cure: 'The message says which of them lacks it. Ask first where there is a way: `dev.resets`, `dev.canSleep`, `transport.iommufd?.capabilities()`.',
  },
  ERR_ACCEL_SYSTEM: {
    cause: 'A system call failed in a way that has no code of its own.',
    cure: '`syscall` and `errno` name it: look there, and in `dmesg`.',
  },
  ERR_ACCEL_TIMEOUT: {
    cause:
      'An interrupt did not come, a register never showed what was waited for, a handler or a server did not answer. After bring-up most often: bus mastering is off (an MSI is a write), the device waits for an acknowledgement, or it hangs.',
    cure: 'The message says what was waited for. See whether the interrupt was fired: `uaccel attr NODE irqs/0/fired`. Read the registers. Give slow hardware a longer `timeoutMs`.',
  },
  ERR_ACCEL_ABORTED: {
    cause: 'The caller aborted its signal or closed its open.',
    cure: 'Nothing: it is what was asked for. The device is brought to idle before the next command.',
  },
  ERR_ACCEL_NO_DEVICE: {
    cause:
      'The device was unplugged, unbound, reset away or released by its driver; or the server of its node ended. Registers of a device that is gone read as all ones.',
    cure: '`cause` has the reason. Open the device again when it is back: `accel.discover` and `uaccel serve` do so by themselves.',
  },
  ERR_ACCEL_REVOKED: {
    cause: 'A view of a BAR or of memory was used after it was freed, unmapped or destroyed.',
    cure: 'A mistake of the program: something outlives its owner. The message names the buffer.',
  },
  ERR_ACCEL_CLOSED: {
    cause:
      'The open, handle, fence or session was closed while something waited for it, or before it was used.',
    cure: 'Close last; after a reset with a new probe, open again and make handles and buffers anew.',
  },
  ERR_ACCEL_PROTOCOL: {
    cause:
      'A vfio-user peer, the server or the client of a node sent what the protocol does not allow. Often a version that is much older, or another program on that socket.',
    cure: 'The message says what was found. The session has ended; connect again with a peer that speaks it.',
  },
  ERR_ACCEL_IO: {
    cause:
      'The device reported an error, was reset under a command, or its driver threw something that is no error of this table.',
    cure: 'The message and `cause` have what the device said. `uaccel events NODE` and the kernel log tell of resets and bus errors.',
  },
  ERR_ACCEL_DMA_FAULT: {
    cause:
      'The device read or wrote at an address that is not mapped for it: a wrong address or length in a register or descriptor, memory that was freed before the device was done, more address bits than `setDmaAddressBits` says, bus mastering that is off.',
    cure: 'The message has the address and the ranges that are mapped. On real hardware the IOMMU stops the access and tells `dmesg` (DMAR, AMD-Vi). Run the driver on a model: it throws at the first wrong address.',
  },
  ERR_ACCEL_BAD_ACCESS: {
    cause:
      'A register access of an offset, width or direction that the device does not declare; models refuse these, hardware may hang.',
    cure: 'The message names what the model has there. One of the two read the specification wrongly.',
  },
  ERR_ACCEL_WRONG_DRIVER: {
    cause: 'The device is not bound to vfio-pci, but to another kernel driver or to none.',
    cure: '`uaccel doctor ADDRESS`, then `uaccel bind ADDRESS` as root. `uaccel unbind ADDRESS` gives it back.',
  },
  ERR_ACCEL_GROUP_NOT_VIABLE: {
    cause:
      'Another device of the same IOMMU group is held by a kernel driver: the IOMMU cannot keep the two apart.',
    cure: 'The message names those devices. `uaccel bind ADDRESS --group` takes them all, if nothing needs them; or put the card into another slot.',
  },
  ERR_ACCEL_NO_IOMMU: {
    cause: 'The IOMMU is off in the firmware or on the kernel command line, or the machine has none.',
    cure: 'Switch VT-d or AMD-Vi on in the firmware and boot with `intel_iommu=on` where it is needed. Without one: `allowNoIommu`, after reading what that means.',
  },
  ERR_ACCEL_MEMLOCK: {
    cause: 'Memory for DMA is locked, and the user may lock less than that (8 MiB on many systems).',
    cure: 'Raise it: `ulimit -l`, /etc/security/limits.conf, `LimitMEMLOCK=` of a service; the message has the size that is needed.',
  },
  ERR_ACCEL_MAPPING_LIMIT: {
    cause: 'The kernel takes 65,535 mappings for each container, a vfio-user server as few as 16.',
    cure: 'Map fewer and larger buffers: `dev.dma.alloc` puts small ones together. With iommufd there is no limit.',
  },
  ERR_ACCEL_NO_IOVA: {
    cause:
      'The addresses that the device and the IOMMU have in common are used up or in pieces; without an IOMMU, no neighbouring huge pages are free.',
    cure: 'Free mappings; ask for smaller ones; say the true number of address bits. Reserve huge pages early.',
  },
  ERR_ACCEL_NO_DRIVER: {
    cause: 'No registered driver has the ids of the device.',
    cure: 'Compare `ids` of the driver with `uaccel list`; register it before `add`; name its package in `drivers` of the configuration.',
  },
  ERR_ACCEL_PROBE_FAILED: {
    cause: "The driver's `probe` threw, or did not end within `probeMs`.",
    cure: '`cause` is what it threw. All that it had taken was given back.',
  },
  ERR_ACCEL_UNKNOWN_COMMAND: {
    cause: 'The driver has no such command: a newer client, or another device.',
    cure: 'The message lists what there is; `uaccel uapi` prints the reference page of a uAPI.',
  },
  ERR_ACCEL_BAD_SIZE: {
    cause:
      'A structure is shorter than its first version, or longer than any could be; a message exceeds the limit of its server.',
    cure: 'A client in C fills the structure of the generated header and passes its `sizeof`. Bulk data belongs into buffers.',
  },
  ERR_ACCEL_BAD_FLAGS: {
    cause: 'A bit is set that this version of the driver does not know.',
    cure: 'Clear it, or use a driver that knows it: `servedVersion` tells the version.',
  },
  ERR_ACCEL_RESERVED: {
    cause: 'Padding, unused room, or fields of a later version are not zero.',
    cure: 'Zero the structure before it is filled. A field of a later version that is in use needs a server of that version.',
  },
  ERR_ACCEL_VERSION: {
    cause: 'Two sides speak versions that do not work together, or the same version with another layout.',
    cure: 'Build both of the same definition. A layout never changes within a version: `abi.json` and its test keep it.',
  },
  ERR_ACCEL_FIRMWARE: {
    cause: 'A firmware file is in none of the folders, or none there has the digest that the driver wants.',
    cure: 'The message lists the folders. `UACCEL_FIRMWARE_PATH` adds some.',
  },
  ERR_ACCEL_WEDGED: {
    cause: 'The device did not answer after a reset.',
    cure: '`uaccel reset ADDRESS --hot` resets its bus; else take it off the bus and rescan, or switch the machine off and on. Then add it again.',
  },
  ERR_ACCEL_CORRUPT_MODEL: {
    cause: 'An ONNX file is cut off, damaged, or says two things at once.',
    cure: 'Export or download it anew; the message names the place.',
  },
  ERR_ACCEL_UNSUPPORTED_OPERATOR: {
    cause: 'The graph has an operator, or a form of one, that WebNN or its table here does not have.',
    cure: 'The message names the node and says why. `onnxOperators` of @uaccel/inference lists what there is; export the model with other operators.',
  },
  ERR_ACCEL_INVALID_SHAPE: {
    cause: 'An input has another shape or type than the graph takes, or the graph contradicts itself.',
    cure: 'The message has both shapes.',
  },
  ERR_ACCEL_DEADLOCK: {
    cause:
      'A call that blocks its thread waits for work of the same thread: a vfio-user client of a server in the same process, a model that steps its own clock.',
    cure: 'Put the server into another process or a worker; use the loopback transport within one.',
  },
  ERR_ACCEL_AGAIN: {
    cause:
      'The device is in reset or being cleaned, or as many requests, opens or waits are under way as may be.',
    cure: 'Wait for one of yours, or a little, and try again. It is the only code for which a retry is right.',
  },
}

/** The page of all errors, in the order of their numbers: Markdown without a title. */
export function errorsReference(): string {
  return Object.entries(errorTable)
    .map(([code, { number, errno, meaning }]) => {
      const { cause, cure } = errorHelp[code as ErrorCode]
      return `## ${code}\n\n${meaning}\n\n- **Cause:** ${cause}\n- **Cure:** ${cure}\n- Number ${number}, errno ${errno}.\n`
    })
    .join('\n')
}
