import { createHistogram } from 'node:perf_hooks'
import { setImmediate as immediate } from 'node:timers/promises'
import { buildOnnx, type Graph, type OnnxGraph, type Tensor, tensorOf } from '@uaccel/inference'
import { accelError, isAccelError } from '@uaccel/uapi'
import { explain, type MLContext, type MLTensor, ml, type Profile, profile, type Report } from '@uaccel/webnn'
import { SingleBar } from 'cli-progress'
import type { InferDevice } from './device.js'

export interface RunOptions {
  readonly shapes: Readonly<Record<string, readonly number[]>>
  readonly dimensions: Readonly<Record<string, number>>
  readonly repeat: number
  /** Takes the time of each operator besides, in a run of its own. */
  readonly profiled: boolean
  readonly signal: AbortSignal
}

/** What the runs took, in microseconds. */
export interface Latency {
  readonly firstMicros: number
  readonly p50Micros: number
  readonly p99Micros: number
  readonly perSecond: number
}

/** What came out. */
export interface InferResult {
  readonly report: Report
  readonly outputs: Readonly<Record<string, Tensor>>
  readonly latency: Latency
  readonly profile?: Profile
}

/**
 * Builds a model on a device, and runs it so often: what is timed is the dispatch and the reading of all outputs. The device is closed at the end.
 *
 * @throws ERR_ACCEL_ABORTED the signal; ERR_ACCEL_NO_DEVICE the device went; and the errors of `buildOnnx` and of the device
 */
export async function runModel(
  model: Graph,
  { accelerator, description }: InferDevice,
  inputs: Readonly<Record<string, Tensor>>,
  options: RunOptions,
): Promise<InferResult> {
  let close = () => {}
  const closed = new Promise<void>((resolve) => {
    close = resolve
  })
  const context = await ml.createContext(
    accelerator === undefined
      ? { accelerated: false }
      : { device: { ...accelerator, close: () => accelerator.close().finally(close) } },
  )
  let lost: string | undefined
  if (accelerator !== undefined)
    void accelerator.lost.then((reason) => {
      lost = reason
    })
  try {
    const built = await buildOnnx(model, context, options)
    return await runGraph(context, built, inputs, options)
  } catch (error) {
    await immediate() // What was lost is told after what failed by it.
    if (lost !== undefined && !isAccelError(error))
      throw accelError('ERR_ACCEL_NO_DEVICE', `${description} went away: ${lost}`, { cause: error })
    throw asAccelError(error)
  } finally {
    context.destroy()
    // Closed when what is under way has ended; who was told to stop does not wait for that.
    if (accelerator !== undefined && !options.signal.aborted) await closed
  }
}

async function runGraph(
  context: MLContext,
  { graph, inputs: wanted, outputs: described }: OnnxGraph,
  inputs: Readonly<Record<string, Tensor>>,
  { repeat, profiled, signal }: RunOptions,
): Promise<InferResult> {
  const from: Record<string, MLTensor> = Object.create(null)
  for (const [name, descriptor] of Object.entries(wanted)) {
    const { data } = inputs[name]!
    from[name] = await context.createTensor({ ...descriptor, writable: true })
    context.writeTensor(from[name], data as Uint8Array<ArrayBuffer>)
  }
  const to: Record<string, MLTensor> = Object.create(null)
  for (const [name, descriptor] of Object.entries(described))
    to[name] = await context.createTensor({ ...descriptor, readable: true })
  const read = Object.values(to).map((tensor) => ({
    tensor,
    into: undefined as ArrayBuffer | undefined,
  }))
  const once = async () => {
    context.dispatch(graph, from, to)
    for (const part of read) {
      if (part.into === undefined) part.into = await context.readTensor(part.tensor)
      else await context.readTensor(part.tensor, part.into)
    }
  }
  const latency = await timed(once, repeat, signal)
  const outputs = Object.fromEntries(
    Object.keys(to).map((name, at) => {
      const { dataType, shape } = described[name]!
      // What is computed with here has the same names.
      const type = { dtype: dataType as Tensor['dtype'], shape }
      return [name, tensorOf(type, new Uint8Array(read[at]!.into!))]
    }),
  )
  return {
    report: explain(graph),
    outputs,
    latency,
    ...(profiled ? { profile: await profile(graph, from, to) } : {}),
  }
}

/** Runs so often, one after the other, with a bar on a terminal. */
async function timed(once: () => Promise<void>, repeat: number, signal: AbortSignal): Promise<Latency> {
  const bar = repeat > 1 && process.stderr.isTTY === true ? progressBar() : undefined
  bar?.start(repeat, 0, { rate: '-' })
  const histogram = createHistogram()
  let [done, firstNs, totalNs] = [0, 0, 0]
  const aborted = new Promise<never>((_, reject) => {
    const abort = () =>
      reject(
        accelError(
          'ERR_ACCEL_ABORTED',
          `Stopped by ${signal.reason} after ${done} of ${repeat} runs: no output is written.`,
        ),
      )
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
  aborted.catch(() => {})
  try {
    for (; done < repeat; ) {
      // Signals are heard between runs of the CPU, too, which are one turn.
      await Promise.race([immediate(), aborted])
      const start = process.hrtime.bigint()
      await Promise.race([once(), aborted])
      const ns = Number(process.hrtime.bigint() - start)
      if (done === 0) firstNs = ns
      totalNs += ns
      histogram.record(Math.max(1, ns))
      done++
      bar?.update(done, { rate: ((done * 1e9) / totalNs).toFixed(1) })
    }
  } finally {
    bar?.stop()
  }
  return {
    firstMicros: firstNs / 1000,
    p50Micros: histogram.percentile(50) / 1000,
    p99Micros: histogram.percentile(99) / 1000,
    perSecond: (repeat * 1e9) / totalNs,
  }
}

const progressBar = () =>
  new SingleBar({
    format: 'runs {bar} {value}/{total}, {rate}/s, {eta_formatted} left',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    stream: process.stderr,
    clearOnComplete: true,
    linewrap: true, // A program that is killed leaves the terminal as it was.
  })

/** Errors of WebNN, which have that of the device as their cause. */
function asAccelError(error: unknown): unknown {
  if (isAccelError(error) || !(error instanceof Error)) return error
  const { cause } = error
  const code = isAccelError(cause) ? cause.code : error instanceof DOMException ? 'ERR_ACCEL_IO' : undefined
  return code === undefined ? error : accelError(code, error.message, { cause: error })
}
