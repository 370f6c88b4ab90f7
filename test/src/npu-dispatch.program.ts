// Dispatches graphs on the NPU whose model serves the socket of the first argument, and prints what each dispatch with its readTensor takes of the heap.
// Needs --expose-gc, and a semi-space that holds all of a round.
import { openDevice } from '@uaccel/core'
import { Npu } from '@uaccel/driver-npu'
import { openNpuAccelerator } from '@uaccel/driver-npu/webnn'
import { connectVfioUser } from '@uaccel/vfio-user'
import { type MLContext, MLGraphBuilder, ml } from '@uaccel/webnn'

const [path, spinUs] = [process.argv[2]!, Number(process.argv[3])]
/** Of the first graph; what is run for the others is the same code. */
const WARM_UP = 4000
const ROUNDS = 5
const DISPATCHES = 300
const descriptor = { dataType: 'float32', shape: [4, 4] } as const
const collect = globalThis.gc as () => void

/** Products of matrices, one after the other: a command each. */
async function measure(context: MLContext, operators: number): Promise<number> {
  const builder = new MLGraphBuilder(context)
  const factor = builder.constant(descriptor, new Float32Array(16).fill(0.25))
  let y = builder.input('x', descriptor)
  for (let at = 0; at < operators; at++) y = builder.matmul(y, factor)
  const graph = await builder.build({ y })
  const input = await context.createTensor({ ...descriptor, writable: true })
  const output = await context.createTensor({ ...descriptor, readable: true })
  context.writeTensor(input, new Float32Array(16).fill(1))
  const into = new Float32Array(16)
  const [inputs, outputs] = [{ x: input }, { y: output }]
  const run = async (times: number) => {
    for (let at = 0; at < times; at++) {
      context.dispatch(graph, inputs, outputs)
      await context.readTensor(output, into)
    }
  }
  await run(operators === 1 ? WARM_UP : WARM_UP / 20)
  const grown: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    collect()
    const before = process.memoryUsage().heapUsed
    await run(DISPATCHES)
    grown.push((process.memoryUsage().heapUsed - before) / DISPATCHES)
  }
  if (into.some((value) => value !== 1)) throw new Error(`a graph of ${operators} computed ${into}`)
  // Code is compiled in some rounds, and a timer fires.
  return Math.min(...grown)
}

const transport = await connectVfioUser(path)
const device = openDevice(transport)
const context = await ml.createContext({
  device: await openNpuAccelerator(await Npu.start(device), { spinUs }),
})
const one = await measure(context, 1)
const [few, many] = [await measure(context, 110), await measure(context, 330)]
process.stdout.write(`${JSON.stringify({ one, few, many })}\n`)
context.destroy()
await device.release()
await transport.close()
