/** Offsets in the first 64 bytes of config space (include/uapi/linux/pci_regs.h; PCI Local Bus 3.0, 6.1). */
export const pciConfig = {
  vendor: 0x00,
  device: 0x02,
  command: 0x04,
  status: 0x06,
  classRevision: 0x08,
  headerType: 0x0e,
  bar0: 0x10,
  subsystemVendor: 0x2c,
  subsystem: 0x2e,
  rom: 0x30,
  capabilities: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
} as const

/** Bits of the command register (PCI_COMMAND_*). */
export const pciCommand = {
  io: 1 << 0,
  memory: 1 << 1,
  busMaster: 1 << 2,
  parityError: 1 << 6,
  systemError: 1 << 8,
  intxDisable: 1 << 10,
} as const

/** Bits of the status register (PCI_STATUS_*). */
export const pciStatus = {
  intxPending: 1 << 3,
  capabilities: 1 << 4,
} as const

/** Capability ids (PCI_CAP_ID_*). */
export const pciCapability = {
  powerManagement: 0x01,
  msi: 0x05,
  vendor: 0x09,
  pcie: 0x10,
  msix: 0x11,
} as const
