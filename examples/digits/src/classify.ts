import type { Graph } from '@uaccel/inference'
import type { Engine } from './engine.js'
import type { Digits } from './idx.js'
import { referenceScores } from './reference.js'

const CLASSES = 10

/** What a run computed; nothing here comes from anywhere else. */
export interface Result {
  /** For each image the digit that the network reads. */
  readonly answers: Uint8Array
  /** Ten scores for each image. */
  readonly scores: readonly Float32Array[]
  readonly seconds: number
  /** Processor time of this process, in microseconds. */
  readonly hostMicros: number
  /** Time that the device says it works on all images, from a batch that was profiled, in microseconds; undefined where no device says anything. */
  readonly deviceMicros: number | undefined
}

/** Images as the network's input: pixels in 0..1. */
export function inputOf({ rows, columns, pixels }: Digits, from: number, to: number): Float32Array {
  const size = rows * columns
  return Float32Array.from(pixels.subarray(from * size, to * size), (pixel) => pixel / 255)
}

function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** Classifies all digits, batch by batch. `onImages` is called after each, with how many images it had. */
export async function classify(
  { network }: Engine,
  digits: Digits,
  onImages: (count: number) => void,
): Promise<Result> {
  const answers = new Uint8Array(digits.count)
  const scores: Float32Array[] = []
  const processorBefore = process.cpuUsage()
  const start = performance.now()
  let next = 0
  const worker = async () => {
    while (next < digits.count) {
      const from = next
      const to = Math.min(from + network.batch, digits.count)
      next = to
      const logits = await network.run(inputOf(digits, from, to))
      for (let index = from; index < to; index++) {
        const at = (index - from) * CLASSES
        scores[index] = logits.slice(at, at + CLASSES)
        answers[index] = argmax(scores[index])
      }
      onImages(to - from)
    }
  }
  await Promise.all(Array.from({ length: network.slots }, worker))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(processorBefore)
  const batchMicros = await network.deviceMicros()
  return {
    answers,
    scores,
    seconds,
    hostMicros: user + system,
    deviceMicros: batchMicros === undefined ? undefined : (batchMicros / network.batch) * digits.count,
  }
}

/** In how many images any score differs, by one bit or more, from the reference, which is computed here. */
export function countMismatches(
  model: Graph,
  digits: Digits,
  scores: readonly Float32Array[],
  onImage: () => void,
): number {
  let mismatches = 0
  for (let index = 0; index < digits.count; index++) {
    const expected = referenceScores(model, inputOf(digits, index, index + 1))
    if (!expected.every((score, i) => Object.is(score, scores[index][i]))) mismatches++
    onImage()
  }
  return mismatches
}
