// The page to copy: an encoder block of a transformer (Vaswani et al., "Attention Is All You Need", 3.1 to 3.5) in the operators of WebNN.
import type { MLGraphBuilder, MLOperand } from '@uaccel/webnn'

/** Sizes of a block. */
export interface BlockSizes {
  readonly tokens: number
  /** Elements of the vector of a token; a multiple of `heads`. */
  readonly width: number
  readonly heads: number
  /** Elements between the two layers of the feed-forward network. */
  readonly hidden: number
  /** How many tokens there are. */
  readonly vocabulary: number
}

/** Weights by their names, such as `query.weight`. */
export type Weights = Readonly<
  Record<string, { readonly shape: readonly number[]; readonly data: Float32Array }>
>

/**
 * The block, applied to the numbers of tokens: int32 [tokens]. Answers what it computes on the way, each of which may be an output of a graph; the last is
 * the result, float32 [tokens, width].
 */
export function encoderBlock(
  b: MLGraphBuilder,
  ids: MLOperand,
  weights: Weights,
  { tokens, width, heads }: BlockSizes,
) {
  const weight = (name: string) => {
    const { shape, data } = weights[name]!
    return b.constant({ dataType: 'float32', shape: [...shape] }, data)
  }
  const dense = (x: MLOperand, name: string) =>
    b.add(b.matmul(x, weight(`${name}.weight`)), weight(`${name}.bias`))
  const normalise = (x: MLOperand, name: string) =>
    b.layerNormalization(x, {
      axes: [1],
      scale: weight(`${name}.scale`),
      bias: weight(`${name}.bias`),
      epsilon: 1e-5,
    })
  /** A vector of each token as one of each head: [heads, tokens, width / heads]. */
  const toHeads = (x: MLOperand) =>
    b.transpose(b.reshape(x, [tokens, heads, width / heads]), { permutation: [1, 0, 2] })
  const fromHeads = (x: MLOperand) => b.reshape(b.transpose(x, { permutation: [1, 0, 2] }), [tokens, width])

  // What each token means, and where it stands.
  const embedded = b.add(b.gather(weight('token'), ids), weight('position'))

  // How much each token looks at each other one, and what it sees there.
  const query = toHeads(dense(embedded, 'query'))
  const key = toHeads(dense(embedded, 'key'))
  const value = toHeads(dense(embedded, 'value'))
  const scores = b.linear(b.matmul(query, b.transpose(key, { permutation: [0, 2, 1] })), {
    alpha: 1 / Math.sqrt(width / heads),
  })
  const attention = b.softmax(scores, 2)
  const seen = dense(fromHeads(b.matmul(attention, value)), 'out')
  const attended = normalise(b.add(embedded, seen), 'afterAttention')

  // Each token on its own.
  const hidden = b.gelu(dense(attended, 'expand'))
  const output = normalise(b.add(attended, dense(hidden, 'contract')), 'afterFeedForward')

  return { embedded, query, key, value, scores, attention, attended, hidden, output }
}
