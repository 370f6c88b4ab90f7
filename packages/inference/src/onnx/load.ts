import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fromBinary } from '@bufbuild/protobuf'
import { type AccelError, accelError } from '@uaccel/uapi'
import { externalData, readExternal } from './external.js'
import {
  type AttributeValue,
  type Graph,
  type GraphNode,
  type GraphValue,
  topologicalOrder,
} from './graph.js'
import type { AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto } from './onnx_pb.js'
import { ModelProtoSchema } from './onnx_pb.js'
import { allocate, type DataType, elementBytes, elementCount, type Tensor, tensor } from './tensor.js'
import { checkWire } from './wire.js'

/** TensorProto.DataType of onnx.proto, as far as it is supported. BOOL and DOUBLE are read as well: as 0 or 1 of uint8, and as float32. */
export const onnxTypes: Readonly<Record<DataType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  uint32: 12,
  uint64: 13,
}

/** TensorProto.DataType: a byte that is 0 or 1. */
export const onnxBool = 9
/** TensorProto.DataType: float64. */
export const onnxDouble = 11

/** TensorProto.DataType of what no graph here computes with, so that messages can name it. */
const unsupportedTypes: Readonly<Record<number, string>> = {
  4: 'uint16',
  5: 'int16',
  8: 'string',
  10: 'float16',
  11: 'float64',
  14: 'complex64',
  15: 'complex128',
  16: 'bfloat16',
  17: 'float8e4m3fn',
  18: 'float8e4m3fnuz',
  19: 'float8e5m2',
  20: 'float8e5m2fnuz',
  21: 'uint4',
  22: 'int4',
  23: 'float4e2m1',
  24: 'float8e8m0',
  25: 'uint2',
  26: 'int2',
}

/** AttributeProto.AttributeType of onnx.proto. */
export const onnxAttributes = {
  FLOAT: 1,
  INT: 2,
  STRING: 3,
  TENSOR: 4,
  GRAPH: 5,
  FLOATS: 6,
  INTS: 7,
  STRINGS: 8,
  GRAPHS: 10,
} as const

/** IR versions whose files have the layout that is read here: 3 brought initialisers with names, 13 is of ONNX 1.20 to 1.22. */
const irVersions = { min: 3, max: 13 } as const

/** Version of ONNX's own operator set in ONNX 1.22, the last that is read (onnx/helper.py, VERSION_TABLE). */
const newestOpset = 27

/** TensorProto.DataLocation: the elements are in another file. */
const external = 1

/** More dimensions than any operator here takes: a longer list is not a shape. */
const maxRank = 16

function corrupt(message: string, cause?: unknown): AccelError {
  return accelError('ERR_ACCEL_CORRUPT_MODEL', message, { cause })
}

