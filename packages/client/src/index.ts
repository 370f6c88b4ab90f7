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
export { type CallOptions, DeviceClient, type DispatchOptions, type Reply } from '@uaccel/uapi'
export { NodeClient } from './client.js'
export { nodeNames, type OpenOptions, openAccel } from './open.js'
