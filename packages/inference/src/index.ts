export { buildOnnx, inputShape, type OnnxGraph, type OnnxOptions, onnxOperators } from './model/build.js'
export type { AttributeValue, Graph, GraphNode, GraphValue } from './onnx/graph.js'
export { loadOnnx, readOnnx } from './onnx/load.js'
export { saveOnnx } from './onnx/save.js'
export {
  allocate,
  type DataType,
  describe,
  elementBytes,
  elementCount,
  sizeBytes,
  type Tensor,
  type TensorData,
  type TensorType,
  tensor,
  tensorOf,
} from './onnx/tensor.js'
