export {
  type Abi,
  type AbiCommand,
  type AbiField,
  type AbiGap,
  type AbiStruct,
  abiOf,
  formatAbi,
  parseAbi,
} from './abi.js'
export { type AbiChange, compareAbi, requireCompatible } from './compare.js'
export { type ErrorHelp, errorHelp, errorsReference } from './errors.js'
export { cHeader } from './header.js'
export { markdownReference } from './markdown.js'
export { requireSnapshot } from './snapshot.js'
