import type { MLOperandDataType } from './data-type.js'
import type { MLInputOperandLayout } from './operators/methods.js'

// Types of what `opSupportLimits()` answers, as the specification's IDL has them (https://www.w3.org/TR/webnn/#idl-index); no member is left out.

export type MLDataTypeList = MLOperandDataType[]

export interface MLRankRange {
  min: number
  max: number
}

export interface MLTensorLimits {
  dataTypes: MLDataTypeList
  rankRange: MLRankRange
}

/** Limits of an operator's operands and outputs, by their names. */
type Limits<Operand extends string> = Record<Operand, MLTensorLimits>

export type MLBinarySupportLimits = Limits<'a' | 'b' | 'output'>
export type MLSingleInputSupportLimits = Limits<'input' | 'output'>
export type MLBatchNormalizationSupportLimits = Limits<
  'input' | 'mean' | 'variance' | 'scale' | 'bias' | 'output'
>
export type MLConcatSupportLimits = Limits<'inputs' | 'output'>
export type MLConv2dSupportLimits = Limits<'input' | 'filter' | 'bias' | 'output'>
export type MLLogicalNotSupportLimits = Limits<'a' | 'output'>
export type MLQuantizeDequantizeLinearSupportLimits = Limits<'input' | 'scale' | 'zeroPoint' | 'output'>
export type MLGatherSupportLimits = Limits<'input' | 'indices' | 'output'>
export type MLGemmSupportLimits = Limits<'a' | 'b' | 'c' | 'output'>
export type MLGruSupportLimits = Limits<
  | 'input'
  | 'weight'
  | 'recurrentWeight'
  | 'bias'
  | 'recurrentBias'
  | 'initialHiddenState'
  | 'output0'
  | 'output1'
>
export type MLGruCellSupportLimits = Limits<
  'input' | 'weight' | 'recurrentWeight' | 'hiddenState' | 'bias' | 'recurrentBias' | 'output'
>
export type MLNormalizationSupportLimits = Limits<'input' | 'scale' | 'bias' | 'output'>
export type MLLstmSupportLimits = Limits<
  | 'input'
  | 'weight'
  | 'recurrentWeight'
  | 'bias'
  | 'recurrentBias'
  | 'peepholeWeight'
  | 'initialHiddenState'
  | 'initialCellState'
  | 'output0'
  | 'output1'
  | 'output2'
>
export type MLLstmCellSupportLimits = Limits<
  | 'input'
  | 'weight'
  | 'recurrentWeight'
  | 'hiddenState'
  | 'cellState'
  | 'bias'
  | 'recurrentBias'
  | 'peepholeWeight'
  | 'output0'
  | 'output1'
>
export type MLPreluSupportLimits = Limits<'input' | 'slope' | 'output'>
export type MLScatterSupportLimits = Limits<'input' | 'indices' | 'updates' | 'output'>
export type MLSplitSupportLimits = Limits<'input' | 'outputs'>
export type MLWhereSupportLimits = Limits<'condition' | 'trueValue' | 'falseValue' | 'output'>

/** What a context takes, as a whole and by operator. */
export interface MLOpSupportLimits
  extends Record<
      | 'add'
      | 'sub'
      | 'mul'
      | 'div'
      | 'max'
      | 'min'
      | 'pow'
      | 'equal'
      | 'notEqual'
      | 'greater'
      | 'greaterOrEqual'
      | 'lesser'
      | 'lesserOrEqual'
      | 'logicalAnd'
      | 'logicalOr'
      | 'logicalXor'
      | 'matmul',
      MLBinarySupportLimits
    >,
    Record<
      | 'argMin'
      | 'argMax'
      | 'cast'
      | 'clamp'
      | 'cumulativeSum'
      | 'abs'
      | 'ceil'
      | 'cos'
      | 'erf'
      | 'exp'
      | 'floor'
      | 'identity'
      | 'log'
      | 'neg'
      | 'reciprocal'
      | 'roundEven'
      | 'sin'
      | 'sign'
      | 'sqrt'
      | 'tan'
      | 'elu'
      | 'expand'
      | 'gelu'
      | 'hardSigmoid'
      | 'hardSwish'
      | 'leakyRelu'
      | 'linear'
      | 'pad'
      | 'averagePool2d'
      | 'l2Pool2d'
      | 'maxPool2d'
      | 'reduceL1'
      | 'reduceL2'
      | 'reduceLogSum'
      | 'reduceLogSumExp'
      | 'reduceMax'
      | 'reduceMean'
      | 'reduceMin'
      | 'reduceProduct'
      | 'reduceSum'
      | 'reduceSumSquare'
      | 'relu'
      | 'resample2d'
      | 'reshape'
      | 'reverse'
      | 'sigmoid'
      | 'slice'
      | 'softmax'
      | 'softplus'
      | 'softsign'
      | 'tanh'
      | 'tile'
      | 'transpose'
      | 'triangular',
      MLSingleInputSupportLimits
    >,
    Record<'batchNormalization', MLBatchNormalizationSupportLimits>,
    Record<'concat', MLConcatSupportLimits>,
    Record<'conv2d' | 'convTranspose2d', MLConv2dSupportLimits>,
    Record<'logicalNot' | 'isNaN' | 'isInfinite', MLLogicalNotSupportLimits>,
    Record<'dequantizeLinear' | 'quantizeLinear', MLQuantizeDequantizeLinearSupportLimits>,
    Record<'gather' | 'gatherElements' | 'gatherND', MLGatherSupportLimits>,
    Record<'gemm', MLGemmSupportLimits>,
    Record<'gru', MLGruSupportLimits>,
    Record<'gruCell', MLGruCellSupportLimits>,
    Record<'instanceNormalization' | 'layerNormalization', MLNormalizationSupportLimits>,
    Record<'lstm', MLLstmSupportLimits>,
    Record<'lstmCell', MLLstmCellSupportLimits>,
    Record<'prelu', MLPreluSupportLimits>,
    Record<'scatterElements' | 'scatterND', MLScatterSupportLimits>,
    Record<'split', MLSplitSupportLimits>,
    Record<'where', MLWhereSupportLimits> {
  preferredInputLayout: MLInputOperandLayout
  maxTensorByteLength: number
  input: MLTensorLimits
  constant: MLTensorLimits
  output: MLTensorLimits
}
