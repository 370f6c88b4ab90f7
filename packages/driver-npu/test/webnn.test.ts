import { openDevice } from '@uaccel/core'
import { loopback } from '@uaccel/model'
import {
  explain,
  type MLContext,
  MLGraphBuilder,
  type MLOperand,
  type MLOperandDataType,
  ml,
} from '@uaccel/webnn'
import type { Accelerator } from '@uaccel/webnn/accelerator'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { npuModel } from '../model/index.js'
import { Npu } from '../src/driver.js'
import { openNpuAccelerator } from '../src/webnn/index.js'
import { type Build, cases, type OperatorCase, random, type Tensor } from './webnn-cases.js'

t.setTimeout(200_000)
const RUNS = Number(process.env.UACCEL_WEBNN_RUNS ?? 6)
/** What is found again with the same number: `UACCEL_SEED`. */
const SEED = Number(process.env.UACCEL_SEED ?? 20)

const arrays = {
  float32: Float32Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const
type Numbers = InstanceType<(typeof arrays)[keyof typeof arrays]>

async function computed(
  context: MLContext,
  build: Build,
  tensors: readonly Tensor[],
): Promise<{
  readonly places: string
  readonly results: readonly { type: MLOperandDataType; data: Numbers }[]
}> {
  const builder = new MLGraphBuilder(context)
  const operands = tensors.map(({ type, shape, data, constant }, at) =>
    constant
      ? builder.constant({ dataType: type, shape }, data)
      : builder.input(`x${at}`, { dataType: type, shape }),
  )
  const made = build(builder, operands)
  const outputs: readonly MLOperand[] = Array.isArray(made) ? made : [made as MLOperand]
  const graph = await builder.build(Object.fromEntries(outputs.map((output, at) => [`y${at}`, output])))
  const inputs = await Promise.all(
    tensors.map(async ({ type, shape, data, constant }) => {
      if (constant) return undefined
      const tensor = await context.createTensor({ dataType: type, shape, writable: true })
      context.writeTensor(tensor, data)
      return tensor
    }),
  )
  const results = await Promise.all(
    outputs.map(({ dataType, shape }) =>
      context.createTensor({ dataType, shape: [...shape], readable: true }),
    ),
  )
  context.dispatch(
    graph,
    Object.fromEntries(inputs.flatMap((tensor, at) => (tensor ? [[`x${at}`, tensor]] : []))),
    Object.fromEntries(results.map((tensor, at) => [`y${at}`, tensor])),
  )
  const read = await Promise.all(results.map((tensor) => context.readTensor(tensor)))
  const places = JSON.stringify(explain(graph))
  for (const tensor of [...inputs, ...results]) tensor?.destroy()
  graph.destroy()
  return {
    places,
    results: read.map((bytes, at) => {
      const type = outputs[at]!.dataType as keyof typeof arrays
      return { type, data: new arrays[type](bytes) }
    }),
  }
}

/** Integers are equal; numbers are as near as the case says, in units in the last place or against what was added up. */
function near(wanted: Numbers, found: Numbers, { ulps = 0, absolute = 0 }: OperatorCase): number {
  for (let at = 0; at < wanted.length; at++) {
    const [a, b] = [Number(wanted[at]), Number(found[at])]
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue
    const unit = 2 ** Math.max(Math.floor(Math.log2(Math.abs(a))) - 23, -149)
    if (!(Math.abs(a - b) <= Math.max(ulps * unit, absolute))) return at
  }
  return -1
}

async function npuContext(t: Test): Promise<{ context: MLContext; npu: Npu; accelerator: Accelerator }> {
  const transport = loopback(npuModel, {})
  const device = await openDevice(transport)
  const npu = await Npu.start(device)
  const accelerator = await openNpuAccelerator(npu)
  const context = await ml.createContext({ device: accelerator as Accelerator })
  t.teardown(async () => {
    context.destroy()
    await accelerator.close()
    await device.release()
    transport.assertClean()
    await transport.close()
  })
  return { context, npu, accelerator }
}

t.test('each operator gives what the exact kernel of the CPU gives', async (t) => {
  const { context } = await npuContext(t)
  const cpu = await ml.createContext({ accelerated: false })
  for (const [name, one] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      let runs = 0
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 - 1 }), async (seed) => {
          const { tensors, build } = one.make(random(seed))
          const wanted = await computed(cpu, build, tensors)
          const found = await computed(context, build, tensors)
          if (!one.cpu && found.places.includes('"cpu"')) throw new Error(`on the CPU: ${found.places}`)
          for (const [at, { data }] of wanted.results.entries()) {
            const bad = near(data, found.results[at]!.data, one)
            if (bad >= 0)
              throw new Error(
                `output ${at}, element ${bad}: wanted ${data[bad]}, found ${found.results[at]!.data[bad]}; shapes ${tensors.map(({ shape, type }) => `${type}[${shape}]`)}`,
              )
          }
          runs++
        }),
        { numRuns: RUNS, seed: SEED, endOnFailure: true },
      )
      t.equal(runs, RUNS)
    })
  }
})

