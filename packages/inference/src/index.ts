export { type CompileOptions, compile } from './graph/compile.js'
export type { AttributeValue, Graph, GraphNode, GraphValue } from './graph/graph.js'
export type * from './graph/operations.js'
export { type Batch, type Capabilities, makePlan, type Plan, type Step } from './graph/plan.js'
export {
  allocate,
  type DataType,
  describe,
  elementBytes,
  elementCount,
  type QuantisedType,
  sizeBytes,
  type Tensor,
  type TensorData,
  type TensorType,
  tensor,
} from './graph/tensor.js'
export { npuAccelerator } from './npu.js'
export { type NpuJobCapabilities, npuJobAccelerator } from './npu-jobs.js'
export { loadOnnx } from './onnx/load.js'
export { saveOnnx } from './onnx/save.js'
export { Reference, type Tensors } from './reference/reference.js'
export type { Accelerator, LoadedPlan, RunMemory } from './runtime/accelerator.js'
export { Session, type SessionOptions } from './runtime/session.js'
