export { Completion, poll } from '@uaccel/core'
export {
  ClientBuffer,
  ClientBuffers,
  type ClientJob,
  type ClientPoint,
  ClientQueue,
  type ClientRange,
  type CommonCaller,
  deadlineIn,
  openBuffers,
  openQueue,
  type QueueOptions,
  type QueueRange,
} from '@uaccel/memory'
export {
  Attribute,
  type AttributeContext,
  type AttributeDefinition,
  type AttributeDefinitions,
  type AttributeValue,
  attribute,
} from './attributes.js'
export { AccelClient } from './client.js'
export { AccelDevice } from './device.js'
export { type DiscoverOptions, Discovery, type DiscoveryEvents, type Skipped } from './discovery.js'
export {
  type DmaFault,
  type DmaReport,
  type DmaTester,
  type DmaTestOptions,
  type DmaWidth,
  testDma,
} from './dma-test.js'
export {
  type AccelDriver,
  type AnyDriver,
  accelDriver,
  type CommandContext,
  type CommandHandlers,
  type DriverDefinition,
  type OpenContext,
  type PeerCredentials,
  type Probed,
} from './driver.js'
export type { DeviceEvent } from './events.js'
export { type FirmwareOptions, firmwarePath, loadFirmware } from './firmware.js'
export type { NodeLimits, NodeResetOptions } from './host.js'
export { type DeviceId, describeId, matchDriver } from './ids.js'
export type { Job, JobRange } from './job.js'
export { within } from './limit.js'
export type { AccelNode, NodeDispatchOptions, NodeStatus } from './node.js'
export type { Open, OpenOptions, OpenRights } from './open.js'
export { DEFAULT_QUOTAS, type Quotas } from './quota.js'
export {
  Accel,
  type AccelEvents,
  type AccelOptions,
  type AddOptions,
  accel,
  DEFAULT_LIMITS,
  openAccel,
} from './subsystem.js'
export type {
  ClientUsage,
  Clock,
  DeviceTime,
  Engine,
  Limit,
  MemoryRegion,
  MemoryUsage,
  Power,
  Quantity,
  Sensor,
  Telemetry,
} from './telemetry.js'
export type { FilePart, QueueRequest, UserQueue, UserQueues } from './user-queue.js'
