// What tests take of the example.
export { type CbcOptions, DeviceCipher } from './cbc.js'
export { compare, type Side } from './compare.js'
export { type CryptoDevice, type DeviceOptions, openCrypto } from './device.js'
export { randomMessage } from './files.js'
export { formatReport, summarise } from './report.js'
