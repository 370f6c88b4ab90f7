// Trains the network of this example from the digits of the `mnist` package and writes what is committed beside it:
// digits.onnx, the held-out digits, and the first of them as a file of its own. Takes about ten minutes. `npm run train -w @uaccel/example-digits`
import { writeFileSync } from 'node:fs'
import { loadOnnx, saveOnnx } from '@uaccel/inference'
import { encodeIdx } from '../idx.js'
import { referenceScores } from '../reference.js'
import { splitDigits } from './dataset.js'
import { accuracyOf, argmax, fit, imageOf } from './fit.js'
import { encodeNpy } from './npy.js'
import { quantiseNetwork } from './quantise.js'

const testPerClass = 160
const splitSeed = 2022
const trainingSeed = 1
const epochs = 22
const calibrationImages = 1000

const say = (line: string) => process.stderr.write(`${line}\n`)
const percent = (share: number) => `${(100 * share).toFixed(2)} %`

const { training, test } = splitDigits(testPerClass, splitSeed)
say(`${training.count} digits for training, ${test.count} held out`)
const network = fit(training, { epochs, seed: trainingSeed }, (epoch, accuracy) => {
  say(`epoch ${epoch}/${epochs}: ${percent(accuracy)} of the training digits`)
})
say(`float32: ${percent(accuracyOf(network, test))} of the held-out digits`)

const file = saveOnnx(quantiseNetwork(network, training, calibrationImages), {
  name: 'uaccel-example-digits',
  version: '0.1.0',
})
const model = loadOnnx(file)
const image = new Float32Array(test.rows * test.columns)
let right = 0
for (let i = 0; i < test.count; i++) {
  imageOf(test, i, image)
  if (argmax(referenceScores(model, image)) === test.labels[i]) right++
}
say(`int8: ${percent(right / test.count)} of the held-out digits`)

const here = (name: string) => new URL(`../../${name}`, import.meta.url)
writeFileSync(here('digits.onnx'), file)
writeFileSync(here('test-images.idx3-ubyte'), encodeIdx([test.count, test.rows, test.columns], test.pixels))
writeFileSync(here('test-labels.idx1-ubyte'), encodeIdx([test.count], test.labels))
imageOf(test, 0, image)
writeFileSync(here('digit.npy'), encodeNpy([1, 1, test.rows, test.columns], image))
say(`digits.onnx: ${file.length} bytes`)
