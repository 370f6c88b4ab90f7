export * as abi from './abi.js'
export { closeAll, duplicates } from './descriptors.js'
export { EventFd } from './eventfd.js'
export { type FfiProvider, type ProviderName, requirePlatform } from './ffi.js'
export {
  MAX_MAPPING_BYTES,
  type MapOptions,
  Mapping,
  mappingFromAddress,
  type SharedRange,
  Window,
} from './mapping.js'
export type { NodeMessage } from './message-input.js'
export { type MessageHandlers, MessageSocket, type MessageSocketOptions } from './message-socket.js'
export type { RawCalls } from './raw-calls.js'
export { createSealedMemory, getSealsOrNone, requireSealed } from './sealed.js'
export {
  type NetlinkMessage,
  type PollRequest,
  type ReceivedMessage,
  type ResourceLimit,
  SystemCalls,
  sys,
  systemCalls,
} from './system-calls.js'
export { systemError } from './system-error.js'
export { type EngineName, type Watch, type WatchHelper, type WatchOptions, watch } from './watch.js'
