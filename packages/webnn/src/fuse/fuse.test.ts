import { readFileSync } from 'node:fs'
import t from 'tap'
import type { MLOperandDataType, TypedArray } from '../data-type.js'
import { MLGraphBuilder, type MLOperand, type MLTensor, ml } from '../index.js'
import { type Case, compute, elementsOf, patternOf, run } from './case.test.helper.js'

const fixtures = JSON.parse(
  readFileSync(new URL('../../fixtures/quantized.json', import.meta.url), 'utf8'),
) as { recordedWith: string; cases: readonly Case[] }

t.test(`what ${fixtures.recordedWith} computes`, async (t) => {
  t.equal(fixtures.cases.length, 180)
  for (const [at, each] of fixtures.cases.entries()) {
    const { results, ran } = await run(each)
    t.same([...results.y!], [...elementsOf(each.y)], `${at} ${each.op}`)
    t.notMatch(ran.join(), /uantizeLinear/, 'with integers alone')
  }
})

let state = 1
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) | 0
  return (state >>> 0) / 2 ** 32
}
const bytes = (count: number) => Uint8Array.from({ length: count }, () => 256 * random())
const count = (shape: readonly number[]) => shape.reduce((all, size) => all * size, 1)

/** Dequantises and quantises by one scale and zero point. */
const by = (b: MLGraphBuilder, scale: number, zero: number, type: MLOperandDataType = 'uint8') => {
  const constants = (operand: MLOperand) => {
    const shape = operand.shape.map(() => 1)
    const Elements = type === 'int8' ? Int8Array : type === 'uint8' ? Uint8Array : Int32Array
    return [
      b.constant({ dataType: 'float32', shape }, Float32Array.of(scale)),
      b.constant({ dataType: type, shape }, Elements.of(zero)),
    ] as const
  }
  return {
    from: (operand: MLOperand) => b.dequantizeLinear(operand, ...constants(operand)),
    to: (operand: MLOperand) => b.quantizeLinear(operand, ...constants(operand)),
  }
}

type Build = (b: MLGraphBuilder, x: MLOperand) => MLOperand | Record<string, MLOperand>

/** Runs a graph of one input of uint8 as it is written and fused: how far apart the results are at most, and what ran. */
async function both(shape: readonly number[], build: Build) {
  const x = { dataType: 'uint8' as const, shape, data: bytes(count(shape)) }
  const make = (b: MLGraphBuilder, { x }: Readonly<Record<string, MLOperand>>) => build(b, x!)
  const seed = state
  const plain = await compute({ x }, make, (graph) => graph)
  state = seed
  const fused = await compute({ x }, make)
  let most = 0
  for (const [name, wanted] of Object.entries(plain.results))
    for (const [at, value] of fused.results[name]!.entries() as Iterable<[number, number]>)
      most = Math.max(most, Math.abs(value - ((wanted as TypedArray)[at] as number)))
  return { most, ran: fused.ran }
}

const weights = (b: MLGraphBuilder, shape: number[], scale = 0.01) =>
  by(b, scale, 128).from(b.constant({ dataType: 'uint8', shape }, bytes(count(shape))))

