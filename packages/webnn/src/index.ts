export type * from './accelerator.js'
export type { Backend, Executable, Memories } from './backend.js'
export { MLGraphBuilder, type MLNamedOperands } from './builder.js'
export {
  explain,
  MLContext,
  type MLContextLostInfo,
  MLGraph,
  type MLNamedTensors,
  profile,
} from './context.js'
export type {
  MLOperandDataType,
  MLOperandDescriptor,
  MLTensorDescriptor,
} from './data-type.js'
export { type AcceleratorDriver, findAccelerator, openAccelerator, registerAccelerator } from './device.js'
export type { Graph, Operator, Source, Value } from './graph.js'
export { type ML, type MLContextOptions, type MLPowerPreference, ml } from './ml.js'
export { MLOperand } from './operand.js'
export type * from './operators/methods.js'
export type * from './plan/report.js'
export type * from './support-limits.js'
export { MLTensor } from './tensor.js'
