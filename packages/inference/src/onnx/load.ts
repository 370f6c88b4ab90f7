import { fromBinary } from '@bufbuild/protobuf'
import { type AccelError, accelError } from '@uaccel/uapi'
import {
  type AttributeValue,
  type Graph,
  type GraphNode,
  type GraphValue,
  topologicalOrder,
} from '../graph/graph.js'
import { allocate, type DataType, elementBytes, elementCount, type Tensor, tensor } from '../graph/tensor.js'
import type { AttributeProto, NodeProto, TensorProto, ValueInfoProto } from './onnx_pb.js'
import { ModelProtoSchema } from './onnx_pb.js'
import { checkWire } from './wire.js'

/** TensorProto.DataType of onnx.proto, as far as it is supported. */
export const onnxTypes: Readonly<Record<DataType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
}

/** AttributeProto.AttributeType of onnx.proto. */
export const onnxAttributes = { FLOAT: 1, INT: 2, STRING: 3, FLOATS: 6, INTS: 7 } as const

/** IR versions whose files have the layout that is read here: 3 brought initialisers with names, 13 is of 2025. */
const irVersions = { min: 3, max: 13 } as const

/** TensorProto.DataLocation: the elements are in another file. */
const external = 1

/** More dimensions than any operator here takes: a longer list is not a shape. */
const maxRank = 16

function corrupt(message: string, cause?: unknown): AccelError {
  return accelError('ERR_ACCEL_CORRUPT_MODEL', message, { cause })
}

function dataType(code: number, where: string): DataType {
  const found = Object.entries(onnxTypes).find(([, number]) => number === code)
  if (!found) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${where} has ONNX data type ${code}; supported are ${Object.keys(onnxTypes).join(', ')}`,
    )
  }
  return found[0] as DataType
}

function dimension(value: bigint, where: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw corrupt(`${where} has a dimension of ${value}`)
  }
  return Number(value)
}

function readTensor(proto: TensorProto): Tensor {
  const where = `initialiser "${proto.name}"`
  if (proto.dataLocation === external) {
    throw accelError('ERR_ACCEL_UNSUPPORTED', `${where} is stored outside the file; export it into the file`)
  }
  const dtype = dataType(proto.dataType, where)
  if (proto.dims.length > maxRank) throw corrupt(`${where} has ${proto.dims.length} dimensions`)
  const shape = proto.dims.map((value) => dimension(value, where))
  const count = elementCount(shape)
  const typed = { float32: proto.floatData, int64: proto.int64Data }[dtype as string] ?? proto.int32Data
  const raw = proto.rawData.length > 0 || typed.length === 0
  const found = raw ? proto.rawData.length : typed.length
  const wanted = raw ? count * elementBytes(dtype) : count
  if (found !== wanted) {
    throw corrupt(
      `${where} of shape [${shape.join(',')}] wants ${wanted} ${raw ? 'bytes' : 'elements'}, found ${found}`,
    )
  }
  const data = allocate({ dtype, shape })
  // Raw data is little endian (TensorProto.raw_data), as is every machine that this library runs on.
  if (raw) new Uint8Array(data.buffer).set(proto.rawData)
  else {
    for (let i = 0; i < count; i++) data[i] = typed[i]
    if (dtype === 'uint8' || dtype === 'int8') {
      const wrong = proto.int32Data.find((value, i) => data[i] !== value)
      if (wrong !== undefined) throw corrupt(`${where} has an element ${wrong}, which is no ${dtype}`)
    }
  }
  return tensor(dtype, shape, data)
}

function readValue(proto: ValueInfoProto, kind: string): GraphValue {
  const where = `${kind} "${proto.name}"`
  const type = proto.type?.tensorType
  if (proto.name === '') throw corrupt(`an ${kind} of the graph has no name`)
  if (!type) throw corrupt(`${where} of the graph is no tensor`)
  if (type.shape && type.shape.dim.length > maxRank) {
    throw corrupt(`${where} has ${type.shape.dim.length} dimensions`)
  }
  return {
    name: proto.name,
    dtype: dataType(type.elemType, where),
    shape: type.shape?.dim.map(({ value }, i) =>
      value.case === 'dimValue' ? dimension(value.value, where) : value.value || `${proto.name}.${i}`,
    ),
  }
}

function readAttribute(proto: AttributeProto, where: string): AttributeValue {
  const integer = (value: bigint) => {
    const number = Number(value)
    if (!Number.isSafeInteger(number))
      throw corrupt(`${where}: attribute "${proto.name}" has the value ${value}`)
    return number
  }
  switch (proto.type) {
    case onnxAttributes.FLOAT:
      return proto.f
    case onnxAttributes.INT:
      return integer(proto.i)
    case onnxAttributes.STRING:
      return new TextDecoder().decode(proto.s)
    case onnxAttributes.FLOATS:
      return proto.floats
    case onnxAttributes.INTS:
      return proto.ints.map(integer)
    default:
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED_OPERATOR',
        `${where} has an attribute "${proto.name}" of type ${proto.type}; only numbers and strings are supported`,
      )
  }
}

function readNode(proto: NodeProto, index: number): GraphNode {
  const name = proto.name || `${proto.opType}#${index}`
  if (proto.opType === '') throw corrupt(`node ${index} ("${proto.name}") names no operator`)
  const where = `node "${name}" (${proto.opType})`
  const attributes = new Map(
    proto.attribute.map((attribute) => [attribute.name, readAttribute(attribute, where)] as const),
  )
  const domain = proto.domain === 'ai.onnx' ? '' : proto.domain
  return { name, op: proto.opType, domain, inputs: proto.input, outputs: proto.output, attributes }
}

/**
 * Reads an ONNX file and checks it: the protobuf wire format, sizes of initialisers, that every tensor is defined
 * once and computed before it is used. The nodes come in topological order.
 * ERR_ACCEL_CORRUPT_MODEL says what was found and where; ERR_ACCEL_UNSUPPORTED a data type or version that is not read.
 */
export function loadOnnx(bytes: Uint8Array): Graph {
  checkWire(ModelProtoSchema, bytes)
  const model = fromBinary(ModelProtoSchema, bytes, { readUnknownFields: false })
  if (!model.graph)
    throw corrupt(`the file (${bytes.length} bytes) has no graph: it is no ONNX model, or a part of one`)
  const ir = Number(model.irVersion)
  if (ir < irVersions.min || ir > irVersions.max) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the file has IR version ${ir}; versions ${irVersions.min} to ${irVersions.max} are read`,
    )
  }
  if (model.opsetImport.length === 0) throw corrupt('the file names no operator set: its end is missing')
  const opsets = new Map(
    model.opsetImport.map(({ domain, version }) => [domain === 'ai.onnx' ? '' : domain, Number(version)]),
  )
  const constants = new Map<string, Tensor>()
  for (const proto of model.graph.initializer) {
    if (constants.has(proto.name)) throw corrupt(`initialiser "${proto.name}" is there twice`)
    constants.set(proto.name, readTensor(proto))
  }
  const graph: Graph = {
    name: model.graph.name,
    opsets,
    inputs: model.graph.input
      .map((value) => readValue(value, 'input'))
      .filter(({ name }) => !constants.has(name)),
    outputs: model.graph.output.map((value) => readValue(value, 'output')),
    constants,
    nodes: model.graph.node.map(readNode),
  }
  if (graph.outputs.length === 0) throw corrupt('the graph has no output')
  return { ...graph, nodes: topologicalOrder(graph) }
}
