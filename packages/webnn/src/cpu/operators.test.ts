import t, { type Test } from 'tap'
import { arrayOf, type MLOperandDataType, type TypedArray } from '../data-type.js'
import { MLGraphBuilder, type MLOperand, ml } from '../index.js'

// Values of these tests are the specification's own examples, were computed by hand, or come from a formula that is written out beside them.
const context = await ml.createContext()

type Build = (
  builder: MLGraphBuilder,
  tensor: (data: readonly (number | bigint)[], shape?: number[], dataType?: MLOperandDataType) => MLOperand,
) => MLOperand | readonly MLOperand[]

/** Runs a graph of constants: shape and elements of each output. */
async function compute(build: Build): Promise<{ shape: readonly number[]; data: (number | bigint)[] }[]> {
  const builder = new MLGraphBuilder(context)
  const made = build(builder, (data, shape = [data.length], dataType = 'float32') => {
    const Elements = arrayOf[dataType] as unknown as new (data: readonly (number | bigint)[]) => TypedArray
    return builder.constant({ dataType, shape }, new Elements(data))
  })
  const operands = Array.isArray(made) ? made : [made]
  const names = (of: readonly unknown[]) => of.map((one, at) => [`y${at}`, one])
  const graph = await builder.build(Object.fromEntries(names(operands)))
  const tensors = await Promise.all(
    operands.map(({ dataType, shape }) => context.createTensor({ dataType, shape, readable: true })),
  )
  context.dispatch(graph, {}, Object.fromEntries(names(tensors)))
  return Promise.all(
    tensors.map(async (tensor) => {
      const bytes = await context.readTensor(tensor)
      const data = Array.from(new arrayOf[tensor.dataType](bytes) as Iterable<number | bigint>)
      return { shape: tensor.shape, data }
    }),
  )
}

type Case = readonly [
  what: string,
  build: Build,
  data: readonly (number | bigint)[],
  shape?: readonly number[],
]

async function check(t: Test, cases: readonly Case[]): Promise<void> {
  for (const [what, build, data, shape] of cases) {
    const [found] = await compute(build)
    if (shape) t.same(found!.shape, shape, `${what}: shape`)
    t.ok(near(found!.data, data), what, { found: found!.data.map(String), wanted: data.map(String) })
  }
}

/** Equal as floats of 32 bits are, give or take their last bits; NaN is NaN, and all else is equal exactly. */
function near(found: readonly (number | bigint)[], wanted: readonly (number | bigint)[]): boolean {
  return (
    found.length === wanted.length &&
    found.every((x, at) => {
      const y = wanted[at]!
      if (typeof x === 'bigint' || typeof y === 'bigint' || !Number.isFinite(y)) return Object.is(x, y)
      return Math.abs(x - y) <= 2e-6 * Math.max(1, Math.abs(y))
    })
  )
}

const ramp = (length: number, from = 1) => Array.from({ length }, (_, at) => at + from)
const { NaN: nan, POSITIVE_INFINITY: inf } = Number

