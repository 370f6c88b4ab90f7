export { VirtioConfig } from './config.js'
export { type QueueRequest, VirtioDevice, type VirtioFeatures, type VirtioIrq } from './device.js'
export { FEATURE, featureSet, hasFeature } from './features.js'
export {
  type Notifier,
  type QueueMemory,
  type SplitLayout,
  SplitQueue,
  type SplitQueueOptions,
  splitLayout,
} from './split-queue.js'
export { findStructures, type Structure, type Structures } from './structures.js'