t.test('patterns, and what they become', async (t) => {
  const cases: readonly (readonly [
    what: string,
    shape: readonly number[],
    build: Build,
    ran: readonly string[],
    most?: number,
  ])[] = [
    [
      'a convolution with a relu, channels last: constants are transposed now',
      [1, 6, 6, 4],
      (b, x) => {
        const y = b.conv2d(by(b, 0.02, 128).from(x), weights(b, [3, 3, 3, 4]), {
          inputLayout: 'nhwc',
          filterLayout: 'ohwi',
          padding: [1, 0, 0, 1],
        })
        return by(b, 0.02, 100).to(b.relu(y))
      },
      ['transpose', 'quantizedConv2d', 'transpose'],
      1,
    ],
    [
      'two of them: between them nothing is transposed',
      [1, 6, 6, 4],
      (b, x) => {
        const options = { inputLayout: 'nhwc', filterLayout: 'ohwi' } as const
        const [first, second] = [by(b, 0.02, 128), by(b, 0.05, 128)]
        const y = second.to(
          b.clamp(b.conv2d(first.from(x), weights(b, [4, 3, 3, 4]), options), { maxValue: 3 }),
        )
        return first.to(b.conv2d(second.from(y), weights(b, [2, 2, 2, 4]), options))
      },
      ['transpose', 'quantizedConv2d', 'quantizedConv2d', 'transpose'],
      2,
    ],
    [
      'a float bias that is a whole number of steps',
      [2, 8],
      (b, x) => {
        const scale = Math.fround(Math.fround(0.02) * Math.fround(0.01))
        const c = b.constant(
          { dataType: 'float32', shape: [3] },
          Float32Array.of(500 * scale, -77 * scale, 0),
        )
        return by(b, 0.05, 3).to(b.gemm(by(b, 0.02, 7).from(x), weights(b, [8, 3]), { c }))
      },
      ['quantizedMatmul'],
      1,
    ],
    [
      'a function of one number that is written as several: x sigmoid(x)',
      [3, 50],
      (b, x) => {
        const f = by(b, 0.04, 120).from(x)
        return by(b, 0.03, 10).to(b.mul(b.mul(f, b.sigmoid(f)), b.constant('float32', 0.5)))
      },
      ['quantizedTable'],
    ],
    [
      'two tables are one',
      [3, 50],
      (b, x) => {
        const middle = by(b, 0.01, 10)
        const y = middle.from(middle.to(b.tanh(by(b, 0.04, 120).from(x))))
        return by(b, 0.03, 10, 'int8').to(b.exp(y))
      },
      ['quantizedTable'],
    ],
    [
      'a relu of what was quantised limits what quantised it',
      [2, 8],
      (b, x) => {
        const y = by(b, 0.05, 30)
        const product = y.to(b.matmul(by(b, 0.02, 7).from(x), weights(b, [8, 3])))
        return y.to(b.relu(y.from(product)))
      },
      ['quantizedMatmul'],
      1,
    ],
    [
      'moved: reshape, transpose, slice, split and concat of bytes',
      [2, 6, 4],
      (b, x) => {
        const q = by(b, 0.05, 30)
        const turned = b.transpose(b.reshape(q.from(x), [6, 8]))
        const [first, second] = b.split(b.slice(turned, [1, 0], [6, 6]), 2)
        return q.to(b.concat([second!, first!], 0))
      },
      ['reshape', 'transpose', 'slice', 'split', 'concat'],
    ],
    [
      'a greatest of bytes, channels last',
      [1, 5, 7, 3],
      (b, x) => {
        const q = by(b, 0.05, 30)
        return q.to(
          b.maxPool2d(q.from(x), {
            windowDimensions: [2, 3],
            strides: [2, 2],
            layout: 'nhwc',
            outputShapeRounding: 'ceil',
          }),
        )
      },
      ['transpose', 'quantizedMaxPool2d', 'transpose'],
    ],
    [
      'a mean, rounded up in size',
      [1, 2, 5, 7],
      (b, x) =>
        by(b, 0.04, 9).to(
          b.averagePool2d(by(b, 0.05, 30).from(x), {
            windowDimensions: [2, 3],
            strides: [2, 2],
            padding: [1, 0, 0, 1],
            outputShapeRounding: 'ceil',
          }),
        ),
      ['quantizedAveragePool2d'],
      1,
    ],
    [
      'batches that are broadcast: those of constants now',
      [2, 1, 3, 5],
      (b, x) => by(b, 0.05, 30).to(b.matmul(by(b, 0.05, 30).from(x), weights(b, [4, 5, 2]))),
      ['expand', 'quantizedMatmul'],
      1,
    ],
    [
      'zero points of channels that are one number, expanded',
      [2, 8],
      (b, x) => {
        const scale = b.constant({ dataType: 'float32', shape: [1, 3] }, Float32Array.of(0.01, 0.02, 0.03))
        const zero = b.expand(b.reshape(b.constant('uint8', 100), [1, 1]), [1, 3])
        const rows = b.constant({ dataType: 'uint8', shape: [3, 8] }, bytes(24))
        const w = b.dequantizeLinear(b.transpose(rows), scale, zero)
        return by(b, 0.05, 30).to(b.matmul(by(b, 0.02, 7).from(x), w))
      },
      ['quantizedMatmul'],
      1,
    ],
    [
      'weights of channels in one dimension that are given another',
      [1, 2, 9],
      (b, x) => {
        const each = (data: Float32Array | Uint8Array, dataType: 'float32' | 'uint8') =>
          b.constant({ dataType, shape: [3, 1, 1] }, data)
        const rows = b.constant({ dataType: 'uint8', shape: [3, 2, 4] }, bytes(24))
        const w = b.dequantizeLinear(
          rows,
          each(Float32Array.of(0.01, 0.02, 0.03), 'float32'),
          each(Uint8Array.of(120, 130, 140), 'uint8'),
        )
        const images = b.reshape(by(b, 0.02, 128).from(x), [1, 2, 1, 9])
        const y = b.conv2d(images, b.reshape(w, [3, 2, 1, 4]))
        return by(b, 0.05, 30).to(b.relu(b.transpose(b.reshape(y, [1, 3, 6]))))
      },
      ['reshape', 'quantizedConv2d', 'reshape', 'transpose'],
      1,
    ],
    [
      'a NaN bounds nothing',
      [2, 8],
      (b, x) => {
        const product = b.matmul(by(b, 0.02, 7).from(x), weights(b, [8, 3]))
        return by(b, 0.05, 30).to(b.clamp(product, { minValue: Number.NaN, maxValue: 4 }))
      },
      ['quantizedMatmul'],
      1,
    ],
    [
      'one of several outputs',
      [4],
      (b, x) => {
        const [q, other] = [by(b, 0.05, 30), by(b, 0.1, 4)]
        return { y: other.to(q.from(x)), z: q.to(q.from(x)), f: q.from(x) }
      },
      ['quantizedTable', 'quantizedTable', 'dequantizeLinear'],
    ],
    [
      'not where something else reads what is between',
      [2, 8],
      (b, x) => {
        const product = b.matmul(by(b, 0.02, 7).from(x), weights(b, [8, 3]))
        return { y: by(b, 0.05, 30).to(product), product }
      },
      ['dequantizeLinear', 'dequantizeLinear', 'matmul', 'quantizeLinear'],
    ],
    [
      'not with a scale that is computed',
      [2, 8],
      (b, x) => {
        const q = by(b, 0.02, 7)
        const scale = b.sqrt(b.constant({ dataType: 'float32', shape: [1, 1] }, Float32Array.of(4)))
        const zero = b.constant({ dataType: 'uint8', shape: [1, 1] }, Uint8Array.of(4))
        return b.quantizeLinear(b.matmul(q.from(x), weights(b, [8, 3])), scale, zero)
      },
      ['dequantizeLinear', 'dequantizeLinear', 'matmul', 'sqrt', 'quantizeLinear'],
    ],
    [
      'not with a bias that is between two steps',
      [2, 8],
      (b, x) => {
        const c = b.constant({ dataType: 'float32', shape: [3] }, Float32Array.of(0.12345, 0.3, 0))
        return by(b, 0.05, 3).to(b.gemm(by(b, 0.02, 7).from(x), weights(b, [8, 3]), { c }))
      },
      ['dequantizeLinear', 'dequantizeLinear', 'gemm', 'quantizeLinear'],
    ],
    [
      'not a product of numbers of another scale for each row',
      [2, 8],
      (b, x) => {
        const scale = b.constant({ dataType: 'float32', shape: [2, 1] }, Float32Array.of(0.1, 0.2))
        const zero = b.constant({ dataType: 'uint8', shape: [2, 1] }, new Uint8Array(2))
        return by(b, 0.05, 3).to(b.matmul(b.dequantizeLinear(x, scale, zero), weights(b, [8, 3])))
      },
      ['dequantizeLinear', 'dequantizeLinear', 'matmul', 'quantizeLinear'],
    ],
  ]
  for (const [what, shape, build, wanted, most = 0] of cases) {
    const found = await both(shape, build)
    t.same([...found.ran].sort(), [...wanted].sort(), what)
    t.ok(found.most <= most, `${what}: results`, { most: found.most })
  }
})

