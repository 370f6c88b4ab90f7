/** Quantised patterns as operators of integers: what makes them, what they are, and what they compute, for those who do it on a device. */
export { quantized as kernels } from '../cpu/quantized.js'
export { fuse } from './fuse.js'
export type * from './operators.js'
