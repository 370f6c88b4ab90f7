import { type DataType, tensorOf } from '@uaccel/inference'
import fc from 'fast-check'
import t from 'tap'
import { fromNpy, readNpy, toNpy } from './npy.js'

/** A file as NumPy writes it. */
function npy(descr: string, shape: string, data: Uint8Array, fortran = false, version = 1): Buffer {
  const words = `{'descr': '${descr}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': ${shape}, }\n`
  const head = Buffer.alloc(version === 1 ? 10 : 12)
  head.write('\x93NUMPY', 'latin1')
  head[6] = version
  if (version === 1) head.writeUInt16LE(words.length, 8)
  else head.writeUInt32LE(words.length, 8)
  return Buffer.concat([head, Buffer.from(words, 'latin1'), data])
}

const bytes = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength)

t.test('what is written is read again, of each type and shape', async () => {
  const types: DataType[] = ['float32', 'uint8', 'int8', 'uint32', 'int32', 'uint64', 'int64']
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...types),
      fc.array(fc.nat(4), { maxLength: 4 }),
      fc.uint8Array({ minLength: 8, maxLength: 8 }),
      async (dtype, shape, seed) => {
        const count = shape.reduce((product, size) => product * size, 1)
        const size = /8$/.test(dtype) ? 1 : dtype.endsWith('64') ? 8 : 4
        const tensor = tensorOf(
          { dtype, shape },
          Uint8Array.from({ length: count * size }, (_, at) => seed[at % 8]!),
        )
        const file = Buffer.from(toNpy(tensor))
        const header = file.readUInt16LE(8)
        if ((10 + header) % 64 !== 0 || file[9 + header] !== 0x0a) return false
        const again = fromNpy('x', readNpy('x', file), { dtype, shape })
        return Buffer.from(bytes(again.data)).equals(bytes(tensor.data))
      },
    ),
  )
})

t.test('byte orders, orders of elements and versions', async (t) => {
  const read = (file: Buffer, shape: number[]) =>
    fromNpy('x', readNpy('x', file), { dtype: 'float32', shape }).data
  const big = Buffer.alloc(8)
  big.writeFloatBE(1.5, 0)
  big.writeFloatBE(-2, 4)
  t.same([...read(npy('>f4', '(2,)', big), [2])], [1.5, -2])
  const columns = bytes(Float32Array.of(1, 4, 2, 5, 3, 6))
  t.same([...read(npy('<f4', '(2, 3)', columns, true), [2, 3])], [1, 2, 3, 4, 5, 6])
  t.same([...read(npy('<f4', '()', bytes(Float32Array.of(7)), false, 2), [])], [7])
  const flags = fromNpy('x', readNpy('x', npy('|b1', '(2,)', Uint8Array.of(0, 1))), {
    dtype: 'uint8',
    shape: [2],
  })
  t.same([...flags.data], [0, 1])
  t.same([...read(npy('<f8', '(2,)', bytes(Float64Array.of(0.5, -Infinity))), [2])], [0.5, -Infinity])
  t.throws(() => read(npy('<f8', '(1,)', bytes(Float64Array.of(0.1))), [1]), {
    code: 'ERR_ACCEL_INVALID_SHAPE',
    message: /numbers such as 0\.1 that float32 does not have/,
  })
})

t.test('another type or shape, and files that are none', async (t) => {
  const wanted = { dtype: 'float32', shape: [2] } as const
  for (const file of [
    npy('<i4', '(2,)', new Uint8Array(8)),
    npy('<f2', '(2,)', new Uint8Array(4)),
    npy('<f4', '(1, 2)', new Uint8Array(8)),
    npy('|b1', '(2,)', new Uint8Array(2)),
  ])
    t.throws(() => fromNpy('x', readNpy('x', file), wanted), { code: 'ERR_ACCEL_INVALID_SHAPE' })
  const whole = npy('<f4', '(2,)', new Uint8Array(8))
  for (let length = 0; length < whole.length; length++)
    t.throws(() => readNpy('x', whole.subarray(0, length)), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
  for (const file of [
    Buffer.concat([whole, new Uint8Array(1)]),
    npy('|O', '(2,)', new Uint8Array(16)),
    npy('|S4', '(2,)', new Uint8Array(8)),
    npy('<f4', '(-2,)', new Uint8Array(8)),
    npy('<f4', '(99999999999, 99999999999)', new Uint8Array(8)),
  ])
    t.throws(() => readNpy('x', file), { code: 'ERR_ACCEL_INVALID_ARGUMENT' })
})
