import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { accelError } from '@uaccel/uapi'
import type { Digits } from '../idx.js'
import { randomSource, shuffle } from './random.js'

const rows = 28
const columns = 28
const pixelsPerImage = rows * columns

/** Every digit of the `mnist` package, class by class. It stores a pixel as byte/255: times 255, rounded, is the byte. */
function loadClass(digit: number): Uint8Array[] {
  const path = createRequire(import.meta.url).resolve(`mnist/src/digits/${digit}.json`)
  const { data } = JSON.parse(readFileSync(path, 'utf8')) as { data: number[] }
  if (data.length % pixelsPerImage !== 0) {
    throw accelError('ERR_ACCEL_INVALID_ARGUMENT', `${path}: ${data.length} pixels are not whole images`)
  }
  const bytes = Uint8Array.from(data, (value) => Math.round(value * 255))
  return Array.from({ length: data.length / pixelsPerImage }, (_, i) =>
    bytes.subarray(i * pixelsPerImage, (i + 1) * pixelsPerImage),
  )
}

function collect(images: readonly { pixels: Uint8Array; label: number }[], seed: number): Digits {
  const order = Uint32Array.from(images, (_, i) => i)
  shuffle(order, randomSource(seed))
  const digits = {
    count: images.length,
    rows,
    columns,
    pixels: new Uint8Array(images.length * pixelsPerImage),
    labels: new Uint8Array(images.length),
  }
  order.forEach((from, to) => {
    digits.pixels.set(images[from].pixels, to * pixelsPerImage)
    digits.labels[to] = images[from].label
  })
  return digits
}

/**
 * The digits split once and for all: `testPerClass` of each class are held out, the rest is for training.
 * An image that occurs twice in the package is kept once, so that no test image can be among the training images.
 */
export function splitDigits(testPerClass: number, seed: number): { training: Digits; test: Digits } {
  const seen = new Set<string>()
  const training: { pixels: Uint8Array; label: number }[] = []
  const test: { pixels: Uint8Array; label: number }[] = []
  for (let label = 0; label < 10; label++) {
    const unique = loadClass(label).filter((pixels) => {
      const key = Buffer.from(pixels).toString('latin1')
      return !seen.has(key) && seen.add(key)
    })
    const order = Uint32Array.from(unique, (_, i) => i)
    shuffle(order, randomSource(seed + label))
    order.forEach((from, rank) => {
      const set = rank < testPerClass ? test : training
      set.push({ pixels: unique[from], label })
    })
  }
  return { training: collect(training, seed), test: collect(test, seed + 1) }
}
