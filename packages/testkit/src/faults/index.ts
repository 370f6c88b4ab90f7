export { faultContract } from './contract.js'
export { FaultMatrix, faultMatrix } from './matrix.js'
export { cellName, FaultReport } from './report.js'
export {
  type FaultCell,
  type FaultFinding,
  type FaultMatrixOptions,
  type FaultMoment,
  type FaultName,
  type FaultOperation,
  type FaultRunOptions,
  type FaultTransport,
  faultNames,
  type Verdict,
  verdicts,
} from './types.js'
