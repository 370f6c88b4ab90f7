import t from 'tap'
import {
  args,
  int32,
  no,
  type Options,
  of,
  on,
  opts,
  outcomes,
  rules,
  type Shape,
  uint8,
} from './rules.test.helper.js'

/* What the steps of all other operators say of shapes and numbers. What limits say of types and ranks is in validation.test.ts. */

const large = 2 ** 31 - 1

rules(
  'argMin argMax',
  [args([[2, 3, 4]], 0), [3, 4]],
  [opts([[2, 3, 4]], { keepDimensions: true }, 2), [2, 3, 1]],
  [opts([[2, 3]], { outputDataType: 'int64' }, 1), [2]],
  [args([[5]], 0), []],
  [args([[2, 3]], 2), no],
  [args([[]], 0), no],
  ...(['float32', 'float16', 'uint32', 'uint64', 'int8', 'uint8'] as const).map(
    (outputDataType) => [opts([[2, 3]], { outputDataType }, 1), no] as const,
  ),
)
rules(
  'clamp',
  [opts([[2]], { minValue: 1, maxValue: 1 }), [2]],
  [opts([[2]], { minValue: 2, maxValue: 1 }), no],
  [opts([[2]], { minValue: Number.POSITIVE_INFINITY }), [2]],
  [opts([[2]], { minValue: Number.POSITIVE_INFINITY, maxValue: 0 }), no],
  [opts([[2]], { minValue: Number.NaN, maxValue: 0 }), [2]],
  [opts([[]], { minValue: -1n, maxValue: 1n }), []],
)
rules(
  'concat',
  [
    args(
      [
        [2, 3],
        [2, 4],
        [2, 5],
      ],
      1,
    ),
    [2, 12],
  ],
  [args([[2, 3]], 0), [2, 3]],
  [args([], 0), no],
  [
    args(
      [
        [2, 3],
        [3, 3],
      ],
      1,
    ),
    no,
  ],
  [
    args(
      [
        [2, 3],
        [2, 3],
      ],
      2,
    ),
    no,
  ],
  [
    args(
      [
        [2, 3],
        [2, 3, 1],
      ],
      0,
    ),
    no,
  ],
  [args([[], []], 0), no],
)
rules('cumulativeSum softmax', [args([[2, 3]], 0), [2, 3]], [args([[2, 3]], 2), no], [args([[3]], 1), no])
rules(
  'cumulativeSum',
  [args([[2, 3]], 2 ** 32 + 1), [2, 3]],
  [args([[2, 3]], Number.NaN), [2, 3]],
  [args([[2, 3]], -1), no],
)
rules(
  'add sub mul div max min pow equal notEqual greater greaterOrEqual lesser lesserOrEqual prelu',
  [on([2, 3], [3]), [2, 3]],
  [on([], [2, 3]), [2, 3]],
  [on([], []), []],
  [on([4, 1], [1, 5]), [4, 5]],
  [on([2, 1, 3], [7, 1]), [2, 7, 3]],
  [on([2, 3], [2]), no],
  [on([2, 3], [4, 3]), no],
  [on([2, 3], [2, 3, 3]), no],
)
rules(
  'expand',
  [args([[3]], [2, 3]), [2, 3]],
  [args([[]], [2, 3]), [2, 3]],
  [args([[1, 3]], [4, 3]), [4, 3]],
  [args([[]], []), []],
  [args([[2, 3]], [2]), no],
  [args([[3]], [3, 2]), no],
  [args([[3]], [1]), no],
  [args([[1]], [0]), no],
  [args([[1]], [1, 1, 1, 1, 1, 1, 1, 1, 1]), no],
  [args([[1]], [large]), no],
)
rules(
  'pad',
  [args([[2, 3]], [1, 0], [0, 2]), [3, 5]],
  [args([[]], [], []), []],
  [opts([[3]], { mode: 'reflection' }, [2], [2]), [7]],
  [opts([[3]], { mode: 'edge' }, [9], [9]), [21]],
  [opts([[3]], { mode: 'reflection' }, [3], [0]), no],
  [opts([[3]], { mode: 'reflection' }, [0], [3]), no],
  [args([[2, 3]], [1], [0, 2]), no],
  [args([[2, 3]], [1, 0], [0]), no],
  [args([[2, 3]], [1, 0, 0], [0, 2, 0]), no],
  [args([[3]], [large], [large]), no],
)
rules(
  'reduceL1 reduceL2 reduceLogSum reduceLogSumExp reduceMax reduceMean reduceMin reduceProduct reduceSum reduceSumSquare',
  [on([2, 3, 4]), []],
  [on([]), []],
  [opts([[2, 3, 4]], { axes: [2, 0] }), [3]],
  [opts([[2, 3, 4]], { axes: [2, 0], keepDimensions: true }), [1, 3, 1]],
  [opts([[2, 3, 4]], { axes: [] }), [2, 3, 4]],
  [opts([[2, 3, 4]], { keepDimensions: true }), [1, 1, 1]],
  [opts([[2, 3, 4]], { axes: [3] }), no],
  [opts([[2, 3, 4]], { axes: [0, 0] }), no],
  [opts([[]], { axes: [0] }), no],
)
rules(
  'reshape',
  [args([[2, 3]], [6]), [6]],
  [args([[1, 1]], []), []],
  [args([[]], [1, 1]), [1, 1]],
  [args([[2, 3]], [7]), no],
  [args([[2, 3]], [0, 6]), no],
  [args([[2, 3]], []), no],
  [args([[1]], [1, 1, 1, 1, 1, 1, 1, 1, 1]), no],
  [args([[1]], [2 ** 32 - 1]), no],
)
rules(
  'reverse',
  [on([]), []],
  [opts([[2, 3]], { axes: [1] }), [2, 3]],
  [opts([[2, 3]], { axes: [] }), [2, 3]],
  [opts([[2, 3]], { axes: [2] }), no],
  [opts([[2, 3]], { axes: [1, 1] }), no],
)
rules(
  'slice',
  [args([[4, 5]], [1, 0], [3, 5]), [3, 5]],
  [opts([[4, 5]], { strides: [2, 3] }, [1, 0], [3, 5]), [2, 2]],
  [opts([[4]], { strides: [9] }, [0], [4]), [1]],
  [args([[]], [], []), []],
  [args([[4, 5]], [1, 0], [4, 5]), no],
  [args([[4, 5]], [4, 0], [1, 5]), no],
  [args([[4, 5]], [0, 0], [0, 5]), no],
  [args([[4, 5]], [0], [4, 5]), no],
  [args([[4, 5]], [0, 0], [4]), no],
  [args([[]], [0], [1]), no],
  [opts([[4, 5]], { strides: [1] }, [0, 0], [4, 5]), no],
  [opts([[4, 5]], { strides: [1, 0] }, [0, 0], [4, 5]), no],
  [args([[4]], [2 ** 32 - 1], [2 ** 32 - 1]), no],
)
rules(
  'split',
  [args([[6, 2]], 3), [2, 2], [2, 2], [2, 2]],
  [args([[6, 2]], [1, 5]), [1, 2], [5, 2]],
  [opts([[6, 2]], { axis: 1 }, 2), [6, 1], [6, 1]],
  [args([[6]], 1), [6]],
  [args([[6]], 4), no],
  [args([[6]], 0), no],
  [args([[6]], []), no],
  [args([[6]], [6, 0]), no],
  [args([[6]], [2, 3]), no],
  [args([[6]], [2, 5]), no],
  [opts([[6]], { axis: 1 }, 1), no],
  [args([[8193]], 8193), no],
)
rules(
  'tile',
  [args([[2, 3]], [1, 4]), [2, 12]],
  [args([[]], []), []],
  [args([[2, 3]], [2 ** 32 + 1, 1]), [2, 3]],
  [args([[2, 3]], [2]), no],
  [args([[2, 3]], [0, 1]), no],
  [args([[2, 3]], [1, 1, 1]), no],
  [args([[2]], [2 ** 31]), no],
)
rules(
  'transpose',
  [on([2, 3, 4]), [4, 3, 2]],
  [opts([[2, 3, 4]], { permutation: [0, 2, 1] }), [2, 4, 3]],
  [opts([[]], { permutation: [] }), []],
  [opts([[2, 3]], { permutation: [0] }), no],
  [opts([[2, 3]], { permutation: [0, 0] }), no],
  [opts([[2, 3]], { permutation: [0, 2] }), no],
  [opts([[2, 3]], { permutation: [0, 1, 2] }), no],
)
rules(
  'triangular',
  [opts([[2, 3]], { diagonal: -(2 ** 31) }), [2, 3]],
  [opts([[2, 3]], { diagonal: -1.9, upper: false }), [2, 3]],
)

