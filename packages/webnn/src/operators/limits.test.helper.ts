import { dataTypes, MAX_RANK, type MLOperandDataType } from '../data-type.js'

/**
 * The tables "Tensor limits for ..." of the specification, by operator: each operand with its allowed data types and ranks. `=input` is "same as input",
 * N is any rank. The steps of `isNaN` and `isInfinite` allow less than their table, and count here.
 */
const tables: Readonly<Record<string, string>> = {
  'argMin argMax': 'input any 1..N; output int32|int64 N',
  batchNormalization:
    'input float 1..N; mean =input 1; variance =input 1; scale =input 1; bias =input 1; output =input =input',
  cast: 'input any N; output any =input',
  clamp: 'input any N; output =input =input',
  concat: 'inputs any 1..N; output =inputs =inputs',
  'conv2d convTranspose2d': 'input float 4; filter =input 4; bias =input 1; output =input 4',
  cumulativeSum: 'input wide 1..N; output =input =input',
  'add sub mul div max min pow': 'a any N; b =a N; output =a N',
  'equal notEqual greater greaterOrEqual lesser lesserOrEqual': 'a any N; b =a N; output uint8 N',
  logicalNot: 'a uint8 N; output uint8 N',
  'logicalAnd logicalOr logicalXor': 'a uint8 N; b =a N; output uint8 N',
  'isNaN isInfinite': 'a float N; output uint8 N',
  'abs neg sign relu': 'input signed N; output =input =input',
  'ceil cos erf exp floor log reciprocal roundEven sin sqrt tan': 'input float N; output =input =input',
  'elu gelu hardSigmoid hardSwish leakyRelu linear sigmoid softplus softsign tanh':
    'input float N; output =input =input',
  'identity pad reverse slice tile transpose': 'input any N; output =input =input',
  dequantizeLinear: 'input quantized N; scale float =input; zeroPoint =input =input; output =scale =input',
  quantizeLinear: 'input float N; scale =input =input; zeroPoint quantized =input; output =zeroPoint =input',
  'expand reshape': 'input any N; output =input N',
  gather: 'input any 1..N; indices index N; output =input 1..N',
  gatherElements: 'input any 1..N; indices index =input; output =input =input',
  gatherND: 'input any 1..N; indices index 1..N; output =input N',
  gemm: 'a float 2; b =a 2; c =a 0..2; output =a 2',
  gru: 'input float 3; weight =input 3; recurrentWeight =input 3; bias =input 2; recurrentBias =input 2; initialHiddenState =input 3; output0 =input 3; output1 =input 4',
  gruCell:
    'input float 2; weight =input 2; recurrentWeight =input 2; hiddenState =input 2; bias =input 1; recurrentBias =input 1; output =input 2',
  instanceNormalization: 'input float 4; scale =input 1; bias =input 1; output =input 4',
  layerNormalization: 'input float N; scale =input N; bias =input N; output =input =input',
  lstm: 'input float 3; weight =input 3; recurrentWeight =input 3; bias =input 2; recurrentBias =input 2; peepholeWeight =input 2; initialHiddenState =input 3; initialCellState =input 3; output0 =input 3; output1 =input 3; output2 =input 4',
  lstmCell:
    'input float 2; weight =input 2; recurrentWeight =input 2; hiddenState =input 2; cellState =input 2; bias =input 1; recurrentBias =input 1; peepholeWeight =input 1; output0 =input 2; output1 =input 2',
  matmul: 'a float 2..N; b =a 2..N; output =a 2..N',
  'averagePool2d l2Pool2d': 'input float 4; output =input 4',
  maxPool2d: 'input any 4; output =input 4',
  prelu: 'input signed N; slope =input N; output =input N',
  'reduceL1 reduceSum reduceSumSquare reduceProduct': 'input wide N; output =input N',
  'reduceL2 reduceLogSum reduceLogSumExp reduceMean': 'input float N; output =input N',
  'reduceMax reduceMin': 'input any N; output =input N',
  resample2d: 'input float32|float16|uint8|int8 4; output =input 4',
  scatterElements: 'input any 1..N; indices index =input; updates =input =input; output =input =input',
  scatterND: 'input any 1..N; indices index 1..N; updates =input N; output =input =input',
  softmax: 'input float 1..N; output =input =input',
  split: 'input any 1..N; outputs =input =input',
  triangular: 'input any 2..N; output =input =input',
  where: 'condition uint8 N; trueValue any N; falseValue =trueValue N; output =trueValue N',
}

const families: Readonly<Record<string, readonly MLOperandDataType[]>> = {
  any: dataTypes,
  float: ['float32', 'float16'],
  signed: ['float32', 'float16', 'int64', 'int32', 'int8'],
  wide: ['float32', 'float16', 'int32', 'uint32', 'int64', 'uint64'],
  index: ['int32', 'uint32', 'int64'],
  quantized: ['uint8', 'int8', 'uint32', 'int32'],
}

/** What an operand may be, with the operand whose type it has where it is not free. */
export interface OperandLimits {
  readonly dataTypes: readonly MLOperandDataType[]
  readonly ranks: readonly [least: number, greatest: number]
  readonly typeOf?: string
  readonly rankOf?: string
}

function limitsOf(table: string): Readonly<Record<string, OperandLimits>> {
  const found: Record<string, OperandLimits> = {}
  for (const row of table.split('; ')) {
    const [operand, types, ranks] = row.split(' ') as [string, string, string]
    const [typeOf, rankOf] = [types, ranks].map((each) => /^=(.*)/.exec(each)?.[1])
    const [least, greatest = least] = ranks === 'N' ? ['0', 'N'] : ranks.split('..')
    const rank = (text: string) => (text === 'N' ? MAX_RANK : Number(text))
    found[operand] = {
      dataTypes: typeOf
        ? found[typeOf]!.dataTypes
        : (families[types] ?? (types.split('|') as MLOperandDataType[])),
      ranks: rankOf ? found[rankOf]!.ranks : [rank(least!), rank(greatest!)],
      ...(typeOf === undefined ? {} : { typeOf }),
      ...(rankOf === undefined ? {} : { rankOf }),
    }
  }
  return found
}

/** The limits of each operator, by operand and output. */
export const specified: ReadonlyMap<string, Readonly<Record<string, OperandLimits>>> = new Map(
  Object.entries(tables).flatMap(([names, table]) =>
    names.split(' ').map((name) => [name, limitsOf(table)] as const),
  ),
)
