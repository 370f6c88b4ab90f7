export {
  accelerator,
  type NpuAcceleratorOptions,
  type NpuNodeOptions,
  npuAccelerator,
  openNpuAccelerator,
} from './accelerator.js'
export type { Command } from './draft.js'
export { follows, operators } from './operators.js'
