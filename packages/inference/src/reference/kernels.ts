import type {
  Add,
  Clamp,
  Conv,
  Dequantize,
  MatMul,
  MaxPool,
  Operation,
  QuantisedAdd,
  Quantize,
  Value,
} from '../graph/operations.js'
import { elementCount, isQuantised, limits, type TensorData } from '../graph/tensor.js'
import { clamp, dequantise, quantise, requantise } from './arithmetic.js'

/** Every type but int64, whose elements are bigints and only ever name shapes. */
type Numbers = Exclude<TensorData, BigInt64Array>

/** One kernel position along one axis: the output places from `first` to before `end` read input place * stride + `start`. */
interface Tap {
  readonly start: number
  readonly first: number
  readonly end: number
}

/** For each kernel position along an axis (0 height, 1 width), the output places whose input place is not padding. */
function tapsOf(operation: Conv | MaxPool, axis: 0 | 1): Tap[] {
  const length = operation.inputs[0].type.shape[2 + axis]
  const outputs = operation.output.type.shape[2 + axis]
  const stride = operation.strides[axis]
  return Array.from({ length: operation.kernel[axis] }, (_, position) => {
    const start = position * operation.dilations[axis] - operation.pads[axis]
    const first = Math.max(0, Math.ceil(-start / stride))
    const end = Math.min(outputs, Math.floor((length - 1 - start) / stride) + 1)
    return { start, first, end: Math.max(first, end) }
  })
}

function conv(operation: Conv, input: Numbers, output: Numbers): void {
  const [images, channels, height, width] = operation.inputs[0].type.shape
  const [, outputs, outHeight, outWidth] = operation.output.type.shape
  const { group, outputZeroPoint, range } = operation
  const [strideY, strideX] = operation.strides
  const tapsY = tapsOf(operation, 0)
  const tapsX = tapsOf(operation, 1)
  const weights = operation.weights.data
  const values = Int32Array.from(input, (q) => q - operation.inputZeroPoint)
  const perGroup = channels / group
  const plane = outHeight * outWidth
  const sums = new Int32Array(plane)
  for (let n = 0; n < images; n++) {
    for (let o = 0; o < outputs; o++) {
      sums.fill(operation.bias[o])
      const weightZero = operation.weightZeroPoints[o]
      const firstChannel = Math.floor((o * group) / outputs) * perGroup
      let w = o * perGroup * tapsY.length * tapsX.length
      for (let c = 0; c < perGroup; c++) {
        const base = (n * channels + firstChannel + c) * height * width
        for (const tapY of tapsY) {
          for (const tapX of tapsX) {
            const weight = weights[w++] - weightZero
            if (weight === 0) continue
            for (let y = tapY.first; y < tapY.end; y++) {
              let at = base + (y * strideY + tapY.start) * width + tapX.first * strideX + tapX.start
              const end = y * outWidth + tapX.end
              for (let s = y * outWidth + tapX.first; s < end; s++, at += strideX) {
                sums[s] += values[at] * weight
              }
            }
          }
        }
      }
      const multiplier = operation.multipliers[o]
      const out = (n * outputs + o) * plane
      for (let s = 0; s < plane; s++) {
        output[out + s] = requantise(sums[s], multiplier, outputZeroPoint, range.min, range.max)
      }
    }
  }
}

function matmul(operation: MatMul, input: Numbers, output: Numbers): void {
  const [depth, columns] = operation.weights.shape
  const { weightZeroPoints, inputZeroPoint, outputZeroPoint, multipliers, range } = operation
  const weights = operation.weights.data
  const rows = output.length / columns
  const sums = new Int32Array(columns)
  for (let row = 0; row < rows; row++) {
    sums.set(operation.bias)
    for (let k = 0, w = 0; k < depth; k++) {
      const x = input[row * depth + k] - inputZeroPoint
      for (let column = 0; column < columns; column++, w++) {
        sums[column] += x * (weights[w] - weightZeroPoints[column])
      }
    }
    for (let column = 0; column < columns; column++) {
      const sum = sums[column]
      output[row * columns + column] = requantise(
        sum,
        multipliers[column],
        outputZeroPoint,
        range.min,
        range.max,
      )
    }
  }
}

