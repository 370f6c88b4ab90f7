export { accessWords, type Declared, declaredAccess } from './access.js'
export {
  at,
  type BitAccess,
  type DescribedField,
  type DescribedGroup,
  type DescribedMember,
  type DescribedRegister,
  type Description,
  type Dimension,
  type Format,
  type NamedValue,
  type Place,
  type ReadEffect,
  type Warning,
  type WriteEffect,
} from './description.js'
export { DESCRIPTION_SCHEMA, descriptionJson } from './json.js'
export {
  type Planned,
  type PlannedArray,
  type PlannedField,
  type PlannedMap,
  type PlannedRegister,
  type PlanOptions,
  planBlock,
  toRegisterMap,
} from './plan.js'
export { type ReadOptions, readRegisterFile, readRegisterText } from './read.js'
export { selectBlocks } from './select.js'
export { writeTypeScript } from './write.js'