rules(
  'gather',
  [on([4, 5], int32(2, 3)), [2, 3, 5]],
  [opts([[4, 5, 6], int32(2)], { axis: 1 }), [4, 2, 6]],
  [opts([[4, 5], int32()], { axis: 1 }), [4]],
  [on([4], int32()), []],
  [opts([[4, 5], int32(2)], { axis: 2 }), no],
  [on([1, 1, 1, 1, 1], int32(1, 1, 1, 1, 1)), no],
)
rules(
  'gatherElements',
  [on([4, 5], int32(9, 5)), [9, 5]],
  [opts([[4, 5], int32(4, 1)], { axis: 1 }), [4, 1]],
  [on([4, 5], int32(4, 4)), no],
  [opts([[4, 5], int32(3, 5)], { axis: 1 }), no],
  [opts([[4, 5], int32(4, 5)], { axis: 2 }), no],
)
rules(
  'gatherND',
  [on([4, 5, 6], int32(3, 1)), [3, 5, 6]],
  [on([4, 5, 6], int32(3)), []],
  [on([4, 5], int32(2, 3, 2)), [2, 3]],
  [on([4, 5], int32(2, 3)), no],
  [on([1, 1, 1, 1, 1, 1], int32(1, 1, 1, 1, 1)), no],
)
rules(
  'scatterElements',
  [on([4, 5], int32(2, 5), [2, 5]), [4, 5]],
  [opts([[4, 5], int32(4, 7), [4, 7]], { axis: 1 }), [4, 5]],
  [on([4, 5], int32(2, 4), [2, 4]), no],
  [on([4, 5], int32(2, 5), [3, 5]), no],
  [opts([[4, 5], int32(2, 5), [2, 5]], { axis: 2 }), no],
)
rules(
  'scatterND',
  [on([4, 5], int32(3, 2), [3]), [4, 5]],
  [on([4, 5], int32(2), []), [4, 5]],
  [on([4, 5], int32(3, 1), [3, 4]), no],
  [on([4, 5], int32(3, 3), [3]), no],
  [on([4, 5], int32(3, 2), [3, 1]), no],
)
for (const [operator, input, scale, zeroPoint] of [
  ['quantizeLinear', of, of, uint8],
  ['dequantizeLinear', uint8, of, uint8],
] as const)
  rules(
    operator,
    [on(input(4, 6), scale(1, 1), zeroPoint(1, 1)), [4, 6]],
    [on(input(4, 6), scale(4, 2), zeroPoint(4, 2)), [4, 6]],
    [on(input(), scale(), zeroPoint()), []],
    [on(input(4, 6), scale(), zeroPoint()), no],
    [on(input(4, 6), scale(6), zeroPoint(6)), no],
    [on(input(4, 6), scale(3, 6), zeroPoint(3, 6)), no],
    [on(input(4, 6), scale(8, 6), zeroPoint(8, 6)), no],
    [on(input(4, 6), scale(4, 6), zeroPoint(4, 1)), no],
  )
