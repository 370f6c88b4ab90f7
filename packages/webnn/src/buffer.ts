import { types } from 'node:util'
import { arrayOf, byteLength, type MLOperandDescriptor } from './data-type.js'

export type BufferSource = ArrayBuffer | SharedArrayBuffer | ArrayBufferView

/** Its bytes, where they are. */
export const bytesOf = (source: BufferSource): Uint8Array =>
  ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source)

/** The name of a typed array's type, whatever it says itself; `undefined` of a DataView. */
const viewNameOf = (view: ArrayBufferView): string | undefined => viewName.call(view) as string | undefined
const viewName = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)!.get!

/** "Validate buffer with descriptor", whichever realm the buffer is of: says what is wrong, or nothing. */
export function mismatch(source: BufferSource, descriptor: MLOperandDescriptor): string | undefined {
  const wanted = byteLength(descriptor)
  if (source.byteLength !== wanted) return `${wanted} bytes are wanted, found ${source.byteLength}`
  if (!ArrayBuffer.isView(source) || types.isUint8Array(source)) return undefined
  const found = viewNameOf(source)
  const view = arrayOf[descriptor.dataType].name
  // Halves are in a Float16Array where there is one; their bits may be given as words anywhere.
  if (found === view || (descriptor.dataType === 'float16' && found === 'Float16Array')) return undefined
  return `a ${view} is wanted, found another view`
}
