import type { CompiledGraph, Tensor } from '@uaccel/inference'
import { Reference } from '@uaccel/inference'
import type { Engine } from './engine.js'
import type { Digits } from './idx.js'

/** What a run computed; nothing here comes from anywhere else. */
export interface Result {
  /** For each image the digit that the network reads. */
  readonly answers: Uint8Array
  /** Ten scores for each image. */
  readonly scores: readonly Float32Array[]
  readonly seconds: number
  /** Processor time of this process, in microseconds. */
  readonly hostMicros: number
  /** Time that the device says it worked, in microseconds; undefined where no device says anything. */
  readonly deviceMicros: number | undefined
}

/** One image as the network's input: pixels in 0..1. */
export function inputOf(digits: Digits, index: number): { image: Tensor } {
  const { rows, columns, pixels } = digits
  const size = rows * columns
  const data = new Float32Array(size)
  for (let i = 0; i < size; i++) data[i] = pixels[index * size + i] / 255
  return { image: { dtype: 'float32', shape: [1, 1, rows, columns], data } }
}

function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** Classifies all digits, with as many in flight as the session takes. `onImage` is called after each. */
export async function classify(engine: Engine, digits: Digits, onImage: () => void): Promise<Result> {
  const answers = new Uint8Array(digits.count)
  const scores: Float32Array[] = []
  const { session } = engine
  const deviceBefore = session.deviceMicros ?? 0
  const processorBefore = process.cpuUsage()
  const start = performance.now()
  let next = 0
  const worker = async () => {
    while (next < digits.count) {
      const index = next++
      const { logits } = await session.run(inputOf(digits, index))
      scores[index] = logits.data as Float32Array
      answers[index] = argmax(scores[index])
      onImage()
    }
  }
  await Promise.all(Array.from({ length: session.slots }, worker))
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(processorBefore)
  const { deviceMicros } = session
  return {
    answers,
    scores,
    seconds,
    hostMicros: user + system,
    deviceMicros: deviceMicros === undefined ? undefined : deviceMicros - deviceBefore,
  }
}

/** In how many images any score differs, by one bit or more, from the CPU reference, which is computed here. */
export function countMismatches(
  graph: CompiledGraph,
  digits: Digits,
  scores: readonly Float32Array[],
  onImage: () => void,
): number {
  const reference = new Reference(graph)
  let mismatches = 0
  for (let index = 0; index < digits.count; index++) {
    const expected = reference.run(inputOf(digits, index)).logits.data as Float32Array
    if (!expected.every((score, i) => Object.is(score, scores[index][i]))) mismatches++
    onImage()
  }
  return mismatches
}