rules(
  'where',
  [on(uint8(2, 1), [3], [4, 1, 1]), [4, 2, 3]],
  [on(uint8(), [], [3]), [3]],
  [on(uint8(2), [3], [3]), no],
  [on(uint8(3), [2], [3]), no],
)
const [steps, batches, inputs, hidden] = [2, 3, 4, 5]
for (const [operator, gates, functions] of [
  ['gru', 3, 2],
  ['lstm', 4, 3],
] as const) {
  const all = gates * hidden
  const outputs = (directions: number) =>
    new Array(operator === 'gru' ? 1 : 2).fill([directions, batches, hidden])
  const of_ = (options: Options = {}, directions = 1, rest: readonly number[] = [steps, hidden]) =>
    opts(
      [
        [steps, batches, inputs],
        [directions, all, inputs],
        [directions, all, hidden],
      ],
      options,
      ...rest,
    )
  const states = { bias: of(2, all), recurrentBias: of(2, all), initialHiddenState: of(2, batches, hidden) }
  rules(
    operator,
    [of_(), ...outputs(1)],
    [of_({ direction: 'backward', returnSequence: true }), ...outputs(1), [steps, 1, batches, hidden]],
    [
      of_({ direction: 'both', returnSequence: true, ...states }, 2),
      ...outputs(2),
      [steps, 2, batches, hidden],
    ],
    [of_({ activations: new Array(functions).fill('relu') }), ...outputs(1)],
    [of_({}, 1, [steps + 1, hidden]), no],
    [of_({}, 1, [0, hidden]), no],
    [of_({}, 1, [steps, hidden + 1]), no],
    [of_({}, 1, [steps, 0]), no],
    [of_({}, 1, [steps, 2 ** 30]), no],
    [of_({ direction: 'both' }), no],
    [of_({}, 2), no],
    [of_({ bias: of(1, all - 1) }), no],
    [of_({ recurrentBias: of(2, all) }), no],
    [of_({ initialHiddenState: of(1, hidden, batches) }), no],
    [of_({ activations: [] }), no],
    [of_({ activations: new Array(functions + 1).fill('relu') }), no],
  )
  const cell = (options: Options = {}, state: Shape = [batches, hidden], size = hidden) =>
    opts(
      [
        [batches, inputs],
        [all, inputs],
        [all, hidden],
        ...new Array<Shape>(operator === 'gru' ? 1 : 2).fill(state),
      ],
      options,
      size,
    )
  const cellOutputs = new Array(operator === 'gru' ? 1 : 2).fill([batches, hidden])
  rules(
    `${operator}Cell`,
    [cell(), ...cellOutputs],
    [
      cell({ bias: of(all), recurrentBias: of(all), activations: new Array(functions).fill('tanh') }),
      ...cellOutputs,
    ],
    [cell({}, [hidden, batches]), no],
    [cell({}, [batches, hidden], hidden - 1), no],
    [cell({}, [batches, hidden], 0), no],
    [cell({ bias: of(1) }), no],
    [cell({ recurrentBias: of(hidden) }), no],
    [cell({ activations: ['tanh'] }), no],
  )
  if (operator === 'lstm') {
    rules(
      'lstm',
      [of_({ peepholeWeight: of(1, all) }), no],
      [of_({ initialCellState: of(batches, hidden, 1) }), no],
    )
    rules(
      'lstmCell',
      [cell({ peepholeWeight: of(all) }), no],
      [cell({ peepholeWeight: of(3 * hidden) }), ...cellOutputs],
    )
  }
}

t.test('calls', async (t) => {
  for (const { what, wrong } of outcomes()) t.equal(wrong, undefined, what)
})
