import { float } from './float.js'
import { type Kernel, Stage } from './functions.js'
import { integer } from './integer.js'
import type { Chunk } from './numbers.js'
import { Type } from './params.js'

/** The functions of stages in a type, by code: those that are not there do not exist in it (7.6). */
export function kernels(compute: number): Readonly<Record<number, Kernel<Chunk>>> {
  return (compute === Type.float32 ? float : integer) as Readonly<Record<number, Kernel<Chunk>>>
}

/** Whether a function exists where a stage computes in a type. `PRELU` has no `uint32` (7.6). */
export function existsIn(compute: number, fn: number): boolean {
  return fn in kernels(compute) && !(fn === Stage.PRELU && compute === Type.uint32)
}
