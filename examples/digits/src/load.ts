import { readFileSync } from 'node:fs'
import { type CompiledGraph, compile, loadOnnx } from '@uaccel/inference'
import { type Digits, decodeDigits } from './idx.js'

/** The network and the held-out digits, from the files of this folder. */
export function loadDigits(): { readonly graph: CompiledGraph; readonly digits: Digits } {
  const here = (name: string) => readFileSync(new URL(`../${name}`, import.meta.url))
  return {
    graph: compile(loadOnnx(here('digits.onnx')), { dimensions: { N: 1 } }),
    digits: decodeDigits(here('test-images.idx3-ubyte'), here('test-labels.idx1-ubyte')),
  }
}
