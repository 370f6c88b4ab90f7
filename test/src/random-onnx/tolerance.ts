/**
 * How far two right results of an operator may be apart that were computed of the same numbers: units of 2^-24 (half a step of float32) of the
 * greatest magnitude that occurs, and so many more for each term of a sum, which onnxruntime adds up in float32. What is not here is exact: its
 * result is an input's element, an integer, or rounded once.
 *
 * Beside it stands what an operator makes of a difference that its inputs have already (`Like.error`): its slope, times that.
 */
export const tolerances: Readonly<Record<string, readonly [units: number, perTerm: number]>> = {
  // One or two roundings more or less.
  ...table('Sqrt Reciprocal Mean HardSigmoid HardSwish Swish', [4, 0]),
  // Functions that onnxruntime approximates by polynomials or rationals of float32.
  ...table('Exp Log Sin Cos Tan Pow Softplus Softsign', [8, 0]),
  ...table('Sigmoid Tanh Erf Elu Celu Selu Mish', [16, 0]),
  ...table(
    'Gelu com.microsoft:Gelu com.microsoft:QuickGelu com.microsoft:BiasGelu com.microsoft:FastGelu',
    [32, 0],
  ),
  // Sums.
  ...table('ReduceSum ReduceMean ReduceL1 ReduceSumSquare CumSum ReduceProd', [2, 2]),
  ...table('ReduceL2 ReduceLogSum ReduceLogSumExp LpNormalization Softmax LogSoftmax', [16, 2]),
  ...table('MatMul Gemm Einsum Conv ConvTranspose', [2, 2]),
  ...table('AveragePool GlobalAveragePool LpPool GlobalLpPool', [4, 2]),
  ...table('Resize', [16, 0]),
  ...table(
    'BatchNormalization InstanceNormalization LayerNormalization GroupNormalization RMSNormalization',
    [16, 2],
  ),
  ...table('SimplifiedLayerNormalization LRN MeanVarianceNormalization', [16, 2]),
  ...table('com.microsoft:SkipLayerNormalization com.microsoft:SkipSimplifiedLayerNormalization', [16, 2]),
  ...table('LSTM GRU', [64, 8]),
}

function table(names: string, of: readonly [number, number]): Record<string, readonly [number, number]> {
  return Object.fromEntries(names.split(' ').map((name) => [name, of]))
}

/** Half a step of float32, of 1. */
export const HALF_STEP = 2 ** -24
