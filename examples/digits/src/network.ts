import { setImmediate } from 'node:timers/promises'
import { buildOnnx, type Graph } from '@uaccel/inference'
import { accelError } from '@uaccel/uapi'
import { explain, type MLContext, type MLTensor, profile, type Report } from '@uaccel/webnn'

/** What one image is, and what is said of it. */
const PIXELS = 28 * 28
const CLASSES = 10
/** Batches under way: the next is made ready while the device works on one. */
const SLOTS = 2

/** The network on a device, for so many images at once. */
export interface Network {
  readonly batch: number
  /** What runs where. */
  readonly report: Report
  /** How many calls of `run` there may be at the same time. */
  readonly slots: number
  /** Ten scores for each image; `pixels` are in 0..1, and at most `batch` images. */
  run(pixels: Float32Array): Promise<Float32Array>
  /** Microseconds that the device says it works on a batch; undefined where no device says anything. */
  deviceMicros(): Promise<number | undefined>
}

/** Builds the network for a context, which stays the caller's. */
export async function loadNetwork(context: MLContext, model: Graph, batch: number): Promise<Network> {
  let lost: string | undefined
  void context.lost.then(({ message }) => {
    lost = message
  })
  /** What a device ends that goes is told by its reason. */
  const onDevice = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (cause) {
      await setImmediate() // What was lost is told after what failed by it.
      throw lost === undefined ? cause : accelError('ERR_ACCEL_NO_DEVICE', lost, { cause })
    }
  }
  return onDevice(() => load(context, model, batch, onDevice))
}

async function load(
  context: MLContext,
  model: Graph,
  batch: number,
  onDevice: <T>(work: () => Promise<T>) => Promise<T>,
): Promise<Network> {
  const { graph, inputs, outputs } = await buildOnnx(model, context, { dimensions: { N: batch } })
  const free: {
    readonly image: MLTensor
    readonly logits: MLTensor
    readonly pixels: Float32Array<ArrayBuffer>
  }[] = []
  for (let slot = 0; slot < SLOTS; slot++)
    free.push({
      image: await context.createTensor({ ...inputs.image, writable: true }),
      logits: await context.createTensor({ ...outputs.logits, readable: true }),
      pixels: new Float32Array(batch * PIXELS),
    })
  return {
    batch,
    report: explain(graph),
    slots: SLOTS,
    run: (pixels) =>
      onDevice(async () => {
        const slot = free.pop()!
        try {
          slot.pixels.fill(0).set(pixels)
          context.writeTensor(slot.image, slot.pixels)
          context.dispatch(graph, { image: slot.image }, { logits: slot.logits })
          const scores = new Float32Array(await context.readTensor(slot.logits))
          return scores.subarray(0, (pixels.length / PIXELS) * CLASSES)
        } finally {
          free.push(slot)
        }
      }),
    async deviceMicros() {
      const [{ image, logits }] = free
      const { parts } = await profile(graph, { image }, { logits })
      const told = parts.flatMap(({ deviceMicros }) => (deviceMicros === undefined ? [] : [deviceMicros]))
      return told.length === 0 ? undefined : told.reduce((sum, micros) => sum + micros, 0)
    },
  }
}
