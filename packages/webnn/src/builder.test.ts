import t from 'tap'
import type { MLOperandDataType } from './data-type.js'
import { type MLContext, MLGraphBuilder, type MLOperand, ml } from './index.js'

const context = await ml.createContext()
const fresh = () => new MLGraphBuilder(context)
let names = 0
const tensor = (builder: MLGraphBuilder, shape: number[], dataType: MLOperandDataType = 'float32') =>
  builder.input(`input${names++}`, { dataType, shape })

/** A call that is to be refused: what it is, the call, and what the message has to say. */
type Refusal = readonly [what: string, call: (builder: MLGraphBuilder) => unknown, says: RegExp]

const label = { label: 'the one' }
const refusals: readonly Refusal[] = [
  ['an operand of another builder', (b) => b.relu(tensor(fresh(), [1])), /another MLGraphBuilder/],
  ['no operand', (b) => b.relu({} as MLOperand), /MLOperand is wanted/],
  [
    'too few arguments',
    (b) => (b.add as (a: MLOperand) => unknown)(tensor(b, [1])),
    /2 arguments are wanted, found 1/,
  ],
  ['options that are none', (b) => b.relu(tensor(b, [1]), 3 as never), /dictionary is wanted/],
  [
    'shapes that do not meet',
    (b) => b.add(tensor(b, [2, 3]), tensor(b, [2, 4]), label),
    /^\[the one\] add: shapes \[2,3\] and \[2,4\]/,
  ],
  [
    'two data types',
    (b) => b.add(tensor(b, [2]), tensor(b, [2], 'int32')),
    /data type of a, float32, found int32/,
  ],
  [
    'a type that an operator has not',
    (b) => b.exp(tensor(b, [2], 'int8')),
    /input wants one of float32, float16, found int8/,
  ],
  [
    'a rank that an operator has not',
    (b) => b.conv2d(tensor(b, [1, 2, 3]), tensor(b, [1, 2, 3, 3])),
    /input wants 4 dimensions, found 3/,
  ],
  ['an axis beyond the rank', (b) => b.softmax(tensor(b, [2, 3]), 2), /axis 2 is not within the rank/],
  [
    'an axis that is no integer',
    (b) => b.softmax(tensor(b, [2, 3]), -1),
    /integer from 0 to 4294967295 is wanted, found -1/,
  ],
  [
    'an axis that is a bigint',
    (b) => b.softmax(tensor(b, [2, 3]), 1n as never),
    /a number is wanted, found 1n/,
  ],
  [
    'axes that are there twice',
    (b) => b.reduceSum(tensor(b, [2, 3]), { axes: [1, 1] }),
    /name an axis twice/,
  ],
  [
    'a mode that there is not',
    (b) => b.pad(tensor(b, [2]), [1], [1], { mode: 'symmetric' as never }),
    /one of constant, edge, reflection is wanted, found symmetric/,
  ],
  [
    'a reflection of too much',
    (b) => b.pad(tensor(b, [2]), [2], [0], { mode: 'reflection' }),
    /a reflection of \[2\]/,
  ],
  [
    'channels that do not fit',
    (b) => b.conv2d(tensor(b, [1, 3, 5, 5]), tensor(b, [4, 2, 3, 3])),
    /filter of 3 input channels, found 2/,
  ],
  [
    'a window that is too large',
    (b) => b.conv2d(tensor(b, [1, 1, 2, 2]), tensor(b, [1, 1, 3, 3])),
    /dimension of 0/,
  ],
  [
    'strides of 0',
    (b) => b.conv2d(tensor(b, [1, 1, 5, 5]), tensor(b, [1, 1, 3, 3]), { strides: [0, 1] }),
    /strides \[0,1\] must be at least 1/,
  ],
  [
    'three paddings',
    (b) => b.conv2d(tensor(b, [1, 1, 5, 5]), tensor(b, [1, 1, 3, 3]), { padding: [0, 1, 1] }),
    /padding wants 4 numbers, found 3/,
  ],
  [
    'an output padding that is a stride',
    (b) => b.convTranspose2d(tensor(b, [1, 1, 5, 5]), tensor(b, [1, 1, 3, 3]), { outputPadding: [1, 0] }),
    /outputPadding \[1,0\]/,
  ],
  [
    'output sizes of a pool that cannot be',
    (b) =>
      b.maxPool2d(tensor(b, [1, 1, 5, 5]), {
        windowDimensions: [2, 2],
        strides: [2, 2],
        outputSizes: [4, 4],
      }),
    /\[2,2\] or \[3,3\]/,
  ],
  [
    'matrices that do not meet',
    (b) => b.matmul(tensor(b, [2, 3]), tensor(b, [4, 2])),
    /a has 3 columns and b 4 rows/,
  ],
  [
    'a c that cannot be broadcast',
    (b) => b.gemm(tensor(b, [2, 3]), tensor(b, [3, 4]), { c: tensor(b, [3, 4]) }),
    /cannot be broadcast to \[2,4\]/,
  ],
  [
    'a clamp of nothing',
    (b) => b.clamp(tensor(b, [2]), { minValue: 2, maxValue: 1 }),
    /minValue 2 is above maxValue 1/,
  ],
  [
    'a reshape of another size',
    (b) => b.reshape(tensor(b, [2, 3]), [7]),
    /has 6 elements, and newShape \[7\] has 7/,
  ],
  [
    'a slice beyond the end',
    (b) => b.slice(tensor(b, [4]), [2], [3]),
    /3 elements from 2 on go beyond dimension 0/,
  ],
  [
    'splits that are not the whole',
    (b) => b.split(tensor(b, [6]), [2, 3]),
    /are 5 elements together, and axis 0 has 6/,
  ],
  ['a split that does not divide', (b) => b.split(tensor(b, [5]), 2), /which 2 does not divide/],
  [
    'indices of a wrong type',
    (b) => b.gather(tensor(b, [4]), tensor(b, [2])),
    /indices wants one of int32, uint32, int64, found float32/,
  ],
  [
    'updates of a wrong shape',
    (b) => b.scatterND(tensor(b, [4, 4]), tensor(b, [2, 1], 'int32'), tensor(b, [2, 3])),
    /updates wants the shape \[2,4\]/,
  ],
  [
    'a scale that does not divide',
    (b) => b.quantizeLinear(tensor(b, [4]), tensor(b, [3]), tensor(b, [3], 'int8')),
    /does not divide that of the input/,
  ],
  [
    'a permutation of too little',
    (b) => b.transpose(tensor(b, [2, 3]), { permutation: [0] }),
    /a number for each of the 2 dimensions/,
  ],
  [
    'weights of another size',
    (b) => b.gruCell(tensor(b, [1, 2]), tensor(b, [9, 3]), tensor(b, [9, 3]), tensor(b, [1, 3]), 3),
    /weight wants the shape \[9,2\], found \[9,3\]/,
  ],
  [
    'activations that are too few',
    (b) =>
      b.lstmCell(
        tensor(b, [1, 2]),
        tensor(b, [12, 2]),
        tensor(b, [12, 3]),
        tensor(b, [1, 3]),
        tensor(b, [1, 3]),
        3,
        { activations: ['relu'] },
      ),
    /wants 3 functions, found 1/,
  ],
  [
    'an output that is too large',
    (b) => b.expand(tensor(b, [1]), [65_536, 65_536]),
    /more than the context takes/,
  ],
  ['a dimension of 0', (b) => tensor(b, [0]), /a tensor of \[0\] cannot be/],
  ['too many dimensions', (b) => tensor(b, new Array(9).fill(1)), /cannot be/],
  ['an input without a name', (b) => b.input('', { dataType: 'float32', shape: [] }), /a name is wanted/],
  [
    'a constant of too few bytes',
    (b) => b.constant({ dataType: 'float32', shape: [2] }, new Float32Array(1)),
    /8 bytes are wanted, found 4/,
  ],
  [
    'a constant in a wrong view',
    (b) => b.constant({ dataType: 'float32', shape: [1] }, new Int32Array(1)),
    /Float32Array is wanted/,
  ],
]