/** The type of an ONNX number; ERR_ACCEL_UNSUPPORTED names one that no graph here computes with. */
export function dataType(code: number, where: string): DataType {
  if (code === onnxBool) return 'uint8'
  const found = Object.entries(onnxTypes).find(([, number]) => number === code)
  if (!found) {
    const name = unsupportedTypes[code]
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${where} has ${name === undefined ? `ONNX data type ${code}` : `the data type ${name}`}; ` +
        `supported are ${Object.keys(onnxTypes).join(', ')} and bool`,
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

/** The size in bytes that the elements of a tensor have in a file; its shape is checked. */
function storedBytes(proto: TensorProto, where: string): number {
  if (proto.dims.length > maxRank) throw corrupt(`${where} has ${proto.dims.length} dimensions`)
  const shape = proto.dims.map((value) => dimension(value, where))
  const each = proto.dataType === onnxDouble ? 8 : elementBytes(dataType(proto.dataType, where))
  return elementCount(shape) * each
}

/** Elements of the field that holds a type where they are not raw (TensorProto of onnx.proto). */
function typedElements(proto: TensorProto, dtype: DataType): readonly (number | bigint)[] {
  if (proto.dataType === onnxDouble) return proto.doubleData
  if (dtype === 'float32') return proto.floatData
  if (dtype === 'int64') return proto.int64Data
  return dtype === 'uint64' || dtype === 'uint32' ? proto.uint64Data : proto.int32Data
}

function readTensor(proto: TensorProto, where: string): Tensor {
  if (proto.dataLocation === external) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `${where} is stored outside the file, which bytes alone do not tell the place of: read the model by readOnnx(path)`,
    )
  }
  const bytes = storedBytes(proto, where)
  const double = proto.dataType === onnxDouble
  const dtype = double ? 'float32' : dataType(proto.dataType, where)
  const shape = proto.dims.map(Number)
  const count = elementCount(shape)
  const typed = typedElements(proto, dtype)
  const raw = proto.rawData.length > 0 || typed.length === 0
  const found = raw ? proto.rawData.length : typed.length
  const wanted = raw ? bytes : count
  if (found !== wanted) {
    throw corrupt(
      `${where} of shape [${shape.join(',')}] wants ${wanted} ${raw ? 'bytes' : 'elements'}, found ${found}`,
    )
  }
  const data = allocate({ dtype, shape })
  // Raw data is little endian (TensorProto.raw_data), as is every machine that this library runs on.
  if (raw && !double) new Uint8Array(data.buffer).set(proto.rawData)
  else {
    const values = double && raw ? new Float64Array(proto.rawData.slice().buffer) : typed
    for (let i = 0; i < count; i++) {
      // uint32 stands in uint64_data.
      const value = dtype === 'uint32' ? Number(values[i]) : values[i]
      data[i] = value
      if (Object.is(data[i], value) || (dtype === 'float32' && !double)) continue
      if (!double) throw corrupt(`${where} has an element ${value}, which is no ${dtype}`)
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED',
        `${where} is of float64, and its element ${value} is no float32; export the model with float32`,
      )
    }
  }
  if (proto.dataType === onnxBool) {
    const wrong = (data as Uint8Array).find((value) => value > 1)
    if (wrong !== undefined) throw corrupt(`${where} has an element ${wrong}, which is no bool`)
  }
  return tensor(dtype, shape, data)
}

function readValue(proto: ValueInfoProto, kind: string): GraphValue {
  const where = `${kind} "${proto.name}"`
  if (proto.name === '') throw corrupt(`an ${kind} of the graph has no name`)
  if (!proto.type) throw corrupt(`${where} of the graph has no type`)
  const type = proto.type.tensorType
  if (!type) {
    throw accelError('ERR_ACCEL_UNSUPPORTED', `${where} of the graph is no tensor; nothing else is supported`)
  }
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
    // Exporters write the ends of the range of int64 for "without end".
    if (!Number.isSafeInteger(number) && value !== 2n ** 63n - 1n && value !== -(2n ** 63n))
      throw corrupt(`${where}: attribute "${proto.name}" has the value ${value}`)
    return number
  }
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
  switch (proto.type) {
    case onnxAttributes.FLOAT:
      return proto.f
    case onnxAttributes.INT:
      return integer(proto.i)
    case onnxAttributes.STRING:
      return text(proto.s)
    case onnxAttributes.TENSOR:
      if (!proto.t) throw corrupt(`${where}: attribute "${proto.name}" has no tensor`)
      return readTensor(proto.t, `${where}: attribute "${proto.name}"`)
    case onnxAttributes.FLOATS:
      return proto.floats
    case onnxAttributes.INTS:
      return proto.ints.map(integer)
    case onnxAttributes.STRINGS:
      return proto.strings.map(text)
    default: {
      const graph = proto.type === onnxAttributes.GRAPH || proto.type === onnxAttributes.GRAPHS
      throw accelError(
        'ERR_ACCEL_UNSUPPORTED_OPERATOR',
        `${where} has an attribute "${proto.name}" ${graph ? 'that is a graph' : `of type ${proto.type}`}; ` +
          'only numbers, strings and tensors are supported',
      )
    }
  }
}

function readNode(proto: NodeProto, index: number): GraphNode {
  const name = proto.name || `${proto.opType}#${index}`
  if (proto.opType === '') throw corrupt(`node ${index} ("${proto.name}") names no operator`)
  const where = `node "${name}" (${proto.opType})`
  const attributes = new Map<string, AttributeValue>()
  for (const attribute of proto.attribute) {
    if (attributes.has(attribute.name)) throw corrupt(`${where} has the attribute "${attribute.name}" twice`)
    attributes.set(attribute.name, readAttribute(attribute, where))
  }
  return {
    name,
    op: proto.opType,
    domain: domainOf(proto.domain),
    inputs: proto.input,
    outputs: proto.output,
    attributes,
  }
}

const domainOf = (domain: string): string => (domain === 'ai.onnx' ? '' : domain)

function readOpsets(model: ModelProto): Map<string, number> {
  if (model.opsetImport.length === 0) throw corrupt('the file names no operator set: its end is missing')
  const opsets = new Map<string, number>()
  for (const { domain, version } of model.opsetImport) {
    if (opsets.has(domainOf(domain))) throw corrupt(`the file names the operator set "${domain}" twice`)
    opsets.set(domainOf(domain), Number(version))
  }
  const version = opsets.get('') ?? 0
  if (version > newestOpset) {
    throw accelError(
      'ERR_ACCEL_UNSUPPORTED',
      `the file wants operator set ${version}; the newest that is known is ${newestOpset}: export it for that one`,
    )
  }
  return opsets
}

/** Checks the wire format and what is needed to read the rest. */
function decode(bytes: Uint8Array): ModelProto {
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
  return model
}

function toGraph(model: ModelProto): Graph {
  const opsets = readOpsets(model)
  const proto = model.graph!
  if (proto.sparseInitializer.length > 0) {
    throw accelError('ERR_ACCEL_UNSUPPORTED', 'the graph has sparse initialisers; export it with dense ones')
  }
  const constants = new Map<string, Tensor>()
  for (const initialiser of proto.initializer) {
    if (constants.has(initialiser.name)) throw corrupt(`initialiser "${initialiser.name}" is there twice`)
    constants.set(initialiser.name, readTensor(initialiser, `initialiser "${initialiser.name}"`))
  }
  const graph: Graph = {
    name: proto.name,
    opsets,
    ...(model.metadataProps.length > 0 && {
      metadata: new Map(model.metadataProps.map(({ key, value }) => [key, value])),
    }),
    // Before IR version 4 each initialiser is an input, too: what it holds is then its default, and stays.
    inputs: proto.input.filter(({ name }) => !constants.has(name)).map((value) => readValue(value, 'input')),
    outputs: proto.output.map((value) => readValue(value, 'output')),
    constants,
    nodes: proto.node.map(readNode),
  }
  if (graph.outputs.length === 0) throw corrupt('the graph has no output')
  return { ...graph, nodes: topologicalOrder(graph) }
}

/**
 * Reads an ONNX file and checks it: the protobuf wire format, sizes of initialisers, that every tensor is defined
 * once and computed before it is used. The nodes come in topological order.
 * ERR_ACCEL_CORRUPT_MODEL says what was found and where; ERR_ACCEL_UNSUPPORTED a data type or version that is not read.
 */
export function loadOnnx(bytes: Uint8Array): Graph {
  return toGraph(decode(bytes))
}

/**
 * The same of a file, with what it has outside of itself: elements of tensors in files of the same folder or below it
 * (ONNX, ExternalData). ERR_ACCEL_CORRUPT_MODEL for a place elsewhere or beyond the end of its file.
 */
export async function readOnnx(path: string): Promise<Graph> {
  const bytes = await readFile(path).catch((cause) => {
    const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    throw accelError(
      absent ? 'ERR_ACCEL_NOT_FOUND' : 'ERR_ACCEL_INVALID_ARGUMENT',
      absent ? `There is no file ${path}` : `The model ${path} cannot be read: ${(cause as Error).message}`,
      { cause },
    )
  })
  const model = decode(bytes)
  const graph = model.graph!
  const named: [string, TensorProto][] = graph.initializer.map((each) => [`initialiser "${each.name}"`, each])
  for (const { name, attribute } of graph.node) {
    for (const { name: key, t } of attribute) if (t) named.push([`node "${name}": attribute "${key}"`, t])
  }
  for (const [where, proto] of named) {
    if (proto.dataLocation !== external) continue
    const place = externalData(proto.externalData, storedBytes(proto, where), where)
    proto.rawData = await readExternal(dirname(path), place, where)
    proto.dataLocation = 0
  }
  return toGraph(model)
}