t.test('weights of each channel, with zero points of their own', async (t) => {
  const { most, ran } = await both([1, 4, 6, 6], (b, x) => {
    const shape = [6, 2, 3, 3]
    const each = (data: Float32Array | Uint8Array, dataType: 'float32' | 'uint8') =>
      b.constant({ dataType, shape: [6, 1, 1, 1] }, data)
    const filter = b.dequantizeLinear(
      b.constant({ dataType: 'uint8', shape }, bytes(count(shape))),
      each(Float32Array.of(0.01, 0.02, 0.03, 0.04, 0, 0.06), 'float32'),
      each(Uint8Array.of(100, 110, 120, 130, 140, 150), 'uint8'),
    )
    return by(b, 0.2, 128).to(b.conv2d(by(b, 0.02, 128).from(x), filter, { groups: 2, dilations: [2, 1] }))
  })
  t.same(ran, ['quantizedConv2d'])
  t.ok(most <= 1, 'results', { most })
})

t.test('a graph without a pattern stays the graph that it is', async (t) => {
  let same = false
  const { fuse } = await import('./fuse.js')
  await compute(
    { x: { dataType: 'float32', shape: [2], data: Float32Array.of(1, 2) } },
    (b, { x }) => b.relu(x!),
    (graph) => {
      same = fuse(graph) === graph
      return graph
    },
  )
  t.ok(same)
})

