import { isBig, type Kernel, offsetsOf, stridesOf } from './kernel.js'

/** Copies whole elements, whatever their type. */
const pick =
  (from: ArrayLike<number>, to: Float32Array, offsets: Int32Array): (() => void) =>
  () => {
    for (let i = 0; i < to.length; i++) to[i] = from[offsets[i]]
  }

/** A kernel whose every output element is the input's at a place that is known beforehand. */
const moving =
  (offsets: (node: Parameters<Kernel>[0]) => Int32Array): Kernel =>
  (node) =>
    pick(node.inputs.input.data as Float32Array, node.outputs[0].data as Float32Array, offsets(node))

/** The elements between start and end of an axis, as a block: `outer` of them, `inner` elements each. */
function around(shape: readonly number[], axis: number): { readonly outer: number; readonly inner: number } {
  const product = (sizes: readonly number[]) => sizes.reduce((all, size) => all * size, 1)
  return { outer: product(shape.slice(0, axis)), inner: product(shape.slice(axis + 1)) }
}

const concat: Kernel = ({ inputs, attributes, outputs: [output] }) => {
  const { outer, inner } = around(output.shape, attributes.axis as number)
  const to = output.data as Float32Array
  const parts = Object.values(inputs).map(({ data, shape }) => ({
    from: data as Float32Array,
    run: shape[attributes.axis as number] * inner,
  }))
  return () => {
    let at = 0
    for (let block = 0; block < outer; block++) {
      for (const { from, run } of parts) {
        for (let i = 0; i < run; i++) to[at++] = from[block * run + i]
      }
    }
  }
}

const split: Kernel = ({ inputs: { input }, attributes, outputs }) => {
  const { outer, inner } = around(input.shape, attributes.axis as number)
  const from = input.data as Float32Array
  const parts = outputs.map(({ data, shape }) => ({
    to: data as Float32Array,
    run: shape[attributes.axis as number] * inner,
  }))
  return () => {
    let at = 0
    for (let block = 0; block < outer; block++) {
      for (const { to, run } of parts) {
        for (let i = 0; i < run; i++) to[block * run + i] = from[at++]
      }
    }
  }
}

const copy: Kernel = ({ inputs: { input }, outputs: [output] }) => {
  const [from, to] = [input.data as Float32Array, output.data as Float32Array]
  return () => to.set(from)
}

/** The coordinate that a padded one reads: -1 for the value of the padding. */
function paddedFrom(coordinate: number, size: number, mode: string): number {
  if (coordinate >= 0 && coordinate < size) return coordinate
  if (mode === 'edge') return coordinate < 0 ? 0 : size - 1
  if (mode === 'reflection') return coordinate < 0 ? -coordinate : 2 * (size - 1) - coordinate
  return -1
}

const pad: Kernel = ({ inputs: { input }, attributes, outputs: [output] }) => {
  const before = attributes.beginningPadding as number[]
  const strides = stridesOf(input.shape)
  const outputStrides = stridesOf(output.shape)
  const offsets = new Int32Array(output.data.length)
  for (let i = 0; i < offsets.length; i++) {
    let offset = 0
    for (let at = 0; at < before.length && offset >= 0; at++) {
      const coordinate = (Math.floor(i / outputStrides[at]) % output.shape[at]) - before[at]
      const found = paddedFrom(coordinate, input.shape[at], attributes.mode as string)
      offset = found < 0 ? -1 : offset + found * strides[at]
    }
    offsets[i] = offset
  }
  const [from, to, value] = [
    input.data as Float32Array,
    output.data as Float32Array,
    attributes.value as number,
  ]
  return () => {
    for (let i = 0; i < to.length; i++) to[i] = offsets[i] < 0 ? value : from[offsets[i]]
  }
}

const triangular: Kernel = ({ inputs: { input }, attributes, outputs: [output] }) => {
  const [rows, columns] = input.shape.slice(-2)
  const [from, to] = [input.data as Float32Array, output.data as Float32Array]
  const diagonal = attributes.diagonal as number
  const zero = (isBig(input.dataType) ? 0n : 0) as number
  return () => {
    for (let i = 0; i < to.length; i++) {
      const above = (i % columns) - (Math.floor(i / columns) % rows) - diagonal
      const kept = attributes.upper ? above >= 0 : above <= 0
      to[i] = kept ? from[i] : zero
    }
  }
}

export const layout: Readonly<Record<string, Kernel>> = {
  concat,
  split,
  reshape: copy,
  pad,
  triangular,
  transpose: moving(({ inputs: { input }, attributes, outputs: [output] }) => {
    const strides = stridesOf(input.shape)
    return offsetsOf(
      output.shape,
      (attributes.permutation as number[]).map((at) => strides[at]),
    )
  }),
  slice: moving(({ inputs: { input }, attributes, outputs: [output] }) => {
    const strides = stridesOf(input.shape)
    const steps = attributes.strides as number[]
    const base = (attributes.starts as number[]).reduce((sum, start, at) => sum + start * strides[at], 0)
    return offsetsOf(
      output.shape,
      strides.map((stride, at) => stride * steps[at]),
      base,
    )
  }),
  reverse: moving(({ inputs: { input }, attributes, outputs: [output] }) => {
    const axes = attributes.axes as number[]
    const strides = stridesOf(input.shape)
    const base = axes.reduce((sum, axis) => sum + (input.shape[axis] - 1) * strides[axis], 0)
    return offsetsOf(
      output.shape,
      strides.map((stride, at) => (axes.includes(at) ? -stride : stride)),
      base,
    )
  }),
  expand: moving(({ inputs: { input }, outputs: [output] }) => {
    const strides = stridesOf(input.shape)
    const missing = output.shape.length - input.shape.length
    return offsetsOf(
      output.shape,
      output.shape.map((_, at) =>
        at < missing || input.shape[at - missing] === 1 ? 0 : strides[at - missing],
      ),
    )
  }),
  tile: moving(({ inputs: { input }, attributes, outputs: [output] }) => {
    // Each dimension twice: the repetitions, which stay where they are, and the elements.
    const strides = stridesOf(input.shape)
    const repetitions = attributes.repetitions as number[]
    return offsetsOf(
      output.shape.flatMap((_, at) => [repetitions[at], input.shape[at]]),
      strides.flatMap((stride) => [0, stride]),
    )
  }),
}
