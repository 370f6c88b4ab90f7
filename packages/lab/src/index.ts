export { buildKernel, type KernelBuild } from './build-kernel.js'
export { cacheFolder } from './cache.js'
export { devicePresets, formatDevices, type PlacedDevice, parseDevices, placeDevices } from './devices.js'
export type { MachineOptions } from './machine.js'
export type { Monitor } from './monitor.js'
export type { LabProgress, OnProgress } from './progress.js'
export { type FetchOptions, fetchQemu, type LabQemu } from './qemu.js'
export { type LabOptions, type LabResult, runInLab } from './run.js'
export {
  describeLab,
  findLab,
  type LabFindings,
  type LabKernel,
  type LabTools,
  type PrepareOptions,
  prepareLab,
} from './tools.js'
export { type MemoryAccess, memoryAccesses, memoryTrace } from './trace.js'