t.test('pools', (t) => {
  const square = ramp(9) // 1 2 3 / 4 5 6 / 7 8 9
  return check(t, [
    ['max', (b, x) => b.maxPool2d(x(square, [1, 1, 3, 3]), { windowDimensions: [2, 2] }), [5, 6, 8, 9]],
    [
      'average',
      (b, x) => b.averagePool2d(x(square, [1, 1, 3, 3]), { windowDimensions: [2, 2] }),
      [3, 4, 6, 7],
    ],
    ['of all', (b, x) => b.averagePool2d(x(square, [1, 1, 3, 3])), [5], [1, 1, 1, 1]],
    ['l2', (b, x) => b.l2Pool2d(x([3, 4, -6, 8], [1, 2, 1, 2])), [5, 10], [1, 2, 1, 1]],
    [
      'padding counts in no average',
      (b, x) =>
        b.averagePool2d(x(square, [1, 1, 3, 3]), {
          windowDimensions: [2, 2],
          padding: [1, 0, 1, 0],
          strides: [2, 2],
        }),
      [1, 2.5, 5.5, 7],
    ],
    [
      'padding is not the greatest of negative numbers',
      (b, x) => b.maxPool2d(x([-1, -2], [1, 1, 1, 2]), { windowDimensions: [1, 2], padding: [0, 0, 1, 1] }),
      [-1, -1, -2],
    ],
    [
      'dilations',
      (b, x) => b.maxPool2d(x(square, [1, 1, 3, 3]), { windowDimensions: [2, 2], dilations: [2, 2] }),
      [9],
    ],
    [
      'sizes rounded up: the last window is cut',
      (b, x) =>
        b.averagePool2d(x(square, [1, 1, 3, 3]), {
          windowDimensions: [2, 2],
          strides: [2, 2],
          outputShapeRounding: 'ceil',
        }),
      [3, 4.5, 7.5, 9],
    ],
    [
      'sizes that were asked for',
      (b, x) =>
        b.maxPool2d(x(square, [1, 1, 3, 3]), {
          windowDimensions: [2, 2],
          strides: [2, 2],
          outputSizes: [2, 2],
        }),
      [5, 6, 8, 9],
    ],
    [
      'channels last',
      (b, x) => b.maxPool2d(x(ramp(8), [1, 2, 2, 2]), { windowDimensions: [1, 2], layout: 'nhwc' }),
      [3, 4, 7, 8],
      [1, 2, 1, 2],
    ],
    ['of 64 bits', (b, x) => b.maxPool2d(x([-5n, -(2n ** 62n)], [1, 1, 1, 2], 'int64')), [-5n]],
    ['NaN comes through', (b, x) => b.maxPool2d(x([nan, 1, 2, 3], [1, 1, 2, 2])), [nan]],
  ])
})

t.test('resampling', (t) =>
  check(t, [
    [
      "the specification's example",
      (b, x) =>
        b.resample2d(x([0, 1, 2, 3, 0, 1, 2, 3, 12, 13, 14, 15, 12, 13, 14, 15], [1, 1, 4, 4]), {
          mode: 'linear',
          sizes: [8, 8],
        }),
      [0, 0, 0, 3, 9, 12, 12, 12].flatMap((line) =>
        [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3].map((step) => line + step),
      ),
    ],
    [
      'nearest: halves go to the lower',
      (b, x) => b.resample2d(x(ramp(4), [1, 1, 1, 4]), { sizes: [1, 2] }),
      [1, 3],
    ],
    [
      'other axes',
      (b, x) => b.resample2d(x([1, 2, 3, 4], [2, 2, 1, 1]), { axes: [1, 0], scales: [2, 1] }),
      [1, 1, 2, 2, 3, 3, 4, 4],
      [2, 4, 1, 1],
    ],
    [
      'integers',
      (b, x) => b.resample2d(x([0, 255], [1, 1, 1, 2], 'uint8'), { sizes: [1, 4], mode: 'linear' }),
      [0, 64, 191, 255],
    ],
    [
      'an infinite neighbour that has no part in it',
      (b, x) => b.resample2d(x([1, inf], [1, 1, 1, 2]), { scales: [1, 2] }),
      [1, 1, inf, inf],
    ],
  ]),
)

