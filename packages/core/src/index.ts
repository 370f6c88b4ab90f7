export type {
  AnyRegister,
  ClearableRegister,
  Mapped,
  Raw,
  ReadableRegister,
  RegisterAccessor,
  RegisterCodec,
  Trace,
  UpdatableRegister,
  WritableRegister,
} from './accessors.js'
export type { MapBarOptions, MapMemoryOptions } from './bars.js'
export type { ConfigSpace } from './config-access.js'
export {
  Device,
  type DeviceOptions,
  openDevice,
  type ReleaseOptions,
  type ResetOptions,
} from './device.js'
export type { CheckResult, Finding, Fix, Status } from './doctor/check.js'
export { type DeviceDiagnosis, type Diagnosis, examineDevice, examineMachine } from './doctor/doctor.js'
export { type AerCount, type AerStatus, aerSeverities, aerStatusIn, readAerCounts } from './faults/aer.js'
export { type IommuFault, parseIommuFault } from './faults/iommu-faults.js'
export { iommuFaultsIn, type KernelLine, type LoggedFault, readKernelLog } from './faults/kernel-log.js'
export {
  type BitsField,
  bits,
  type ChoiceField,
  choice,
  type Field,
  type FieldInputs,
  type Fields,
  type FieldValues,
  type FlagField,
  flag,
} from './fields.js'
export type { DeviceIdentity, PciIdentity, PlatformIdentity } from './identity.js'
export { type Interposer, interpose, interposed } from './interpose.js'
export {
  type IrqCounts,
  type IrqHandler,
  type IrqRequest,
  IrqVectors,
  type VectorType,
  type WaitSyncOptions,
} from './irq.js'
export { Listeners } from './listeners.js'
export type { Mmio } from './mmio.js'
export type { NoIommuOptions } from './no-iommu.js'
export { bindCommands, type SysfsWrite, shellCommand } from './pci/bind-plan.js'
export {
  type Binding,
  type BindOptions,
  bindDevice,
  bindGroup,
  type UnbindOptions,
  unbindDevice,
} from './pci/binding.js'
export {
  type BarPlace,
  type ConfigBar,
  type ConfigCapability,
  type ConfigSpaceInfo,
  decodeConfigSpace,
  type ExtendedCapability,
} from './pci/decode.js'
export { type ConfigDescription, describeConfigSpace } from './pci/describe.js'
export { type InterruptOptions, type KernelInterrupt, readKernelInterrupts } from './pci/interrupts.js'
export { type MachinePaths, machinePaths } from './pci/machine.js'
export { PciNames, pciNames } from './pci/names.js'
export type { NodeOwner } from './pci/node-owner.js'
export type { ConfigRegister } from './pci/registers/capability.js'
export {
  type IommuGroup,
  listPciDevices,
  type PciDeviceInfo,
  type PciOptions,
  type PciResource,
  parseBdf,
  readPciDevice,
} from './pci/sysfs.js'
export type { SysfsAccess } from './pci/sysfs-write.js'
export {
  latestSeqnum,
  type Overrun,
  parseUevent,
  type Uevent,
  type UeventAction,
  type UeventOptions,
  ueventActions,
  watchUevents,
} from './pci/uevents.js'
export { type DeviceUse, usesOf } from './pci/uses.js'
export {
  type Access,
  type Bar,
  type Register,
  type RegisterArray,
  type RegisterBlock,
  type RegisterEntry,
  RegisterMap,
  type RegisterOptions,
  type ResetValue,
  reg8,
  reg16,
  reg32,
  reg64,
  regArray,
  registers,
  type Width,
} from './registers.js'
export { type Disposer, Scope } from './scope.js'
export { scratchMmio } from './scratch.js'
export { attachDevice, type SharedBar, type SharedDevice, type SharedMemory } from './share/borrower.js'
export type { EventLine } from './share/event-line.js'
export { DeviceLease, LeaseHolder, type LeaseListeners, type LeaseUser } from './share/lease.js'
export type { DeviceShare, ShareBarOptions } from './share/owner.js'
export type { SharedBarToken, SharedEventToken, SharedMemoryToken, ShareToken } from './share/tokens.js'
export type { DeviceSource } from './source.js'
export { Spin, type SpinOptions } from './spin.js'
export type { DeviceTap } from './tap.js'
export * from './transport.js'
export { openUio, type UioOptions } from './uio/open.js'
export { openPlatform, type PlatformOptions } from './uio/platform.js'
export { listUioDevices, type UioDeviceInfo, type UioMap } from './uio/sysfs.js'
export type { VfioCalls } from './vfio/calls.js'
export type { FaultQueue, PageRequest } from './vfio/fault-queue.js'
export type { IommuHardwareInfo, VtdInfo } from './vfio/hardware-info.js'
export type { IommufdCapabilities, IommufdDevice } from './vfio/iommufd-device.js'
export type { AddressSpace, PageTable, PageTableOptions } from './vfio/iommufd-objects.js'
export { openVfio, type VfioOptions, vfioInterface } from './vfio/open.js'
export { vfioSource } from './vfio/source.js'
export type { VfioTransport } from './vfio/transport.js'
export { Completion, type PollOptions, poll, type WaitOptions } from './wait.js'
