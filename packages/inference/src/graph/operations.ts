import type { QuantisedType, Tensor, TensorType } from './tensor.js'

/** A tensor of a compiled graph. */
export interface Value {
  readonly name: string
  readonly type: TensorType
  /** Its elements, where they are known before a run. */
  readonly constant?: Tensor
}

/** A real number is (q - zeroPoint) * scale. The scale is a float32. */
export interface Quantisation {
  readonly scale: number
  readonly zeroPoint: number
}

/** Results are limited to min..max, both included: the range of the type, or what a folded Relu or Clip leaves of it. */
export interface Range {
  readonly min: number
  readonly max: number
}

/** A window that moves over height and width. */
export interface Window {
  readonly kernel: readonly [height: number, width: number]
  readonly strides: readonly [height: number, width: number]
  readonly dilations: readonly [height: number, width: number]
  readonly pads: readonly [top: number, left: number, bottom: number, right: number]
}

interface Common {
  /** Of the node that it came from. */
  readonly name: string
  /** ONNX operators that it does the work of, such as `QLinearConv+Relu`. */
  readonly op: string
  readonly inputs: readonly Value[]
  readonly output: Value
}

/** Integer sums, scaled back to a quantised type: multipliers[c] = fround(fround(inputScale * weightScale[c]) / outputScale). */
interface Requantised {
  readonly weights: Tensor<QuantisedType>
  /** One for each output channel. */
  readonly weightZeroPoints: Int32Array
  readonly bias: Int32Array
  readonly multipliers: Float32Array
  readonly inputZeroPoint: number
  readonly outputZeroPoint: number
  readonly range: Range
}

/** QLinearConv. Input NCHW, weights OIHW. */
export interface Conv extends Common, Requantised, Window {
  readonly kind: 'conv'
  readonly group: number
}

/** QLinearMatMul with constant weights [K, N]; the input's leading dimensions count as rows. */
export interface MatMul extends Common, Requantised {
  readonly kind: 'matmul'
}

/** MaxPool of a quantised type or float32; padding takes no part. */
export interface MaxPool extends Common, Window {
  readonly kind: 'maxPool'
}

/** DequantizeLinear of both inputs, Add, QuantizeLinear. */
export interface QuantisedAdd extends Common {
  readonly kind: 'quantisedAdd'
  readonly quantisations: readonly [a: Quantisation, b: Quantisation]
  readonly outputQuantisation: Quantisation
  readonly range: Range
}

/** float32 addition. */
export interface Add extends Common {
  readonly kind: 'add'
}

/** Relu or Clip that could not be folded. */
export interface Clamp extends Common {
  readonly kind: 'clamp'
  readonly range: Range
}

export interface Quantize extends Common {
  readonly kind: 'quantize'
  readonly quantisation: Quantisation
}

export interface Dequantize extends Common {
  readonly kind: 'dequantize'
  readonly quantisation: Quantisation
}

/** Flatten or Reshape: the same elements under another shape. */
export interface Reshape extends Common {
  readonly kind: 'reshape'
}

export type Operation = Conv | MatMul | MaxPool | QuantisedAdd | Add | Clamp | Quantize | Dequantize | Reshape

/** A graph of which every shape, constant and parameter is known, in an order in which it can run. */
export interface CompiledGraph {
  readonly name: string
  readonly inputs: readonly Value[]
  readonly outputs: readonly Value[]
  readonly operations: readonly Operation[]
}
