import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openDevice } from '@uaccel/core'
import { Npu } from '@uaccel/driver-npu'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import { saveOnnx, type Tensor, tensor } from '@uaccel/inference'
import type { Ort, OrtTensor } from '@uaccel/test/onnxruntime'
import { connectVfioUser } from '@uaccel/vfio-user'
import { type MLContext, MLGraphBuilder, type MLOperand, ml } from '@uaccel/webnn'
import { onCore, twoCores } from './affinity.js'
import { Child } from './child.js'
import { expect, type Measure, type Run } from './measure.js'
import { onnxruntimeFor } from './onnxruntime.js'

/** A graph of one operator with a constant, on a small tensor. */
interface Operator {
  readonly name: string
  readonly op: string
  readonly x: Tensor
  readonly w: Tensor
  readonly build: (builder: MLGraphBuilder, x: MLOperand, w: MLOperand) => MLOperand
}

/** Where the graph runs; the model of the NPU is in a process of its own. */
export const dispatchPlaces = {
  direct: 'NPU that this process drives over vfio-user',
  node: "NPU of a node, by a queue of the client's",
  cpu: 'CPU',
} as const
type Place = keyof typeof dispatchPlaces

const floats = (shape: readonly number[], seed: number) =>
  tensor(
    'float32',
    shape,
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => ((at * seed) % 17) / 16),
  )

const operators: readonly Operator[] = [
  {
    name: 'add, 64 float32',
    op: 'Add',
    x: floats([64], 3),
    w: floats([64], 5),
    build: (builder, x, w) => builder.add(x, w),
  },
  {
    name: 'matmul, 16 x 16',
    op: 'MatMul',
    x: floats([16, 16], 3),
    w: floats([16, 16], 5),
    build: (builder, x, w) => builder.matmul(x, w),
  },
]

/** The name of a row. */
export const dispatchRow = (place: Place, operator: string) =>
  `dispatch and readTensor, ${operator}: ${dispatchPlaces[place]} / onnxruntime`
export const dispatchOperators = operators.map(({ name }) => name)

const OPSET = 13
const OPERATIONS = 2000

/** The operator as a file. */
const modelOf = ({ op, x, w }: Operator): Uint8Array =>
  saveOnnx(
    {
      name: op,
      opsets: new Map([['', OPSET]]),
      inputs: [{ name: 'x', dtype: x.dtype, shape: x.shape }],
      outputs: [{ name: 'y', dtype: x.dtype, shape: x.shape }],
      constants: new Map([['w', w]]),
      nodes: [{ name: op, op, domain: '', inputs: ['x', 'w'], outputs: ['y'], attributes: new Map() }],
    },
    { name: 'uaccel', version: '0' },
  )

/** Runs the operator so often, one run after the other. Answers microseconds for each, and leaves the last result in `y`. */
type Runner = (operations: number) => Promise<[number]>

async function ours(context: MLContext, operator: Operator): Promise<{ run: Runner; y: Float32Array }> {
  const { x, w, build } = operator
  const descriptor = { dataType: 'float32', shape: [...x.shape] } as const
  const builder = new MLGraphBuilder(context)
  const graph = await builder.build({
    y: build(builder, builder.input('x', descriptor), builder.constant(descriptor, w.data as Float32Array)),
  })
  const input = await context.createTensor({ ...descriptor, writable: true })
  const output = await context.createTensor({ ...descriptor, readable: true })
  context.writeTensor(input, x.data as Float32Array)
  const y = new Float32Array(x.data.length)
  const [inputs, outputs] = [{ x: input }, { y: output }]
  return {
    y,
    async run(operations) {
      const start = performance.now()
      for (let i = 0; i < operations; i++) {
        context.dispatch(graph, inputs, outputs)
        await context.readTensor(output, y)
      }
      return [((performance.now() - start) * 1e3) / operations]
    },
  }
}

async function theirs(runtime: Ort, operator: Operator) {
  const session = await runtime.InferenceSession.create(modelOf(operator), { intraOpNumThreads: 1 })
  const feeds = { x: new runtime.Tensor('float32', operator.x.data as OrtTensor['data'], operator.x.shape) }
  const run: Runner = async (operations) => {
    const start = performance.now()
    for (let i = 0; i < operations; i++) await session.run(feeds)
    return [((performance.now() - start) * 1e3) / operations]
  }
  return { run, y: (await session.run(feeds)).y!.data as Float32Array, close: () => session.release() }
}

function compare(found: Float32Array, wanted: ArrayLike<number>, what: string): void {
  const wrong = found.filter((value, at) => !(Math.abs(value - wanted[at]) <= 1e-3)).length
  expect(wrong, 0, `${what}, results that differ from those of onnxruntime`)
}

/** Contexts of all places, whose models and servers are processes of their own, on that core. */
async function withContexts(
  modelCore: number,
  work: (contexts: Record<Place, MLContext>) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'uaccel-bench-'))
  const children: Child[] = []
  const closing: (() => Promise<void>)[] = []
  const serve = async (script: string, ...args: string[]) => {
    const program = fileURLToPath(new URL(`${script}.js`, import.meta.url))
    const child = new Child(process.execPath, [program, ...args])
    children.push(child)
    await child.line()
  }
  try {
    const [own, served] = [join(folder, 'own.sock'), join(folder, 'served.sock')]
    await onCore(modelCore, async () => {
      await serve('npu-model-server', own)
      await serve('npu-model-server', served)
      await serve('npu-node-server', served, folder)
    })
    const transport = await connectVfioUser(own)
    closing.push(() => transport.close())
    const device = openDevice(transport)
    closing.push(() => device.release())
    const accelerator = await openNpuAccelerator(await Npu.start(device))
    const contexts = {
      direct: await ml.createContext({ device: accelerator }),
      node: await ml.createContext({ device: join(folder, 'accel0') }),
      cpu: await ml.createContext({ deviceType: 'cpu' }),
    }
    for (const context of Object.values(contexts)) closing.push(async () => context.destroy())
    await work(contexts)
  } finally {
    for (const close of closing.reverse()) await close()
    for (const child of children.reverse()) await child.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** What a run of a small graph costs, from the call to the result in hand, with the model on another core. The column of C is onnxruntime, on one thread. */
export async function dispatch(measure: Measure, run: Run): Promise<void> {
  const cores = twoCores()
  if (cores === undefined) {
    run.leaveOut('dispatch: the model of the NPU and its host both poll, and want a core each; there is one.')
    return
  }
  const runtime = onnxruntimeFor(run, 'dispatch')
  if (runtime === undefined) return
  const [modelCore, hostCore] = cores
  await onCore(hostCore, () =>
    withContexts(modelCore, async (contexts) => {
      for (const operator of operators) {
        const ort = await theirs(runtime, operator)
        for (const place of Object.keys(dispatchPlaces) as Place[]) {
          const mine = await ours(contexts[place], operator)
          const row = dispatchRow(place, operator.name)
          await measure({ rows: [row], unit: 'us', operations: OPERATIONS, typescript: mine.run, c: ort.run })
          compare(mine.y, ort.y, row)
        }
        await ort.close()
      }
    }),
  )
}
