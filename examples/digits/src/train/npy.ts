/** A tensor of float32 as NumPy's `.npy` file, version 1.0 (NEP 1): what `uaccel infer` takes as an input. */
export function encodeNpy(shape: readonly number[], data: Float32Array): Buffer {
  const dictionary = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`
  // Magic, version, the length of the dictionary, the dictionary, padded so that the data starts at a multiple of 64.
  const headerBytes = Math.ceil((10 + dictionary.length + 1) / 64) * 64
  const file = Buffer.alloc(headerBytes + 4 * data.length, ' ')
  file.write('\x93NUMPY\x01\x00', 'latin1')
  file.writeUInt16LE(headerBytes - 10, 8)
  file.write(dictionary, 10, 'latin1')
  file.write('\n', headerBytes - 1, 'latin1')
  for (const [i, element] of data.entries()) file.writeFloatLE(element, headerBytes + 4 * i)
  return file
}
