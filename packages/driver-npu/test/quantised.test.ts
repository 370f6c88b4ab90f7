import { Accel } from '@uaccel/accel'
import { loopback } from '@uaccel/model'
import {
  explain,
  type Graph,
  MLContext,
  type MLConv2dOptions,
  MLGraphBuilder,
  type MLOperand,
  ml,
  type Operator,
  type Value,
} from '@uaccel/webnn'
import { fuse, kernels } from '@uaccel/webnn/quantized'
import t from 'tap'
import { npuModel } from '../model/index.js'
import type { NpuBuffer, NpuContext, Step } from '../src/driver.js'
import { type Npu, npuDriver } from '../src/driver.js'
import { openNpuAccelerator } from '../src/webnn/accelerator.js'
import { quantised } from '../src/webnn/quantised.js'

let state = 5
const random = () => {
  state = (Math.imul(state, 1664525) + 1013904223) | 0
  return (state >>> 0) / 2 ** 32
}
const integer = (least: number, greatest: number) => least + Math.floor(random() * (greatest - least + 1))
const pick = <T>(...items: readonly T[]) => items[integer(0, items.length - 1)]
const count = (shape: readonly number[]) => shape.reduce((all, size) => all * size, 1)

type Type = 'uint8' | 'int8'
const arrays = { uint8: Uint8Array, int8: Int8Array }
const bytes = (size: number) => Uint8Array.from({ length: size }, () => 256 * random())

/** What a case is built of: quantised inputs, constants, and quantised results. */
class Cases {
  readonly #b: MLGraphBuilder
  readonly #zeroOf: (type: Type) => number
  #inputs = 0

  constructor(b: MLGraphBuilder, zeroOf: (type: Type) => number = anyZero) {
    this.#b = b
    this.#zeroOf = zeroOf
  }

  #by(operand: MLOperand, type: Type, scale: number, zero: number) {
    const shape = operand.shape.map(() => 1)
    return [
      this.#b.constant({ dataType: 'float32', shape }, Float32Array.of(scale)),
      this.#b.constant({ dataType: type, shape }, arrays[type].of(zero)),
    ] as const
  }

  from(operand: MLOperand, scale = 0.02 + 0.02 * random()): MLOperand {
    const type = operand.dataType as Type
    return this.#b.dequantizeLinear(operand, ...this.#by(operand, type, scale, this.#zeroOf(type)))
  }
  input(shape: number[], type: Type = pick('uint8', 'int8')): MLOperand {
    return this.from(this.#b.input(`x${this.#inputs++}`, { dataType: type, shape }))
  }
  weights(shape: number[], scale?: number): MLOperand {
    const type = pick<Type>('uint8', 'int8')
    return this.from(
      this.#b.constant({ dataType: type, shape }, new arrays[type](bytes(count(shape)).buffer)),
      scale,
    )
  }
  to(operand: MLOperand, type: Type = pick('uint8', 'int8'), scale = 0.02 + 0.2 * random()): MLOperand {
    return this.#b.quantizeLinear(operand, ...this.#by(operand, type, scale, this.#zeroOf(type)))
  }
}
const anyZero = (type: Type) => integer(0, 255) - (type === 'int8' ? 128 : 0)
const middle = (type: Type) => (type === 'int8' ? 0 : 128)

const makers: Readonly<Record<string, (b: MLGraphBuilder, of: Cases) => MLOperand>> = {
  quantizedConv2d(b, of) {
    const [groups, perGroup, outPerGroup] = [integer(1, 3), integer(1, 4), integer(1, 4)]
    const filter = of.weights([groups * outPerGroup, perGroup, integer(1, 3), integer(1, 3)])
    const x = of.input([integer(1, 2), groups * perGroup, integer(5, 8), integer(5, 8)])
    const y = b.conv2d(x, filter, {
      groups,
      strides: [integer(1, 2), integer(1, 2)],
      dilations: [integer(1, 2), integer(1, 2)],
      padding: [0, 1, 2, 3].map(() => integer(0, 2)),
    })
    return of.to(pick(y, b.relu(y)))
  },
  quantizedMatmul(b, of) {
    const [m, k, n] = [integer(1, 5), integer(1, 30), integer(1, 9)]
    return of.to(
      pick(
        () => b.matmul(of.input([m, k]), of.weights([k, n])),
        () => b.matmul(of.input([2, 3, m, k]), of.weights([k, n])),
        () => b.matmul(of.input([3, m, k]), of.input([3, k, n])),
        () => b.gemm(of.input([m, k]), of.weights([n, k]), { bTranspose: true }),
      )(),
    )
  },
  quantizedMaxPool2d: (b) =>
    b.maxPool2d(b.input('x', { dataType: pick('uint8', 'int8'), shape: [1, 3, 6, 7] }), window()),
  quantizedAveragePool2d(b, of) {
    const type = pick<Type>('uint8', 'int8')
    return of.to(b.averagePool2d(of.input([2, 3, 6, 7], type), window()), type)
  },
  quantizedBinary(b, of) {
    const shape = [integer(1, 3), integer(1, 4), integer(1, 40)]
    const f = pick('add', 'add', 'sub', 'mul')
    const other = pick(shape, shape, shape.with(1, 1), shape.slice(1))
    return of.to(b[f as 'add'](of.input(shape), of.input(other)))
  },
  quantizedTable: (b, of) => of.to(b.tanh(of.input([integer(1, 300)]))),
}
function window() {
  return {
    windowDimensions: [integer(2, 3), integer(2, 3)],
    strides: [integer(1, 2), integer(1, 2)],
    padding: [integer(0, 1), integer(0, 1), integer(0, 1), integer(0, 1)],
    outputShapeRounding: pick('floor', 'ceil') as 'floor',
  }
}

