import t from 'tap'
import { halfBits, halfValue } from './half.js'
import { MLGraphBuilder, type MLOperand, ml } from './index.js'

t.test('each half is itself, and numbers between two become the nearer one', async (t) => {
  let wrong = 0
  for (let bits = 0; bits < 0x7c00; bits++) {
    const [value, next] = [halfValue(bits), bits === 0x7bff ? 65_536 : halfValue(bits + 1)]
    const middle = (value + next) / 2
    const even = bits % 2 === 0 ? bits : bits + 1
    const inside = (next - value) / 1024
    for (const [number, wanted] of [
      [value, bits],
      [middle, even],
      [middle - inside, bits],
      [middle + inside, bits + 1],
    ] as const) {
      if (halfBits(number) !== wanted) wrong++
      if (halfBits(-number) !== (0x8000 | wanted)) wrong++
    }
  }
  t.equal(wrong, 0)
  t.equal(halfBits(Number.POSITIVE_INFINITY), 0x7c00)
  t.equal(halfBits(-1e300), 0xfc00)
  t.equal(halfBits(1e-300), 0)
  t.ok(Object.is(halfValue(halfBits(-0)), -0))
  t.ok(Number.isNaN(halfValue(halfBits(Number.NaN))))
  // Half way between 1 and the next half, and by less than float32 can say above it.
  t.equal(halfBits(1 + 2 ** -11 + 2 ** -40), 0x3c01)
})

const halves = (...values: number[]) => Uint16Array.from(values, halfBits)

t.test('graphs on halves', async (t) => {
  const context = await ml.createContext()
  const run = async (make: (b: MLGraphBuilder, x: MLOperand) => MLOperand, values: number[]) => {
    const builder = new MLGraphBuilder(context)
    const descriptor = { dataType: 'float16', shape: [values.length] } as const
    const output = make(builder, builder.input('x', descriptor))
    const graph = await builder.build({ y: output })
    const x = await context.createTensor({ ...descriptor, writable: true })
    const y = await context.createTensor({ dataType: output.dataType, shape: output.shape, readable: true })
    context.writeTensor(x, halves(...values))
    for (let twice = 0; twice < 2; twice++) context.dispatch(graph, { x }, { y })
    const found = await context.readTensor(y)
    return output.dataType === 'float16'
      ? Array.from(new Uint16Array(found), halfValue)
      : Array.from(new Float32Array(found))
  }
  const rounded = (...values: number[]) => values.map((value) => halfValue(halfBits(value)))
  t.strictSame(
    await run((b, x) => b.add(x, b.constant('float16', 0.1)), [1, 1000, 65_504]),
    rounded(1 + rounded(0.1)[0]!, 1000 + rounded(0.1)[0]!, 65_504),
  )
  t.strictSame(await run((b, x) => b.mul(x, x), [256, 0.5]), [Number.POSITIVE_INFINITY, 0.25])
  t.strictSame(
    await run((b, x) => b.reshape(b.pad(x, [1], [0], { value: 0.3 }), [3, 1]), [1, 2]),
    rounded(0.3, 1, 2),
  )
  t.strictSame(await run((b, x) => b.cast(x, 'float32'), [0.1, -2]), rounded(0.1, -2))
  t.strictSame(await run((b, x) => b.softmax(x, 0), [0, 0]), [0.5, 0.5])
  t.strictSame(
    await run(
      (b, x) =>
        b.dequantizeLinear(
          b.cast(x, 'uint8'),
          b.constant({ dataType: 'float16', shape: [1] }, halves(0.1)),
          b.constant({ dataType: 'uint8', shape: [1] }, Uint8Array.of(2)),
        ),
      [12, 2],
    ),
    rounded(10 * rounded(0.1)[0]!, 0),
  )
  t.strictSame(
    await run(
      (b, x) => {
        const scale = b.constant({ dataType: 'float32', shape: [1] }, Float32Array.of(0.5))
        const zero = b.constant({ dataType: 'uint8', shape: [1] }, Uint8Array.of(0))
        const wide = b.dequantizeLinear(b.cast(x, 'uint8'), scale, zero)
        const half = b.cast(b.tanh(b.cast(wide, 'float16')), 'float32')
        return b.dequantizeLinear(b.quantizeLinear(half, scale, zero), scale, zero)
      },
      [0, 4],
    ),
    [0, 1],
    'a chain that is a table of bytes in float32, and has halves within',
  )
})
