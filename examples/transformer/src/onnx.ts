import { type AttributeValue, type GraphNode, saveOnnx, type Tensor, tensor } from '@uaccel/inference'
import type { BlockSizes, Weights } from './block.js'

/** The same block as the bytes of an ONNX file, for onnxruntime, with outputs of these names. Operator set 20, which has Gelu. */
export function blockAsOnnx(
  weights: Weights,
  { tokens, width, heads }: BlockSizes,
  outputs: readonly string[],
): Uint8Array {
  const nodes: GraphNode[] = []
  const constants = new Map<string, Tensor>()
  for (const [name, { shape, data }] of Object.entries(weights))
    constants.set(name, tensor('float32', shape, data))
  constants.set(
    'heads.shape',
    tensor('int64', [3], BigInt64Array.of(-1n, BigInt(heads), BigInt(width / heads))),
  )
  constants.set('tokens.shape', tensor('int64', [2], BigInt64Array.of(BigInt(tokens), BigInt(width))))
  constants.set('scale', tensor('float32', [], Float32Array.of(1 / Math.sqrt(width / heads))))

  /** Adds a node, which computes the tensor of that name. */
  const node = (
    name: string,
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
  ): string => {
    nodes.push({
      ...{ name, op, domain: '', inputs, outputs: [name] },
      attributes: new Map(Object.entries(attributes)),
    })
    return name
  }
  const dense = (name: string, x: string) =>
    node(`${name}.sum`, 'Add', [node(`${name}.product`, 'MatMul', [x, `${name}.weight`]), `${name}.bias`])
  const normalise = (name: string, x: string, as: string) =>
    node(as, 'LayerNormalization', [x, `${name}.scale`, `${name}.bias`], { axis: -1, epsilon: 1e-5 })
  const toHeads = (name: string, x: string) =>
    node(name, 'Transpose', [node(`${name}.heads`, 'Reshape', [x, 'heads.shape'])], { perm: [1, 0, 2] })

  node('embedded', 'Add', [node('gathered', 'Gather', ['token', 'ids']), 'position'])
  for (const name of ['query', 'key', 'value']) toHeads(name, dense(name, 'embedded'))
  node('key.transposed', 'Transpose', ['key'], { perm: [0, 2, 1] })
  node('scores', 'Mul', [node('products', 'MatMul', ['query', 'key.transposed']), 'scale'])
  node('attention', 'Softmax', ['scores'], { axis: 2 })
  node('weighed', 'Transpose', [node('weighed.heads', 'MatMul', ['attention', 'value'])], { perm: [1, 0, 2] })
  node('joined', 'Reshape', ['weighed', 'tokens.shape'])
  normalise('afterAttention', node('attention.skip', 'Add', ['embedded', dense('out', 'joined')]), 'attended')
  node('hidden', 'Gelu', [dense('expand', 'attended')])
  normalise(
    'afterFeedForward',
    node('feedForward.skip', 'Add', ['attended', dense('contract', 'hidden')]),
    'output',
  )

  return saveOnnx(
    {
      name: 'encoder block',
      opsets: new Map([['', 20]]),
      inputs: [{ name: 'ids', dtype: 'int32', shape: [tokens] }],
      outputs: outputs.map((name) => ({ name, dtype: 'float32', shape: undefined })),
      constants,
      nodes,
    },
    { name: 'uaccel', version: '0.1.0' },
  )
}
