import { readFileSync } from 'node:fs'
import t from 'tap'
import { viewAs } from '../graph/tensor.js'
import { compile, type DataType, loadOnnx, Reference, type Tensor, tensor } from '../index.js'

/** A tensor as fixtures/record.mjs writes it. */
interface Recorded {
  readonly dtype: DataType
  readonly shape: readonly number[]
  readonly data: string
}
interface Recording {
  readonly recordedWith: string
  readonly cases: readonly { op: string; model: string; x: Recorded; y: Recorded }[]
}

const recording = JSON.parse(
  readFileSync(new URL('../../fixtures/onnxruntime.json', import.meta.url), 'utf8'),
) as Recording

function decode({ dtype, shape, data }: Recorded): Tensor {
  const bytes = Uint8Array.from(Buffer.from(data, 'base64'))
  return tensor(dtype, shape, viewAs({ dtype, shape }, bytes.buffer, 0))
}

t.test(`the reference is ${recording.recordedWith}, bit for bit`, async (t) => {
  for (const [i, { op, model, x, y }] of recording.cases.entries()) {
    const reference = new Reference(compile(loadOnnx(Buffer.from(model, 'base64'))))
    t.same(reference.run({ x: decode(x) }).y, decode(y), `${i}: ${op}`)
  }
})