/** The graph that a maker makes, fused. */
async function graphOf(make: (b: MLGraphBuilder, of: Cases) => MLOperand): Promise<Graph> {
  let built: Graph | undefined
  const context = new MLContext({
    accelerated: false,
    allocate: (sizeBytes) => ({ bytes: new Uint8Array(sizeBytes), free() {} }),
    free() {},
    compile(graph) {
      built = graph
      return {} as never
    },
    close() {},
  })
  const b = new MLGraphBuilder(context)
  await b.build({ y: make(b, new Cases(b)) })
  return fuse(built!)
}

const operandOf = ({ descriptor: { dataType, shape } }: Value, data: Uint8Array) => ({
  dataType,
  shape,
  data: new arrays[dataType as Type](data.buffer as ArrayBuffer),
})

/** Runs a fused operator on the CPU and on the NPU. */
async function both(context: NpuContext, operator: Operator, table: ReturnType<typeof quantised>) {
  const contents = new Map<Value, Uint8Array>()
  for (const value of Object.values(operator.inputs)) {
    const { source, descriptor } = value
    contents.set(value, source.kind === 'constant' ? source.bytes.slice() : bytes(count(descriptor.shape)))
  }
  const [output] = operator.outputs
  const wanted = new Uint8Array(count(output.descriptor.shape))
  kernels[operator.name]({
    name: operator.name,
    attributes: operator.attributes,
    inputs: Object.fromEntries(
      Object.entries(operator.inputs).map(([as, value]) => [as, operandOf(value, contents.get(value)!)]),
    ),
    outputs: [operandOf(output, wanted)],
  })()

  const buffers: NpuBuffer[] = []
  const take = (content: Uint8Array) => ({ buffer: buffers.push(context.allocateFrom(content)) - 1 })
  const places = new Map([...contents].map(([value, content]) => [value, take(content)]))
  places.set(output, take(new Uint8Array(wanted.length)))
  const commands = table[operator.name].lower(operator, [], {
    at: (value) => places.get(value)!,
    keep: take,
    scratch: (sizeBytes) => take(new Uint8Array(sizeBytes)),
    constant: () => undefined,
  })
  /** The numbers of buffers as the buffers. */
  const bind = (part: unknown): unknown =>
    typeof part !== 'object' || part === null || Array.isArray(part)
      ? part
      : Object.fromEntries(
          Object.entries(part).map(([as, value]) => [
            as,
            as === 'buffer' ? buffers[value as number] : bind(value),
          ]),
        )
  const steps = commands.map((command) => bind(command) as Step)
  await context.run(context.encode(steps))
  const found = new Uint8Array(wanted.length)
  buffers[places.get(output)!.buffer].read(0, found)
  for (const buffer of buffers) buffer.free()
  return { wanted, found, steps: steps.map(({ op }) => op) }
}

t.test('quantised operators of graphs on the NPU: what the kernels of the CPU compute', async (t) => {
  await using accel = new Accel()
  let npu: Npu | undefined
  accel.register(
    npuDriver({
      onReady: (ready) => {
        npu = ready
      },
    }),
  )
  await accel.add(loopback(npuModel))
  const context = await npu!.createContext()
  const table = quantised(npu!.capabilities)
  for (const [name, make] of Object.entries(makers)) {
    const ops = new Set<string>()
    let varied = 0
    for (let i = 0; i < 40; i++) {
      const { operators } = await graphOf(make)
      const operator = operators.find((each) => each.name === name)
      // A window of a pool that lies in the padding alone is none of integers.
      if (operator === undefined) continue
      const refused = table[name].refuses!(operator)
      if (refused !== undefined) {
        t.equal(npu!.capabilities.opcodes & (1n << 0x20n), 0n, `${name} ${i}: ${refused}`)
        continue
      }
      const { wanted, found, steps } = await both(context, operator, table)
      for (const step of steps) ops.add(step)
      t.same(found, wanted, `${name} ${i}`)
      if (new Set(wanted).size > 1) varied++
    }
    t.ok(varied > 15, `${name}: ${varied} with more than one number`)
    t.comment(`${name}: ${[...ops]}`)
  }
})