function maxPool(operation: MaxPool, input: Numbers, output: Numbers): void {
  const { type } = operation.inputs[0]
  const [images, channels, height, width] = type.shape
  const [, , outHeight, outWidth] = operation.output.type.shape
  const [strideY, strideX] = operation.strides
  const tapsX = tapsOf(operation, 1)
  const lowest = isQuantised(type.dtype) ? limits[type.dtype].min : Number.NEGATIVE_INFINITY
  output.fill(lowest)
  for (const tapY of tapsOf(operation, 0)) {
    for (const tapX of tapsX) {
      for (let plane = 0; plane < images * channels; plane++) {
        for (let y = tapY.first; y < tapY.end; y++) {
          const row = (plane * height + y * strideY + tapY.start) * width + tapX.start
          for (let x = tapX.first; x < tapX.end; x++) {
            const out = (plane * outHeight + y) * outWidth + x
            const value = input[row + x * strideX]
            if (value > output[out]) output[out] = value
          }
        }
      }
    }
  }
}

/** For each element of the output, the index of the input's element that goes with it under broadcasting. */
function broadcastIndices(from: Value, to: Value): Uint32Array {
  const shape = to.type.shape
  const lead = shape.length - from.type.shape.length
  const indices = new Uint32Array(elementCount(shape))
  for (let i = 0; i < indices.length; i++) {
    let rest = i
    let step = 1
    for (let axis = shape.length - 1; axis >= lead; axis--) {
      const size = from.type.shape[axis - lead]
      if (size > 1) indices[i] += (rest % shape[axis]) * step
      rest = Math.floor(rest / shape[axis])
      step *= size
    }
  }
  return indices
}

function quantisedAdd(operation: QuantisedAdd, inputs: readonly Numbers[], output: Numbers): void {
  const [a, b] = operation.quantisations
  const { scale, zeroPoint } = operation.outputQuantisation
  const { min, max } = operation.range
  const indicesA = broadcastIndices(operation.inputs[0], operation.output)
  const indicesB = broadcastIndices(operation.inputs[1], operation.output)
  for (let i = 0; i < output.length; i++) {
    const left = dequantise(inputs[0][indicesA[i]], a.scale, a.zeroPoint)
    const right = dequantise(inputs[1][indicesB[i]], b.scale, b.zeroPoint)
    output[i] = quantise(Math.fround(left + right), scale, zeroPoint, min, max)
  }
}

function add(operation: Add, inputs: readonly Numbers[], output: Numbers): void {
  const indicesA = broadcastIndices(operation.inputs[0], operation.output)
  const indicesB = broadcastIndices(operation.inputs[1], operation.output)
  for (let i = 0; i < output.length; i++) output[i] = inputs[0][indicesA[i]] + inputs[1][indicesB[i]]
}

function clampAll({ range }: Clamp, input: Numbers, output: Numbers): void {
  for (let i = 0; i < output.length; i++) output[i] = clamp(input[i], range.min, range.max)
}

function quantize({ quantisation, output: { type } }: Quantize, input: Numbers, output: Numbers): void {
  const { scale, zeroPoint } = quantisation
  const { min, max } = limits[type.dtype as keyof typeof limits]
  for (let i = 0; i < output.length; i++) output[i] = quantise(input[i], scale, zeroPoint, min, max)
}

function dequantize({ quantisation }: Dequantize, input: Numbers, output: Numbers): void {
  const { scale, zeroPoint } = quantisation
  for (let i = 0; i < output.length; i++) output[i] = dequantise(input[i], scale, zeroPoint)
}

/**
 * Does one operation on the CPU: reads the elements of its inputs, writes those of its output, which may not overlap.
 * Bit for bit what ONNX defines; it shares nothing with any device or model.
 */
export function execute(operation: Operation, inputs: readonly TensorData[], output: TensorData): void {
  if (operation.kind === 'reshape') {
    const bytes = ({ buffer, byteOffset, byteLength }: TensorData) =>
      new Uint8Array(buffer, byteOffset, byteLength)
    bytes(output).set(bytes(inputs[0]))
    return
  }
  const numbers = inputs as readonly Numbers[]
  const results = output as Numbers
  switch (operation.kind) {
    case 'conv':
      conv(operation, numbers[0], results)
      break
    case 'matmul':
      matmul(operation, numbers[0], results)
      break
    case 'maxPool':
      maxPool(operation, numbers[0], results)
      break
    case 'quantisedAdd':
      quantisedAdd(operation, numbers, results)
      break
    case 'add':
      add(operation, numbers, results)
      break
    case 'clamp':
      clampAll(operation, numbers[0], results)
      break
    case 'quantize':
      quantize(operation, numbers[0], results)
      break
    case 'dequantize':
      dequantize(operation, numbers[0], results)
  }
}
