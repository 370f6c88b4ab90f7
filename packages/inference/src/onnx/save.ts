import { create, toBinary } from '@bufbuild/protobuf'
import type { AttributeValue, Graph, GraphValue } from './graph.js'
import { onnxAttributes, onnxTypes } from './load.js'
import {
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from './onnx_pb.js'
import type { Tensor } from './tensor.js'

/** IR version that is written: that of ONNX 1.10, which everything of the last years reads. */
const irVersion = 8n

/** Attributes of ONNX's operators that are FLOAT or FLOATS also where their value is an integer. */
const fractions = new Set(
  (
    'alpha,beta,epsilon,gamma,bias,lambd,extrapolation_value,cubic_coeff_a,clip,value_float,value_floats,' +
    'activation_alpha,activation_beta,scale,softcap'
  ).split(','),
)

function attributeProto(name: string, value: AttributeValue) {
  if (typeof value === 'string') {
    return create(AttributeProtoSchema, {
      name,
      type: onnxAttributes.STRING,
      s: new TextEncoder().encode(value),
    })
  }
  if (typeof value === 'number') {
    return Number.isInteger(value) && !fractions.has(name)
      ? create(AttributeProtoSchema, { name, type: onnxAttributes.INT, i: BigInt(value) })
      : create(AttributeProtoSchema, { name, type: onnxAttributes.FLOAT, f: value })
  }
  if ('dtype' in value) {
    return create(AttributeProtoSchema, { name, type: onnxAttributes.TENSOR, t: tensorProto('', value) })
  }
  if (fractions.has(name) || value.some((each) => typeof each === 'number' && !Number.isInteger(each))) {
    return create(AttributeProtoSchema, { name, type: onnxAttributes.FLOATS, floats: value.map(Number) })
  }
  if (typeof value[0] === 'string') {
    const strings = value.map((each) => new TextEncoder().encode(String(each)))
    return create(AttributeProtoSchema, { name, type: onnxAttributes.STRINGS, strings })
  }
  return create(AttributeProtoSchema, { name, type: onnxAttributes.INTS, ints: value.map(BigInt) })
}

function tensorProto(name: string, { dtype, shape, data }: Tensor) {
  return create(TensorProtoSchema, {
    name,
    dataType: onnxTypes[dtype],
    dims: shape.map(BigInt),
    rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice(),
  })
}

function valueProto({ name, dtype, shape }: GraphValue) {
  const dim = shape?.map((dimension) =>
    create(TensorShapeProto_DimensionSchema, {
      value:
        typeof dimension === 'number'
          ? { case: 'dimValue', value: BigInt(dimension) }
          : { case: 'dimParam', value: dimension },
    }),
  )
  const tensorType = create(TypeProto_TensorSchema, {
    elemType: onnxTypes[dtype],
    ...(dim && { shape: create(TensorShapeProtoSchema, { dim }) }),
  })
  return create(ValueInfoProtoSchema, { name, type: create(TypeProtoSchema, { tensorType }) })
}

/** The bytes of an ONNX file with this graph. What `loadOnnx` answers, with the same attributes. */
export function saveOnnx(graph: Graph, producer: { name: string; version: string }): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion,
    producerName: producer.name,
    producerVersion: producer.version,
    opsetImport: [...graph.opsets].map(([domain, version]) =>
      create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) }),
    ),
    metadataProps: [...(graph.metadata ?? [])].map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    ),
    graph: create(GraphProtoSchema, {
      name: graph.name,
      input: graph.inputs.map(valueProto),
      output: graph.outputs.map(valueProto),
      initializer: [...graph.constants].map(([name, constant]) => tensorProto(name, constant)),
      node: graph.nodes.map((node) =>
        create(NodeProtoSchema, {
          name: node.name,
          opType: node.op,
          domain: node.domain,
          input: [...node.inputs],
          output: [...node.outputs],
          attribute: [...node.attributes].map(([name, value]) => attributeProto(name, value)),
        }),
      ),
    }),
  })
  return toBinary(ModelProtoSchema, model)
}
