export { type CallOptions, DeviceClient, type DispatchOptions, type Reply } from '@uaccel/uapi'
export { NodeClient } from './client.js'
export { type OpenOptions, openAccel } from './open.js'
