import type { DescField, DescMessage } from '@bufbuild/protobuf'
import { ScalarType } from '@bufbuild/protobuf'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { AccelError, accelError } from '@uaccel/uapi'

const scalarWire: Partial<Record<ScalarType, WireType>> = {
  [ScalarType.INT64]: WireType.Varint,
  [ScalarType.INT32]: WireType.Varint,
  [ScalarType.UINT64]: WireType.Varint,
  [ScalarType.FLOAT]: WireType.Bit32,
  [ScalarType.DOUBLE]: WireType.Bit64,
  [ScalarType.STRING]: WireType.LengthDelimited,
  [ScalarType.BYTES]: WireType.LengthDelimited,
}

function scalarOf(field: DescField): ScalarType | undefined {
  if (field.fieldKind === 'scalar') return field.scalar
  return field.fieldKind === 'list' && field.listKind === 'scalar' ? field.scalar : undefined
}

/**
 * Checks that `bytes` are a well-formed message before they are decoded: every length within the message that it
 * stands in, every field of the declared wire type. (The decoder itself lets a nested message run past its end and
 * takes any wire type.) ERR_ACCEL_CORRUPT_MODEL names the field and the byte.
 */
export function checkWire(schema: DescMessage, bytes: Uint8Array): void {
  checkMessage(schema, new BinaryReader(bytes), bytes.length, schema.name)
}

function checkMessage(schema: DescMessage, reader: BinaryReader, end: number, place: string): void {
  const counts = new Map<number, number>()
  while (reader.pos < end) {
    const start = reader.pos
    let at = place
    try {
      const [number, wire] = reader.tag()
      const field = schema.fields.find((candidate) => candidate.number === number)
      if (!field) {
        reader.skip(wire, number)
      } else {
        const index = counts.get(number) ?? 0
        counts.set(number, index + 1)
        at = `${place}.${field.name}${field.fieldKind === 'list' ? `[${index}]` : ''}`
        checkField(field, wire, reader, end, at)
      }
    } catch (error) {
      if (error instanceof AccelError) throw error
      throw corrupt(at, start, error instanceof Error ? error.message : String(error), error)
    }
    if (reader.pos > end) throw corrupt(at, start, `it runs ${reader.pos - end} bytes past its message`)
  }
}

function checkField(field: DescField, wire: WireType, reader: BinaryReader, end: number, at: string): void {
  const start = reader.pos
  const scalar = scalarOf(field)
  const wanted = scalar === undefined ? WireType.LengthDelimited : scalarWire[scalar]
  const packed = field.fieldKind === 'list' && wire === WireType.LengthDelimited
  if (wire !== wanted && !packed) throw corrupt(at, start, `wanted wire type ${wanted}, found ${wire}`)
  if (wire !== WireType.LengthDelimited) {
    if (wire === WireType.Varint) reader.int64()
    else reader.skip(wire)
    return
  }
  const length = reader.uint32()
  const left = end - reader.pos
  if (length > left) throw corrupt(at, start, `it wants ${length} bytes, ${Math.max(0, left)} are left`)
  const fieldEnd = reader.pos + length
  if (field.message) checkMessage(field.message, reader, fieldEnd, at)
  else if (packed && wanted !== WireType.LengthDelimited) {
    while (reader.pos < fieldEnd) {
      if (wanted === WireType.Varint) reader.int64()
      else reader.pos += wanted === WireType.Bit64 ? 8 : 4
    }
  } else reader.pos = fieldEnd
  if (reader.pos !== fieldEnd) throw corrupt(at, start, `its last element runs past its ${length} bytes`)
}

function corrupt(place: string, byte: number, found: string, cause?: unknown): AccelError {
  return accelError(
    'ERR_ACCEL_CORRUPT_MODEL',
    `the ONNX file is truncated or malformed at byte ${byte}, ${place}: ${found}; fetch or export it again`,
    { cause, details: { place, byte } },
  )
}
