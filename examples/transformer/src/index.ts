// What examples/mobilenet and the tests take of this example.
export type { Summary } from './compare.js'
export { type Device, openDevice } from './device.js'
export { findOnnxRuntime, installOnnxRuntime, type OnnxRuntime } from './onnxruntime.js'
export { normal } from './random.js'
export { formatDifference, formatReport, notCompared, plainTable } from './report.js'
export { difference, type Elements, prepare, type Running } from './running.js'