t.test('constants that are computed are in tables as they are in the graph', async (t) => {
  const filled = (b: MLGraphBuilder, value: number) =>
    b.constant({ dataType: 'float32', shape: [6] }, new Float32Array(6).fill(value))
  const cases: Readonly<Record<string, Build>> = {
    'dequantised, added': (b, x) => {
      const { from, to } = by(b, 0.05, 128)
      return to(
        b.add(from(x), from(b.constant({ dataType: 'uint8', shape: [6] }, new Uint8Array(6).fill(150)))),
      )
    },
    'dequantised, a slope': (b, x) => {
      const { from, to } = by(b, 0.05, 128)
      return to(
        b.prelu(from(x), from(b.constant({ dataType: 'uint8', shape: [6] }, new Uint8Array(6).fill(99)))),
      )
    },
    'a root, a divisor': (b, x) => {
      const { from, to } = by(b, 0.05, 128)
      return to(b.div(from(x), b.sqrt(filled(b, 2))))
    },
    'a zero point that varies': (b, x) =>
      b.quantizeLinear(
        filled(b, -3),
        b.constant({ dataType: 'float32', shape: [1] }, Float32Array.of(0.5)),
        x,
      ),
  }
  for (const [what, build] of Object.entries(cases)) {
    const { most, ran } = await both(what === 'a zero point that varies' ? [1] : [6], build)
    t.equal(most, 0, `${what}: ${ran}`)
  }
})

t.test('contexts run graphs fused', async (t) => {
  const context = await ml.createContext()
  for (const [at, recorded] of fixtures.cases.entries()) {
    if (at % 6 !== 0) continue
    const builder = new MLGraphBuilder(context)
    const operands: Record<string, MLOperand> = {}
    const inputs: Record<string, MLTensor> = {}
    for (const name of ['x', 'x2']) {
      const given = recorded.tensors[name]
      if (given === undefined) continue
      const descriptor = { dataType: given.dtype, shape: given.shape }
      operands[name] = builder.input(name, descriptor)
      inputs[name] = await context.createTensor({ ...descriptor, writable: true })
      context.writeTensor(inputs[name], elementsOf(given))
    }
    const y = patternOf(recorded)(builder, operands)
    const graph = await builder.build({ y })
    const output = await context.createTensor({ dataType: y.dataType, shape: y.shape, readable: true })
    context.dispatch(graph, inputs, { y: output })
    const found = new Uint8Array(await context.readTensor(output))
    t.same(Buffer.from(found).toString('base64'), recorded.y.data, `${at} ${recorded.op}`)
  }
  context.destroy()
})
