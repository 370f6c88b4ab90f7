import type { BlockSizes, Weights } from './block.js'
import { normal } from './random.js'

/** Weights of a seed, of the magnitudes that training begins with. */
export function seededWeights({ tokens, width, hidden, vocabulary }: BlockSizes, seed: number): Weights {
  const random = normal(seed)
  const made = (shape: readonly number[], element: () => number) => ({
    shape,
    data: Float32Array.from({ length: shape.reduce((all, size) => all * size, 1) }, element),
  })
  const dense = (name: string, from: number, to: number) => ({
    [`${name}.weight`]: made([from, to], () => random() / Math.sqrt(from)),
    [`${name}.bias`]: made([to], () => random() * 0.1),
  })
  const norm = (name: string) => ({
    [`${name}.scale`]: made([width], () => 1 + random() * 0.1),
    [`${name}.bias`]: made([width], () => random() * 0.1),
  })
  return {
    token: made([vocabulary, width], random),
    position: made([tokens, width], () => random() * 0.1),
    ...dense('query', width, width),
    ...dense('key', width, width),
    ...dense('value', width, width),
    ...dense('out', width, width),
    ...norm('afterAttention'),
    ...dense('expand', width, hidden),
    ...dense('contract', hidden, width),
    ...norm('afterFeedForward'),
  }
}
