import { arrayOf, elementCount, type MLOperandDescriptor } from '../data-type.js'
import { elementwise } from './elementwise.js'
import { gathers } from './gather.js'
import type { Kernel, Operand } from './kernel.js'
import { layout } from './layout.js'
import { matrix } from './matrix.js'
import { quantized } from './quantized.js'
import { recurrent } from './recurrent.js'
import { reductions } from './reduction.js'
import { spatial } from './spatial.js'

/** What computes each operator, by its name. */
export const kernels: Readonly<Record<string, Kernel>> = {
  ...elementwise,
  ...layout,
  ...gathers,
  ...reductions,
  ...spatial,
  ...matrix,
  ...recurrent,
  ...quantized,
}

/** An operand over memory that begins at a multiple of its element's size. */
export const operandOver = ({ dataType, shape }: MLOperandDescriptor, bytes: Uint8Array): Operand => {
  const View = arrayOf[dataType] as unknown as new (
    buffer: ArrayBufferLike,
    offset: number,
    length: number,
  ) => Operand['data']
  return { dataType, shape, data: new View(bytes.buffer, bytes.byteOffset, elementCount(shape)) }
}