t.test('what the specification refuses is a TypeError that says why', async (t) => {
  for (const [what, call, says] of refusals)
    t.throws(() => call(fresh()), { name: 'TypeError', message: says }, what)
})

t.test('a builder that has built, or whose context is lost, is of no use', async (t) => {
  const builder = fresh()
  await builder.build({ out: builder.relu(tensor(builder, [1])) })
  t.throws(() => tensor(builder, [1]), { name: 'InvalidStateError' })
  await t.rejects(builder.build({}), { name: 'InvalidStateError' })
  const foreign = fresh().constant('float32', 1)
  t.throws(() => builder.relu(foreign), { name: 'InvalidStateError' }, 'said before whose operand it is')
  await t.rejects(builder.build({ foreign }), { name: 'InvalidStateError' })
  t.throws(() => builder.relu(1 as never), { name: 'TypeError' }, 'said after conversions')
  const lost: MLContext = await ml.createContext()
  const late = new MLGraphBuilder(lost)
  lost.destroy()
  t.throws(() => tensor(late, [1]), { name: 'InvalidStateError' })
  t.throws(() => new MLGraphBuilder(lost), { name: 'InvalidStateError' })
  t.throws(() => new MLGraphBuilder({} as MLContext), { name: 'TypeError' })
})

t.test('build refuses what is no output', async (t) => {
  const builder = fresh()
  const input = tensor(builder, [1])
  await t.rejects(builder.build({}), { name: 'TypeError', message: /an output is wanted/ })
  await t.rejects(builder.build({ input }), { name: 'TypeError', message: /is an input or a constant/ })
  await t.rejects(builder.build({ '': builder.relu(input) }), { name: 'TypeError', message: /wants a name/ })
  await t.rejects(builder.build({ other: fresh().constant('float32', 1) }), {
    name: 'TypeError',
    message: /another/,
  })
  t.ok(
    await builder.build({ '\ud800': builder.relu(input) }),
    'a refusal costs nothing; a lone surrogate is a name',
  )
})