/** A step of a chain: an operator on the result so far, and on operands that are broadcast to it. */
const links = [
  'relu',
  'sigmoid',
  'tanh',
  'neg',
  'abs',
  'add',
  'sub',
  'mul',
  'max',
  'min',
  'prelu',
  'clamp',
  'linear',
  'where',
  'greater',
  'quantize',
] as const

function chain(seed: number): { readonly tensors: readonly Tensor[]; readonly build: Build } {
  const r = random(seed)
  const shape = [2, r.integer(1, 3), 4, 5]
  const tensors: Tensor[] = [r.tensor('float32', shape, -1, 1, false)]
  const head = r.pick([
    'add',
    'conv2d',
    'matmul',
    'softmax',
    'transpose',
    'reduce',
    'pool',
    'resample',
    'layer',
  ] as const)
  const operand = (of: readonly number[], constant?: boolean, type: 'float32' | 'uint8' = 'float32') =>
    tensors.push(r.tensor(type, of, type === 'uint8' ? 0 : -1, 1, constant)) - 1
  const channels = shape[1]!
  let result = shape
  const starts: Readonly<Record<typeof head, () => Build>> = {
    add: () => {
      const at = operand(shape)
      return (b, x) => b.add(x[0]!, x[at]!)
    },
    conv2d: () => {
      const [filter, bias] = [operand([channels, channels, 3, 3]), operand([channels])]
      return (b, x) => b.conv2d(x[0]!, x[filter]!, { bias: x[bias]!, padding: [1, 1, 1, 1] })
    },
    matmul: () => {
      const at = operand([5, 3])
      result = [...shape.slice(0, 3), 3]
      return (b, x) => b.matmul(x[0]!, x[at]!)
    },
    softmax: () => (b, x) => b.softmax(x[0]!, 1),
    transpose: () => {
      result = shape.toReversed()
      return (b, x) => b.transpose(x[0]!)
    },
    reduce: () => {
      result = shape.with(2, 1)
      return (b, x) => b.reduceMean(x[0]!, { axes: [2], keepDimensions: true })
    },
    pool: () => {
      result = [...shape.slice(0, 2), 2, 3]
      return (b, x) =>
        b.averagePool2d(x[0]!, { windowDimensions: [2, 2], strides: [2, 2], outputShapeRounding: 'ceil' })
    },
    resample: () => {
      result = [...shape.slice(0, 2), 8, 10]
      return (b, x) => b.resample2d(x[0]!, { mode: 'linear', scales: [2, 2] })
    },
    layer: () => {
      const at = operand([4, 5])
      return (b, x) => b.layerNormalization(x[0]!, { axes: [2, 3], epsilon: 0.1, scale: x[at]! })
    },
  }
  const steps: ((b: MLGraphBuilder, x: readonly MLOperand[], y: MLOperand) => MLOperand)[] = []
  const start = starts[head]()
  for (let left = r.integer(1, 6); left > 0; left--) {
    const link = r.pick(links)
    const more = () => operand(r.pick([[], [1], result, r.broadcast(result)]))
    switch (link) {
      case 'add':
      case 'sub':
      case 'mul':
      case 'max':
      case 'min': {
        const [at, swapped] = [more(), r.flag()]
        steps.push((b, x, y) => (swapped ? b[link](x[at]!, y) : b[link](y, x[at]!)))
        break
      }
      case 'prelu': {
        const at = more()
        steps.push((b, x, y) => b.prelu(y, x[at]!))
        break
      }
      case 'clamp':
        steps.push((b, _, y) => b.clamp(y, { minValue: -0.5, maxValue: 0.75 }))
        break
      case 'linear':
        steps.push((b, _, y) => b.linear(y, { alpha: 0.5, beta: 0.25 }))
        break
      case 'where': {
        const [condition, at] = [operand(r.broadcast(result), undefined, 'uint8'), more()]
        steps.push((b, x, y) => b.where(x[condition]!, y, x[at]!))
        break
      }
      case 'greater': {
        const at = more()
        steps.push((b, x, y) => b.where(b.greater(y, x[at]!), b.mul(y, y), y))
        break
      }
      case 'quantize': {
        const [one, zero] = [0.0625, 3]
        steps.push((b, _, y) => {
          const shape = y.shape.map(() => 1)
          const scale = b.constant({ dataType: 'float32', shape }, Float32Array.of(one))
          const point = b.constant({ dataType: 'int8', shape }, Int8Array.of(zero))
          return b.dequantizeLinear(b.quantizeLinear(b.tanh(y), scale, point), scale, point)
        })
        break
      }
      default:
        steps.push((b, _, y) => b[link](y))
    }
  }
  return { tensors, build: (b, x) => steps.reduce((y, step) => step(b, x, y), start(b, x) as MLOperand) }
}

