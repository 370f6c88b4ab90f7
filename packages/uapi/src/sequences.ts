import {
  type AnyField,
  badDefinition,
  type Field,
  type FieldCodec,
  refuse,
  requireZero,
  show,
} from './field.js'
import type { Input, Output } from './struct.js'

/** Bytes of a length prefix (u32). */
const LENGTH_SIZE_BYTES = 4

function checkMax(max: number, what: string): void {
  if (!Number.isInteger(max) || max < 1 || max > 0xff_ffff) {
    throw badDefinition(`${what} wants a maximum from 1 to 16777215, found ${max}`)
  }
}

function byteField<T>(
  type: 'bytes' | 'string',
  max: number,
  toBytes: (value: T, path: string) => Uint8Array,
  fromBytes: (bytes: Uint8Array, path: string) => T,
): Field<T> {
  checkMax(max, type)
  const compile = (path: string): FieldCodec<T, T> => ({
    write({ bytes, view }, offset, value) {
      const raw = toBytes(value, path)
      if (raw.length > max) {
        throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `takes at most ${max} bytes, found ${raw.length}`)
      }
      view.setUint32(offset, raw.length, true)
      bytes.set(raw, offset + LENGTH_SIZE_BYTES)
    },
    read({ bytes, view }, offset) {
      const length = view.getUint32(offset, true)
      if (length > max) {
        throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `takes at most ${max} bytes, found ${length}`)
      }
      const start = offset + LENGTH_SIZE_BYTES
      requireZero(bytes, start + length, start + max, path, 'what follows the data')
      // A copy: the source may be memory that the other side still writes to, or that the next message is read into. (`slice` is none
      // where the source is a Buffer.)
      return fromBytes(new Uint8Array(bytes.subarray(start, start + length)), path)
    },
  })
  return {
    sizeBytes: LENGTH_SIZE_BYTES + max,
    alignBytes: LENGTH_SIZE_BYTES,
    since: undefined,
    description: { type, max },
    compile,
  }
}

/** Up to `max` bytes: a u32 length, then room for `max` of them, zero where unused. */
export function bytes(max: number): Field<Uint8Array> {
  return byteField<Uint8Array>(
    'bytes',
    max,
    (value, path) => {
      if (!(value instanceof Uint8Array)) {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants a Uint8Array, found ${show(value)}`)
      }
      return value
    },
    (raw) => raw,
  )
}

/** Half of a surrogate pair on its own: UTF-8 has no bytes for it. */
const LONE_SURROGATE = /\p{Cs}/u

const utf8Encoder = new TextEncoder()
const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text of up to `max` bytes of UTF-8, laid out as {@link bytes}. */
export function string(max: number): Field<string> {
  return byteField<string>(
    'string',
    max,
    (value, path) => {
      if (typeof value !== 'string' || LONE_SURROGATE.test(value)) {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants a well-formed string, found ${show(value)}`)
      }
      return utf8Encoder.encode(value)
    },
    (raw, path) => {
      try {
        return utf8Decoder.decode(raw)
      } catch {
        throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, 'is not UTF-8')
      }
    },
  )
}

/** Up to `max` elements: a u32 count, then room for `max` of them at their natural alignment, zero where unused. */
export function array<F extends AnyField>(element: F, max: number): Field<readonly Input<F>[], Output<F>[]> {
  checkMax(max, 'array')
  if (element.since !== undefined) throw badDefinition('an array element cannot be added later')
  if (element.sizeBytes === 0) throw badDefinition('an array element has a size')
  const alignBytes = Math.max(LENGTH_SIZE_BYTES, element.alignBytes)
  const stride = Math.ceil(element.sizeBytes / element.alignBytes) * element.alignBytes
  const compile = (path: string): FieldCodec<readonly Input<F>[], Output<F>[]> => {
    const codec = element.compile(`${path}[]`) as FieldCodec<Input<F>, Output<F>>
    return {
      write(sink, offset, value) {
        if (!Array.isArray(value)) {
          throw refuse('ERR_ACCEL_INVALID_ARGUMENT', path, `wants an array, found ${show(value)}`)
        }
        if (value.length > max) {
          throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `takes at most ${max} elements, found ${value.length}`)
        }
        sink.view.setUint32(offset, value.length, true)
        for (let i = 0; i < value.length; i++) codec.write(sink, offset + alignBytes + i * stride, value[i])
      },
      read(source, offset) {
        const count = source.view.getUint32(offset, true)
        if (count > max) {
          throw refuse('ERR_ACCEL_OUT_OF_RANGE', path, `takes at most ${max} elements, found ${count}`)
        }
        const start = offset + alignBytes
        requireZero(source.bytes, offset + LENGTH_SIZE_BYTES, start, path, 'padding')
        const value: Output<F>[] = []
        for (let i = 0; i < count; i++) {
          const at = start + i * stride
          value.push(codec.read(source, at))
          requireZero(source.bytes, at + element.sizeBytes, at + stride, path, 'padding')
        }
        requireZero(
          source.bytes,
          start + count * stride,
          start + max * stride,
          path,
          'what follows the elements',
        )
        return value
      },
    }
  }
  return {
    sizeBytes: alignBytes + max * stride,
    alignBytes,
    since: undefined,
    description: { type: 'array', element: element.description, max },
    compile,
  }
}
