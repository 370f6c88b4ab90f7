import type { Digits } from '../idx.js'
import { DigitNetwork } from './network.js'
import { randomSource, shuffle } from './random.js'

const batch = 32
const peakRate = 2e-3

/** Pixels of one image as numbers in 0..1. */
export function imageOf(digits: Digits, index: number, image: Float32Array): void {
  const base = index * image.length
  for (let i = 0; i < image.length; i++) image[i] = digits.pixels[base + i] / 255
}

/** As `imageOf`, but turned by up to 10 degrees, scaled by up to 10 % and shifted by up to two pixels, at random. */
function augmentedImage(digits: Digits, index: number, random: () => number, image: Float32Array): void {
  const { rows, columns, pixels } = digits
  const base = index * rows * columns
  const angle = ((random() * 2 - 1) * 10 * Math.PI) / 180
  const scale = 1 + (random() * 2 - 1) * 0.1
  const [cosine, sine] = [Math.cos(angle) / scale, Math.sin(angle) / scale]
  const [centreX, centreY] = [(columns - 1) / 2, (rows - 1) / 2]
  const [shiftX, shiftY] = [random() * 4 - 2, random() * 4 - 2]
  const pixelAt = (x: number, y: number) =>
    x >= 0 && x < columns && y >= 0 && y < rows ? pixels[base + y * columns + x] : 0
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const [dx, dy] = [x - centreX - shiftX, y - centreY - shiftY]
      const [fromX, fromY] = [centreX + cosine * dx + sine * dy, centreY - sine * dx + cosine * dy]
      const [left, top] = [Math.floor(fromX), Math.floor(fromY)]
      const [right, below] = [fromX - left, fromY - top]
      const value =
        (1 - below) * ((1 - right) * pixelAt(left, top) + right * pixelAt(left + 1, top)) +
        below * ((1 - right) * pixelAt(left, top + 1) + right * pixelAt(left + 1, top + 1))
      image[y * columns + x] = value / 255
    }
  }
}

/** The index of the largest element, the first of equals. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** Share of the images that the network recognises, 0..1. */
export function accuracyOf(network: DigitNetwork, digits: Digits): number {
  const image = new Float32Array(digits.rows * digits.columns)
  let right = 0
  for (let i = 0; i < digits.count; i++) {
    imageOf(digits, i, image)
    if (argmax(network.forward(image)) === digits.labels[i]) right++
  }
  return right / digits.count
}

/** Trains from scratch with Adam, a rate that falls as a cosine to zero, and images that are turned, scaled and shifted a little. */
export function fit(
  training: Digits,
  { epochs, seed }: { epochs: number; seed: number },
  report: (epoch: number, trainingAccuracy: number) => void,
): DigitNetwork {
  const random = randomSource(seed)
  const network = new DigitNetwork(random)
  const parameters = network.layers.flatMap((layer) => layer.parameters)
  const image = new Float32Array(training.rows * training.columns)
  const order = Uint32Array.from({ length: training.count }, (_, i) => i)
  const stepsPerEpoch = Math.floor(training.count / batch)
  let step = 0
  for (let epoch = 1; epoch <= epochs; epoch++) {
    shuffle(order, random)
    let right = 0
    for (let s = 0; s < stepsPerEpoch; s++) {
      for (const index of order.subarray(s * batch, (s + 1) * batch)) {
        augmentedImage(training, index, random, image)
        if (argmax(network.forward(image)) === training.labels[index]) right++
        network.backward(image, training.labels[index])
      }
      step++
      const rate = (peakRate * (1 + Math.cos((Math.PI * step) / (epochs * stepsPerEpoch)))) / 2
      for (const parameter of parameters) parameter.update(rate, batch, step)
    }
    report(epoch, right / (stepsPerEpoch * batch))
  }
  return network
}
