import { setTimeout as sleep } from 'node:timers/promises'
import { openDevice } from '@uaccel/core'
import { Npu, type NpuContext } from '@uaccel/driver-npu'
import { npuModel } from '@uaccel/driver-npu/model'
import { npuAccelerator } from '@uaccel/driver-npu/webnn'
import { buildOnnx, loadOnnx } from '@uaccel/inference'
import { loopback, ManualClock } from '@uaccel/model'
import type { Ort } from '@uaccel/test/onnxruntime'
import { type MLContext, ml } from '@uaccel/webnn'
import type { Accelerator } from '@uaccel/webnn/accelerator'
import { graphs, type InferenceGraph } from './arithmetic-graphs.js'
import { expect, type Measure, type Run } from './measure.js'
import { onnxruntimeFor } from './onnxruntime.js'

/** What is compared, as rows of one graph. */
export const figures = ['arithmetic, one thread', 'arithmetic, its threads', 'host, one thread'] as const
export const arithmeticRow = (graph: string, figure: (typeof figures)[number]) =>
  `${graph}: NPU / onnxruntime: ${figure}`

/** Of the device's time, which is not that of the host: enough for any job. */
const STEP_NS = 100_000_000
/** Rounds of promises after which the event loop has its turn. */
const PATIENCE = 64
/** Threads of onnxruntime spin for a while after a run: they shall not take a core from what is measured next. */
const REST_MS = 20

/** Runs graphs through WebNN on the model in this process, whose clock stands still but here. */
class Runner {
  readonly #context: MLContext
  readonly #queue: NpuContext
  readonly #clock: ManualClock

  constructor(context: MLContext, queue: NpuContext, clock: ManualClock) {
    this.#context = context
    this.#queue = queue
    this.#clock = clock
  }

  /** Builds a graph. A run answers the microseconds of the model, and those of everything else, until the result is read. */
  async load({ file, x }: InferenceGraph) {
    const context = this.#context
    const { graph, inputs, outputs } = await buildOnnx(loadOnnx(file), context)
    const input = await context.createTensor({ ...inputs.x, writable: true })
    const output = await context.createTensor({ ...outputs.y, readable: true })
    context.writeTensor(input, x.data)
    let bytes = new ArrayBuffer(0)
    const run = async (operations: number): Promise<[device: number, host: number]> => {
      let deviceMs = 0
      const start = performance.now()
      for (let i = 0; i < operations; i++) {
        context.dispatch(graph, { x: input }, { y: output })
        let ended = false
        const read = context.readTensor(output).finally(() => {
          ended = true
        })
        for (let turn = 1; !ended; turn++) {
          const begin = performance.now()
          this.#clock.step(STEP_NS)
          deviceMs += performance.now() - begin
          this.#queue.poll()
          await (turn % PATIENCE === 0 ? new Promise(setImmediate) : undefined)
        }
        bytes = await read
      }
      const wholeMs = performance.now() - start
      return [(deviceMs * 1e3) / operations, ((wholeMs - deviceMs) * 1e3) / operations]
    }
    return {
      run,
      result: () => bytes,
      close() {
        graph.destroy()
        input.destroy()
        output.destroy()
      },
    }
  }
}

/** Compares results: of float32 within rounding of sums, of quantised operators bit for bit. */
function compare({ name, y }: InferenceGraph, found: ArrayBuffer, wanted: ArrayLike<number>): void {
  const values = y.dtype === 'float32' ? new Float32Array(found) : new Uint8Array(found)
  expect(values.length, wanted.length, `${name}, numbers of the result`)
  let wrong = 0
  for (let at = 0; at < wanted.length; at++) {
    const room = y.dtype === 'float32' ? 1e-4 * Math.max(1, Math.abs(wanted[at])) : 0
    if (!(Math.abs(values[at] - wanted[at]) <= room)) wrong++
  }
  expect(wrong, 0, `${name}, results that differ from those of onnxruntime`)
}

async function contest(
  measure: Measure,
  runner: Runner,
  { InferenceSession, Tensor }: Ort,
  graph: InferenceGraph,
) {
  const feeds = { x: new Tensor(graph.x.dtype, graph.x.data as Float32Array, graph.x.shape) }
  const [one, many] = await Promise.all(
    [{ intraOpNumThreads: 1 }, {}].map((options) => InferenceSession.create(graph.file, options)),
  )
  const ours = await runner.load(graph)
  await ours.run(1)
  compare(graph, ours.result(), (await one.run(feeds)).y.data as Float32Array)
  const timed = async (session: typeof one, operations: number) => {
    const start = performance.now()
    for (let i = 0; i < operations; i++) await session.run(feeds)
    return ((performance.now() - start) * 1e3) / operations
  }
  await measure({
    rows: figures.map((figure) => arithmeticRow(graph.name, figure)),
    unit: 'us',
    operations: graph.operations,
    async typescript(operations) {
      const [device, host] = await ours.run(operations)
      return [device, device, host]
    },
    async c(operations) {
      const alone = await timed(one, operations)
      const together = await timed(many, operations)
      await sleep(REST_MS)
      return [alone, together, alone]
    },
  })
  ours.close()
  await Promise.all([one.release(), many.release()])
}

/**
 * Graphs on the NPU's model in this process, against onnxruntime on the CPU, which stands in the column of C: the model's arithmetic, and apart from it what
 * the host spends on dispatching a graph and on reading its result.
 */
export async function arithmetic(measure: Measure, run: Run): Promise<void> {
  const runtime = onnxruntimeFor(run, 'arithmetic')
  if (runtime === undefined) return
  const clock = new ManualClock()
  const transport = loopback(npuModel, { clock })
  const device = await openDevice(transport)
  const stepping = setInterval(() => clock.step(STEP_NS), 1)
  try {
    const npu = await Npu.start(device, { irq: 'poll' })
    const queue = await npu.createContext({ ringEntries: 256 })
    const accelerator = npuAccelerator(queue, { capabilities: npu.capabilities })
    const context = await ml.createContext({ device: accelerator as Accelerator })
    const runner = new Runner(context, queue, clock)
    for (const graph of graphs) await contest(measure, runner, runtime, graph)
    context.destroy()
    await accelerator.close()
  } finally {
    await device.release()
    clearInterval(stepping)
    await transport.close()
  }
}
