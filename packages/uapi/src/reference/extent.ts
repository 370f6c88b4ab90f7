import type { FieldDescription, MemberDescription } from '../field.js'
import { alignUp, type StructLayout } from '../struct.js'

/** What a field takes: the same facts as `Field.sizeBytes` and `alignBytes`, for fields within others. */
export interface Extent {
  readonly sizeBytes: number
  readonly alignBytes: number
}

/** Bytes of the u32 that stands before bytes, strings and arrays. */
export const LENGTH_SIZE_BYTES = 4

const widths = {
  u8: 1,
  i8: 1,
  bool: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  flags: 4,
  enumeration: 4,
  handle: 4,
  fd: 4,
  u64: 8,
  i64: 8,
} as const

/** Size and natural alignment of a field, from its description alone. */
export function extentOf(description: FieldDescription): Extent {
  switch (description.type) {
    case 'bytes':
    case 'string':
      return { sizeBytes: LENGTH_SIZE_BYTES + description.max, alignBytes: LENGTH_SIZE_BYTES }
    case 'array': {
      const { startBytes, strideBytes } = elementsOf(description.element)
      return { sizeBytes: startBytes + description.max * strideBytes, alignBytes: startBytes }
    }
    case 'struct': {
      const alignBytes = Math.max(...description.fields.map((field) => extentOf(field).alignBytes))
      const last = description.fields[description.fields.length - 1]
      return { sizeBytes: alignUp(endOf(last), alignBytes), alignBytes }
    }
    default: {
      const sizeBytes = widths[description.type]
      return { sizeBytes, alignBytes: sizeBytes }
    }
  }
}

/** Where the elements of an array begin, counted from the array, and how far apart they are. */
export function elementsOf(element: FieldDescription): {
  readonly startBytes: number
  readonly strideBytes: number
} {
  const { sizeBytes, alignBytes } = extentOf(element)
  return {
    startBytes: Math.max(LENGTH_SIZE_BYTES, alignBytes),
    strideBytes: alignUp(sizeBytes, alignBytes),
  }
}

const endOf = (field: MemberDescription) => field.offset + extentOf(field).sizeBytes

/** Ranges of a structure that no field covers, as [from, to). */
export function gaps(
  fields: readonly MemberDescription[],
  sizeBytes: number,
): readonly (readonly [from: number, to: number])[] {
  const found: [number, number][] = []
  let end = 0
  for (const field of fields) {
    if (field.offset > end) found.push([end, field.offset])
    end = endOf(field)
  }
  if (sizeBytes > end) found.push([end, sizeBytes])
  return found
}

/** What a structure had in each version that changed it, oldest first. One entry where it never grew. */
export function sizeByVersion(
  layout: StructLayout,
): readonly { readonly version: number; readonly sizeBytes: number }[] {
  const versions = new Set([1, ...layout.fields.map(({ since = 1 }) => since)])
  return [...versions].map((version) => {
    const fields = layout.fields.filter(({ since = 1 }) => since <= version)
    const end = fields.reduce((most, { offset, sizeBytes }) => Math.max(most, offset + sizeBytes), 0)
    return { version, sizeBytes: alignUp(end, Math.max(1, ...fields.map(({ alignBytes }) => alignBytes))) }
  })
}
