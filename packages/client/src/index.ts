export type { CallOptions, DeviceClient, DispatchOptions, Reply } from '@uaccel/uapi'
export { NodeClient } from './client.js'
export { type OpenOptions, openAccel } from './open.js'