t.test('what the NPU refuses', async (t) => {
  const limits = { maxDimension: 8, maxElements: 1000, maxMacs: 10_000, opcodes: 0n }
  const table = quantised(limits)
  const why = async (name: string, make: (b: MLGraphBuilder, of: Cases) => MLOperand) => {
    const { operators } = await graphOf(make)
    return table[name].refuses!(operators.find((each) => each.name === name)!)
  }
  t.match(
    await why('quantizedMatmul', (b, of) => of.to(b.matmul(of.input([2, 9]), of.weights([9, 2])))),
    'a dimension of 9 is above the 8 of the device',
  )
  t.match(
    await why('quantizedConv2d', (b, of) =>
      of.to(b.conv2d(of.input([1, 8, 8, 8]), of.weights([8, 8, 3, 3]))),
    ),
    '20736 multiplications are above the 10000 of the device',
  )
  t.match(
    await why('quantizedTable', (b, of) => of.to(b.tanh(of.input([1001])))),
    '1001 elements are above the 1000 of the device',
  )
  t.match(
    await why('quantizedBinary', (b, of) => of.to(b.mul(of.input([8]), of.input([8])))),
    'the device adds only, without broadcasting',
  )
  t.equal(await why('quantizedBinary', (b, of) => of.to(b.add(of.input([8]), of.input([8])))), undefined)
  t.match(
    await why('quantizedMatmul', (b, of) => {
      const scale = b.constant({ dataType: 'float32', shape: [1, 2] }, Float32Array.of(0.1, 0.2))
      const zero = b.constant({ dataType: 'uint8', shape: [1, 2] }, Uint8Array.of(1, 2))
      const weights = b.constant({ dataType: 'uint8', shape: [4, 2] }, bytes(8))
      return of.to(b.matmul(of.input([2, 4]), b.dequantizeLinear(weights, scale, zero)))
    }),
    'zero points of the weights differ by channel',
  )
})

/** Convolutions with a residual, channels last, pools, parts of other scales, an activation, a gate and a product: each quantised. */
function network(b: MLGraphBuilder, of: Cases): MLOperand {
  const options: MLConv2dOptions = { inputLayout: 'nhwc', filterLayout: 'ohwi', padding: [1, 1, 1, 1] }
  const again = (y: MLOperand, scale: number) => of.from(of.to(y, 'uint8', scale), scale)
  const x = of.from(b.input('x', { dataType: 'uint8', shape: [2, 8, 8, 4] }), 0.02)
  const first = again(b.relu(b.conv2d(x, of.weights([6, 3, 3, 4], 0.004), options)), 0.03)
  const second = again(b.conv2d(first, of.weights([4, 3, 3, 6], 0.004), options), 0.04)
  const sum = again(b.clamp(b.add(second, x), { minValue: -4, maxValue: 4 }), 0.05)
  const pooled = b.maxPool2d(sum, { windowDimensions: [2, 2], strides: [2, 2], layout: 'nhwc' })
  const gate = again(b.sigmoid(pooled), 0.004)
  const gated = again(b.mul(pooled, gate), 0.03)
  const both = again(b.concat([gated, gate], 3), 0.03)
  const mean = again(b.averagePool2d(b.transpose(both, { permutation: [0, 3, 1, 2] })), 0.03)
  return of.to(b.gemm(b.reshape(mean, [2, 8]), of.weights([8, 5], 0.01)), 'int8', 0.02)
}

t.test(
  'a quantised network in a context on the NPU: all of it there, and bit for bit what the CPU gives',
  async (t) => {
    await using accel = new Accel()
    let npu: Npu | undefined
    accel.register(
      npuDriver({
        onReady: (ready) => {
          npu = ready
        },
      }),
    )
    await accel.add(loopback(npuModel))
    const x = bytes(2 * 8 * 8 * 4)
    const seed = state
    const run = async (context: MLContext) => {
      state = seed
      const builder = new MLGraphBuilder(context)
      const graph = await builder.build({ y: network(builder, new Cases(builder, middle)) })
      const input = await context.createTensor({ dataType: 'uint8', shape: [2, 8, 8, 4], writable: true })
      const output = await context.createTensor({ dataType: 'int8', shape: [2, 5], readable: true })
      context.writeTensor(input, x)
      context.dispatch(graph, { x: input }, { y: output })
      const y = [...new Int8Array(await context.readTensor(output))]
      const { operators } = explain(graph)
      context.destroy()
      return { y, operators }
    }
    const wanted = await run(await ml.createContext())
    const found = await run(await ml.createContext({ device: await openNpuAccelerator(npu!) }))
    t.same(found.y, wanted.y)
    t.ok(new Set(wanted.y).size > 3, `${wanted.y}`)
    t.same(
      found.operators.filter(({ place }) => place === 'cpu'),
      [],
    )
    t.same(
      found.operators.map(({ name }) => name).filter((name) => /uantizeLinear/.test(name)),
      [],
    )
    t.comment(found.operators.map(({ name, place }) => `${name} (${place})`).join(', '))
  },
)