t.test('chains of element-wise operators in the command of what they follow', async (t) => {
  const { context } = await npuContext(t)
  const cpu = await ml.createContext({ accelerated: false })
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 2 ** 31 - 1 }), async (seed) => {
      const { tensors, build } = chain(seed)
      const wanted = await computed(cpu, build, tensors)
      const found = await computed(context, build, tensors)
      const [data, other] = [wanted, found].map(({ results }) => Array.from(results[0]!.data, Number)) as [
        number[],
        number[],
      ]
      // A step of the quantisation may fall to the other side, and a comparison.
      const off = data.filter((x, at) => Math.abs(x - other[at]!) > 1e-4 * Math.max(1, Math.abs(x)))
      if (off.length > 0.02 * data.length + 1)
        throw new Error(`${off.length} of ${data.length} differ: ${found.places}`)
    }),
    { numRuns: 10 * RUNS, seed: SEED, endOnFailure: true },
  )
})

t.test('an operand that is read by a later stage of its own operator', async (t) => {
  const { context } = await npuContext(t)
  const bytes = (array: Float32Array | Uint8Array) => new Uint8Array(array.buffer)
  // The input is a number of the command, so that the scale is what the command goes through.
  const tensors: Tensor[] = [
    { type: 'uint8', shape: [1], data: bytes(Uint8Array.of(30)), constant: true },
    { type: 'float32', shape: [1], data: bytes(Float32Array.of(0.5)), constant: false },
    { type: 'uint8', shape: [1], data: bytes(Uint8Array.of(10)), constant: false },
  ]
  const { results, places } = await computed(
    context,
    (b, [input, scale, zero]) => b.dequantizeLinear(input!, scale!, zero!),
    tensors,
  )
  t.same(Array.from(results[0]!.data, Number), [10])
  t.match(places, /device/)
})