t.test('gathers and scatters', (t) => {
  const matrix = ramp(6) // 1 2 3 / 4 5 6
  const int32 = 'int32' as const
  return check(t, [
    [
      'gather, from the end',
      (b, x) => b.gather(x(matrix, [2, 3]), x([-1, 0], [2], int32), { axis: 1 }),
      [3, 1, 6, 4],
    ],
    ['gather, a scalar', (b, x) => b.gather(x(matrix, [2, 3]), x([1n], [], 'int64')), [4, 5, 6], [3]],
    ['gather, held to the tensor', (b, x) => b.gather(x([7, 8]), x([9, -9], [2], int32)), [8, 7]],
    [
      'gatherElements',
      (b, x) => b.gatherElements(x(matrix, [2, 3]), x([0, -1, 1, 0], [2, 2], int32), { axis: 1 }),
      [1, 3, 5, 4],
      [2, 2],
    ],
    [
      'gatherElements along the first axis',
      (b, x) => b.gatherElements(x(matrix, [2, 3]), x([1, 0, 1], [1, 3], 'uint32')),
      [4, 2, 6],
    ],
    [
      'gatherND, elements',
      (b, x) => b.gatherND(x(matrix, [2, 3]), x([0, 2, -1, 0], [2, 2], int32)),
      [3, 4],
      [2],
    ],
    [
      'gatherND, rows',
      (b, x) => b.gatherND(x(matrix, [2, 3]), x([1, 0], [2, 1], int32)),
      [4, 5, 6, 1, 2, 3],
      [2, 3],
    ],
    [
      'scatterElements',
      (b, x) =>
        b.scatterElements(x(matrix, [2, 3]), x([2, 0], [2, 1], int32), x([-1, -2], [2, 1]), { axis: 1 }),
      [1, 2, -1, -2, 5, 6],
    ],
    [
      'scatterND, elements',
      (b, x) => b.scatterND(x(matrix, [2, 3]), x([0, 0, 1, -1], [2, 2], int32), x([-1, -2])),
      [-1, 2, 3, 4, 5, -2],
    ],
    [
      'scatterND, rows of 64 bits',
      (b, x) =>
        b.scatterND(
          x([1n, 2n, 3n, 4n], [2, 2], 'int64'),
          x([1], [1, 1], int32),
          x([8n, 9n], [1, 2], 'int64'),
        ),
      [1n, 2n, 8n, 9n],
    ],
  ])
})

t.test('layout', (t) => {
  const matrix = ramp(6) // 1 2 3 / 4 5 6
  return check(t, [
    ['upper triangle', (b, x) => b.triangular(x(ramp(9), [3, 3])), [1, 2, 3, 0, 5, 6, 0, 0, 9]],
    [
      'lower triangle',
      (b, x) => b.triangular(x(ramp(9), [3, 3]), { upper: false }),
      [1, 0, 0, 4, 5, 0, 7, 8, 9],
    ],
    ['above the diagonal', (b, x) => b.triangular(x(matrix, [2, 3]), { diagonal: 1 }), [0, 2, 3, 0, 0, 6]],
    [
      'below the diagonal',
      (b, x) => b.triangular(x(matrix, [2, 3]), { upper: false, diagonal: -1 }),
      [0, 0, 0, 4, 0, 0],
    ],
    [
      'triangles of a batch, of 64 bits',
      (b, x) => b.triangular(x([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n], [2, 2, 2], 'int64')),
      [1n, 2n, 0n, 4n, 5n, 6n, 0n, 8n],
    ],
    [
      'tile',
      (b, x) => b.tile(x([1, 2, 3, 4], [2, 2]), [2, 2]),
      [1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4],
      [4, 4],
    ],
    ['reverse', (b, x) => b.reverse(x(matrix, [2, 3])), [6, 5, 4, 3, 2, 1]],
    ['reverse an axis', (b, x) => b.reverse(x(matrix, [2, 3]), { axes: [1] }), [3, 2, 1, 6, 5, 4]],
    ['reverse none', (b, x) => b.reverse(x(matrix, [2, 3]), { axes: [] }), matrix],
    [
      'pad with a value',
      (b, x) => b.pad(x([1n, 2n], [2], 'int64'), [1], [2], { value: 2n ** 60n }),
      [2n ** 60n, 1n, 2n, 2n ** 60n, 2n ** 60n],
    ],
    [
      'pad by edges',
      (b, x) => b.pad(x(matrix, [2, 3]), [1, 2], [1, 2], { mode: 'edge' }),
      [
        [1, 1, 1, 2, 3, 3, 3],
        [1, 1, 1, 2, 3, 3, 3],
        [4, 4, 4, 5, 6, 6, 6],
        [4, 4, 4, 5, 6, 6, 6],
      ].flat(),
    ],
    [
      'pad by reflections',
      (b, x) => b.pad(x(matrix, [2, 3]), [1, 2], [1, 2], { mode: 'reflection' }),
      [
        [6, 5, 4, 5, 6, 5, 4],
        [3, 2, 1, 2, 3, 2, 1],
        [6, 5, 4, 5, 6, 5, 4],
        [3, 2, 1, 2, 3, 2, 1],
      ].flat(),
    ],
  ])
})

