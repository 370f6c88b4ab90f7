import t from 'tap'
import {
  MLContext,
  MLGraph,
  MLGraphBuilder,
  MLOperand,
  type MLOperators,
  type MLOpSupportLimits,
  MLTensor,
  ml,
} from './index.js'

/* Objects as Web IDL (section 3.7) makes them of the specification's interfaces. */

const context = await ml.createContext()
const builder = new MLGraphBuilder(context)
const x = builder.input('x', { dataType: 'float32', shape: [2, 3] })
const graph = await builder.build({ y: builder.relu(x) })
const tensor = await context.createTensor({ dataType: 'int8', shape: [4], readable: true })
interface Interface {
  readonly name: string
  readonly prototype: object
}

/** Attributes, and operations with the arguments that they want at least. */
const interfaces: readonly (readonly [
  Interface,
  object,
  attributes: string,
  operations: Record<string, number>,
])[] = [
  [
    MLContext,
    context,
    'accelerated lost',
    {
      dispatch: 3,
      createTensor: 1,
      createConstantTensor: 2,
      readTensor: 1,
      writeTensor: 2,
      opSupportLimits: 0,
      destroy: 0,
    },
  ],
  [MLGraph, graph, '', { destroy: 0 }],
  [MLOperand, x, 'dataType shape', {}],
  [MLTensor, tensor, 'dataType shape readable writable constant', { destroy: 0 }],
]

t.test('members, where they are, and what they are on', async (t) => {
  for (const [{ prototype, name }, object, attributes, operations] of interfaces) {
    const own = attributes.split(' ').filter((each) => each !== '')
    t.same(Object.keys(prototype).sort(), [...own, ...Object.keys(operations)].sort(), `${name}: enumerable`)
    t.same(Reflect.ownKeys(object), [], 'and none of them the object has itself')
    t.equal(Object.prototype.toString.call(object), `[object ${name}]`)
    for (const attribute of own) {
      const { get, set } = Object.getOwnPropertyDescriptor(prototype, attribute)!
      t.equal(set, undefined, `${attribute} is read-only`)
      t.throws(() => Object.assign(object, { [attribute]: 1 }), TypeError)
      t.throws(() => get!.call({}), TypeError, 'and is of the interface')
      t.equal(Reflect.get(object, attribute), Reflect.get(object, attribute), 'each time the same')
    }
    for (const [operation, length] of Object.entries(operations)) {
      const method = Reflect.get(prototype, operation) as (...given: unknown[]) => unknown
      t.equal(method.length, length, operation)
      const call = async () => method.call(Object.create(object), tensor, {}, {})
      await t.rejects(call(), TypeError, `${operation} of what only inherits from one`)
    }
  }
  t.throws(() => (x.shape as number[]).push(1), TypeError)
  t.throws(() => (tensor.shape as number[]).fill(9), TypeError)
})

t.test('interfaces without a constructor', async (t) => {
  for (const [Each] of interfaces)
    for (const given of [[], [{}], [Symbol('internal'), {}], [null]])
      t.throws(
        () => Reflect.construct(Each as never, given),
        { name: 'TypeError', message: /^Illegal constructor/ },
        Each.name,
      )
})

t.test('the builder', async (t) => {
  const { prototype, name, length } = MLGraphBuilder as unknown as {
    prototype: object
    name: string
    length: number
  }
  t.match({ name, length }, { name: 'MLGraphBuilder', length: 1 })
  t.equal(Object.prototype.toString.call(builder), '[object MLGraphBuilder]')
  const lengths = {
    input: 2,
    constant: 1,
    build: 1,
    add: 2,
    relu: 1,
    concat: 2,
    lstmCell: 6,
    gru: 5,
    where: 3,
    pad: 3,
  }
  for (const [method, wanted] of Object.entries(lengths))
    t.equal((prototype as Record<string, () => void>)[method]!.length, wanted, method)
  t.equal(Object.keys(prototype).length, 98, '95 operators, input, constant and build')
  t.throws(() => (MLGraphBuilder as unknown as () => void)(), TypeError)
  t.throws(() => new (MLGraphBuilder as unknown as new () => object)(), TypeError)
  await t.rejects(builder.build.call(Object.create(builder), {}), TypeError)
  t.throws(() => builder.relu.call({} as MLGraphBuilder, x), TypeError)
})

t.test('limits have a member for each operator, in their type, too', async (t) => {
  type Whole = 'preferredInputLayout' | 'maxTensorByteLength' | 'input' | 'constant' | 'output'
  type Differing =
    | Exclude<keyof MLOperators | Whole, keyof MLOpSupportLimits>
    | Exclude<keyof MLOpSupportLimits, keyof MLOperators | Whole>
  const differing: [Differing] extends [never] ? true : false = true
  t.ok(differing)
  const { conv2d, lstm, maxTensorByteLength, preferredInputLayout } = context.opSupportLimits()
  t.strictSame(conv2d.filter.rankRange, { min: 4, max: 4 })
  t.strictSame(lstm.output2.rankRange, { min: 4, max: 4 })
  t.match(
    { maxTensorByteLength, preferredInputLayout },
    { maxTensorByteLength: 0x7fffffff, preferredInputLayout: 'nchw' },
  )
  t.not(context.opSupportLimits(), context.opSupportLimits(), 'each time fresh')
})

t.test('options are read as dictionaries are', async (t) => {
  const read: string[] = []
  const watched = (members: Record<string, unknown>) =>
    new Proxy(members, {
      get(target, name) {
        read.push(String(name))
        return target[String(name)]
      },
    })
  const other = new MLGraphBuilder(context)
  const y = other.input('y', watched({ shape: [1, 1, 4, 4], dataType: 'float32' }) as never)
  t.same(read.splice(0), ['dataType', 'shape'])
  await context.createTensor(watched({ writable: 1, shape: [1], dataType: 'float32' }) as never)
  t.same(read.splice(0), ['dataType', 'shape', 'readable', 'writable'], 'what is inherited first')
  other.averagePool2d(y, watched({}))
  t.same(
    read,
    'label dilations layout outputShapeRounding outputSizes padding strides windowDimensions'.split(' '),
  )
  for (const options of [undefined, null, () => {}, []]) t.ok(other.relu(y, options as never))
  for (const options of [1, 'options', true, 1n, Symbol('options')])
    t.throws(() => other.relu(y, options as never), { name: 'TypeError', message: /dictionary is wanted/ })
  const own = new TypeError('relu: of the caller')
  const thrower = {
    get label(): string {
      throw own
    },
  }
  try {
    other.softmax(y, 0, thrower)
    t.fail('nothing is thrown')
  } catch (error) {
    t.equal(error, own, 'what a getter throws is left as it is')
  }
})
