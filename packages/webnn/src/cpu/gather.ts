import { type Kernel, type Operand, stridesOf } from './kernel.js'

/** An index, held to its dimension: the specification has it clamped, so that no index of a client reaches beyond a tensor. Negative ones count from the end. */
function clampIndex(index: number, size: number): number {
  const at = index < 0 ? index + size : index
  return at < 0 ? 0 : at >= size ? size - 1 : at
}

const product = (sizes: readonly number[]) => sizes.reduce((all, size) => all * size, 1)
const elements = ({ data }: Operand) => data as Float32Array

const gather: Kernel = ({ inputs: { input, indices }, attributes, outputs: [output] }) => {
  const axis = attributes.axis as number
  const size = input.shape[axis]
  const [outer, inner] = [product(input.shape.slice(0, axis)), product(input.shape.slice(axis + 1))]
  const [from, at, to] = [elements(input), elements(indices), elements(output)]
  return () => {
    let next = 0
    for (let block = 0; block < outer; block++) {
      for (let i = 0; i < at.length; i++) {
        const start = (block * size + clampIndex(Number(at[i]), size)) * inner
        for (let j = 0; j < inner; j++) to[next++] = from[start + j]
      }
    }
  }
}

/** For each element of indices, where it is in an operand of the input's shape, but for the axis: that is the index. */
function elementPlaces(
  input: Operand,
  indices: Operand,
  axis: number,
): { readonly base: Int32Array; readonly stride: number; readonly size: number } {
  const [strides, own] = [stridesOf(input.shape), stridesOf(indices.shape)]
  const base = new Int32Array(indices.data.length)
  for (let i = 0; i < base.length; i++) {
    let offset = 0
    for (let at = 0; at < own.length; at++)
      if (at !== axis) offset += strides[at] * (Math.floor(i / own[at]) % indices.shape[at])
    base[i] = offset
  }
  return { base, stride: strides[axis], size: input.shape[axis] }
}

const gatherElements: Kernel = ({ inputs: { input, indices }, attributes, outputs: [output] }) => {
  const { base, stride, size } = elementPlaces(input, indices, attributes.axis as number)
  const [from, at, to] = [elements(input), elements(indices), elements(output)]
  return () => {
    for (let i = 0; i < to.length; i++) to[i] = from[base[i] + stride * clampIndex(Number(at[i]), size)]
  }
}

const scatterElements: Kernel = ({ inputs: { input, indices, updates }, attributes, outputs: [output] }) => {
  const { base, stride, size } = elementPlaces(input, indices, attributes.axis as number)
  const [from, at, by, to] = [elements(input), elements(indices), elements(updates), elements(output)]
  return () => {
    to.set(from)
    for (let i = 0; i < by.length; i++) to[base[i] + stride * clampIndex(Number(at[i]), size)] = by[i]
  }
}

/** Where a list of coordinates begins, and how long what it names is. */
function coordinates(
  input: Operand,
  indices: Operand,
): { readonly lists: number; readonly run: number; start(list: number): number } {
  const count = indices.shape.at(-1)!
  const strides = stridesOf(input.shape)
  const at = elements(indices)
  return {
    lists: at.length / count,
    run: product(input.shape.slice(count)),
    start(list) {
      let offset = 0
      for (let i = 0; i < count; i++)
        offset += strides[i] * clampIndex(Number(at[list * count + i]), input.shape[i])
      return offset
    },
  }
}

const gatherND: Kernel = ({ inputs: { input, indices }, outputs: [output] }) => {
  const where = coordinates(input, indices)
  const [from, to] = [elements(input), elements(output)]
  return () => {
    for (let list = 0; list < where.lists; list++) {
      const start = where.start(list)
      for (let j = 0; j < where.run; j++) to[list * where.run + j] = from[start + j]
    }
  }
}

const scatterND: Kernel = ({ inputs: { input, indices, updates }, outputs: [output] }) => {
  const where = coordinates(input, indices)
  const [from, by, to] = [elements(input), elements(updates), elements(output)]
  return () => {
    to.set(from)
    for (let list = 0; list < where.lists; list++) {
      const start = where.start(list)
      for (let j = 0; j < where.run; j++) to[start + j] = by[list * where.run + j]
    }
  }
}

export const gathers: Readonly<Record<string, Kernel>> = {
  gather,
  gatherElements,
  gatherND,
  scatterElements,
  scatterND,
}