t.test('shapes and data types of operands', async (t) => {
  const b = fresh()
  const image = tensor(b, [1, 3, 8, 8])
  t.strictSame(
    b.conv2d(image, tensor(b, [4, 3, 3, 3]), { strides: [2, 2], padding: [1, 1, 1, 1] }).shape,
    [1, 4, 4, 4],
  )
  t.strictSame(
    b.convTranspose2d(image, tensor(b, [3, 2, 3, 3]), { strides: [2, 2], groups: 3 }).shape,
    [1, 6, 17, 17],
  )
  t.strictSame(b.averagePool2d(image).shape, [1, 3, 1, 1])
  t.strictSame(
    b.maxPool2d(image, { windowDimensions: [3, 3], strides: [2, 2], outputShapeRounding: 'ceil' }).shape,
    [1, 3, 4, 4],
  )
  t.strictSame(b.argMax(image, 1, { outputDataType: 'int64' }).dataType, 'int64')
  t.strictSame(b.matmul(tensor(b, [2, 1, 4, 5]), tensor(b, [3, 5, 6])).shape, [2, 3, 4, 6])
  t.strictSame(b.gather(tensor(b, [2, 5, 4]), tensor(b, [3, 3], 'int32'), { axis: 1 }).shape, [2, 3, 3, 4])
  t.strictSame(
    b.split(tensor(b, [6, 2]), [1, 5]).map(({ shape }) => shape),
    [
      [1, 2],
      [5, 2],
    ],
  )
  t.strictSame(b.resample2d(image, { scales: [1.5, 2] }).shape, [1, 3, 12, 16])
  t.strictSame(b.reduceMean(image, { axes: [2, 3], keepDimensions: true }).shape, [1, 3, 1, 1])
  const states = b.lstm(tensor(b, [2, 1, 3]), tensor(b, [2, 8, 3]), tensor(b, [2, 8, 2]), 2, 2, {
    direction: 'both',
    returnSequence: true,
  })
  t.strictSame(
    states.map(({ shape }) => shape),
    [
      [2, 1, 2],
      [2, 1, 2],
      [2, 2, 1, 2],
    ],
  )
  t.throws(() => (image.shape as number[]).push(1), TypeError, 'a shape is frozen')
})