t.test('places of extremes, and sums along an axis', (t) =>
  check(t, [
    ['argMax, the first of equals', (b, x) => b.argMax(x([1, 3, 3, 2, 2, 1], [2, 3]), 1), [1, 0], [2]],
    [
      'argMax, the first NaN',
      (b, x) => b.argMax(x([1, Number.NaN, 3, Number.NaN, 2, Number.NaN], [2, 3]), 1),
      [1, 0],
      [2],
    ],
    ['argMin, the first NaN', (b, x) => b.argMin(x([1, Number.NaN, Number.NaN], [3]), 0), [1], []],
    [
      'argMin, kept',
      (b, x) => b.argMin(x([1, 3, 0, 3], [2, 2]), 0, { keepDimensions: true }),
      [1, 0],
      [1, 2],
    ],
    [
      'argMin of 64 bits, as 64 bits',
      (b, x) => b.argMin(x([5n, -(2n ** 62n), 1n], [3], 'int64'), 0, { outputDataType: 'int64' }),
      [1n],
    ],
    ['cumulativeSum', (b, x) => b.cumulativeSum(x(ramp(4)), 0), [1, 3, 6, 10]],
    ['exclusive', (b, x) => b.cumulativeSum(x(ramp(4)), 0, { exclusive: true }), [0, 1, 3, 6]],
    ['reversed', (b, x) => b.cumulativeSum(x(ramp(4)), 0, { reversed: true }), [10, 9, 7, 4]],
    ['both', (b, x) => b.cumulativeSum(x(ramp(4)), 0, { exclusive: true, reversed: true }), [9, 7, 4, 0]],
    [
      'columns, of 64 bits',
      (b, x) => b.cumulativeSum(x([1n, 2n, 3n, 4n], [2, 2], 'int64'), 0),
      [1n, 2n, 4n, 6n],
    ],
    [
      'integers wrap',
      (b, x) => b.cumulativeSum(x([2 ** 31 - 1, 1], [2], 'int32'), 0),
      [2 ** 31 - 1, -(2 ** 31)],
    ],
  ]),
)

t.test('element by element', (t) =>
  check(t, [
    // erf: Abramowitz and Stegun, table 7.1
    [
      'erf',
      (b, x) => b.erf(x([0, 0.5, -1, 2, 3, inf, -inf, nan])),
      [0, 0.5204998778, -0.8427007929, 0.995322265, 0.9999779095, 1, -1, nan],
    ],
    ['gelu', (b, x) => b.gelu(x([0, 1, -1, inf, -inf])), [0, 0.8413447461, -0.1586552539, inf, 0]],
    [
      'softplus',
      (b, x) => b.softplus(x([0, 1, -1, 100, -100])),
      [Math.LN2, 1.3132616875, 0.3132616875, 100, 0],
    ],
    ['softsign', (b, x) => b.softsign(x([-3, 0, 1])), [-0.75, 0, 0.5]],
    ['sign', (b, x) => b.sign(x([-3, 0, 5, nan])), [-1, 0, 1, nan]],
    ['roundEven', (b, x) => b.roundEven(x([0.5, 1.5, 2.5, -0.5, -1.5, 2.6])), [0, 2, 2, 0, -2, 3]],
    ['reciprocal', (b, x) => b.reciprocal(x([2, -4, 0])), [0.5, -0.25, inf]],
    ['prelu', (b, x) => b.prelu(x([-2, 2, 3, -3], [2, 2]), x([0.5, 10])), [-1, 2, 3, -30]],
    ['where', (b, x) => b.where(x([1, 0, 255], [3], 'uint8'), x([1, 2, 3]), x([-1], [1])), [1, -1, 3]],
    [
      'where, of 64 bits, all three stretched',
      (b, x) => b.where(x([1, 0], [2, 1], 'uint8'), x([1n, 2n], [1, 2], 'int64'), x([9n], [], 'int64')),
      [1n, 2n, 9n, 9n],
      [2, 2],
    ],
    ['notEqual', (b, x) => b.notEqual(x([1, nan]), x([1, nan])), [0, 1]],
    ['logicalAnd', (b, x) => b.logicalAnd(x([0, 1, 7], [3], 'uint8'), x([2], [1], 'uint8')), [0, 1, 1]],
    ['logicalXor', (b, x) => b.logicalXor(x([0, 1, 7], [3], 'uint8'), x([2], [1], 'uint8')), [1, 0, 0]],
    ['isNaN', (b, x) => b.isNaN(x([0, nan, inf])), [0, 1, 0]],
    ['isInfinite', (b, x) => b.isInfinite(x([0, nan, -inf])), [0, 0, 1]],
    [
      'quantizeLinear: halves to even, held to the range',
      (b, x) => b.quantizeLinear(x([-10, 0.25, 0.75, 1000]), x([0.5], [1]), x([3], [1], 'uint8')),
      [0, 3, 5, 255],
    ],
    [
      'quantizeLinear, blocks',
      (b, x) => b.quantizeLinear(x([1, 2, 3, 4]), x([1, 0.5]), x([0, -1], [2], 'int8')),
      [1, 2, 5, 7],
    ],
    [
      'dequantizeLinear',
      (b, x) =>
        b.dequantizeLinear(
          x([-128, 0, 127, 4], [2, 2], 'int8'),
          x([1, 2], [2, 1]),
          x([0, 1], [2, 1], 'int8'),
        ),
      [-128, 0, 252, 6],
    ],
    [
      'gemm',
      (b, x) =>
        b.gemm(x([1, 2, 3, 4], [2, 2]), x([5, 6, 7, 8], [2, 2]), {
          alpha: 2,
          beta: 10,
          c: x([1, 2]),
          bTranspose: true,
        }),
      [2 * 17 + 10, 2 * 23 + 20, 2 * 39 + 10, 2 * 53 + 20],
    ],
    [
      'gemm of a transposed',
      (b, x) => b.gemm(x([1, 2], [2, 1]), x([3, 4], [2, 1]), { aTranspose: true }),
      [11],
      [1, 1],
    ],
  ]),
)

