import { readFileSync } from 'node:fs'
import { type Graph, loadOnnx } from '@uaccel/inference'
import { type Digits, decodeDigits } from './idx.js'

/** The network and the held-out digits, from the files of this folder. */
export function loadDigits(): { readonly model: Graph; readonly digits: Digits } {
  const here = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url))
  return {
    model: loadOnnx(here('digits.onnx')),
    digits: decodeDigits(here('test-images.idx3-ubyte'), here('test-labels.idx1-ubyte')),
  }
}
