import { readFileSync } from 'node:fs'
import { ml } from '@uaccel/webnn'
import t from 'tap'
import { buildOnnx, type DataType, loadOnnx } from '../index.js'

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

const bytesOf = ({ data }: Recorded) => Uint8Array.from(Buffer.from(data, 'base64'))

t.test(`quantised operators are those of ${recording.recordedWith}, bit for bit`, async (t) => {
  const context = await ml.createContext({ accelerated: false })
  for (const [i, { op, model, x, y }] of recording.cases.entries()) {
    const { graph, inputs, outputs } = await buildOnnx(loadOnnx(Buffer.from(model, 'base64')), context)
    const [from, to] = [
      await context.createTensor({ ...inputs.x!, writable: true }),
      await context.createTensor({ ...outputs.y!, readable: true }),
    ]
    context.writeTensor(from, bytesOf(x))
    context.dispatch(graph, { x: from }, { y: to })
    const found = new Uint8Array(await context.readTensor(to))
    t.same([to.dataType, to.shape], [y.dtype, y.shape], `${i}: ${op}`)
    t.ok(Buffer.from(found).equals(bytesOf(y)), `${i}: ${op}`)
    graph.destroy()
  }
  context.destroy()
})