t.test('casts: floats are truncated, integers keep their lowest bits', (t) =>
  check(t, [
    ['float32 to int8', (b, x) => b.cast(x([1.9, -1.9, 0.5]), 'int8'), [1, -1, 0]],
    ['float32 to int64', (b, x) => b.cast(x([-2.5, 2 ** 40]), 'int64'), [-2n, 2n ** 40n]],
    ['int8 to uint8', (b, x) => b.cast(x([-1, 5, -128], [3], 'int8'), 'uint8'), [255, 5, 128]],
    ['int32 to uint8', (b, x) => b.cast(x([300, -1], [2], 'int32'), 'uint8'), [44, 255]],
    ['int32 to uint64', (b, x) => b.cast(x([-1, 7], [2], 'int32'), 'uint64'), [2n ** 64n - 1n, 7n]],
    [
      'int64 to int32',
      (b, x) => b.cast(x([2n ** 32n + 5n, -1n, 2n ** 31n], [3], 'int64'), 'int32'),
      [5, -1, -(2 ** 31)],
    ],
    ['uint64 to uint32', (b, x) => b.cast(x([2n ** 64n - 2n], [1], 'uint64'), 'uint32'), [2 ** 32 - 2]],
    ['int64 to float32', (b, x) => b.cast(x([2n ** 40n, -3n], [2], 'int64'), 'float32'), [2 ** 40, -3]],
  ]),
)

t.test('numbers of a call are rounded to the nearest of the type, halves to the even one', (t) =>
  check(t, [
    [
      'constants',
      (b) =>
        b.concat(
          [1.5, 2.5, -0.6, 1000, nan].map((x) => b.reshape(b.constant('int8', x), [1])),
          0,
        ),
      [2, 2, -1, 127, 0],
    ],
    ['of 64 bits', (b) => b.identity(b.constant('int64', 3.5)), [4n]],
    ['clamp', (b, x) => b.clamp(x([0, 2, 9], [3], 'int32'), { minValue: 0.7, maxValue: 3.5 }), [1, 2, 4]],
    ['padding', (b, x) => b.pad(x([1], [1], 'uint8'), [1], [0], { value: 2.7 }), [3, 1]],
  ]),
)
