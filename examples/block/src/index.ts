// What tests take of the example.
export { type DeviceOptions, type NvmeDevice, openNvme } from './device.js'
export { Ext4 } from './ext4.js'
export { makeImage } from './image.js'
export { type ByteSource, NamespaceReader } from './namespace.js'
export { formatReport, summarise } from './report.js'
export { type Verification, verify } from './verify.js'
