// What tests take of the example.
export { classify, countMismatches } from './classify.js'
export { type Engine, engineOn, modelEngine, pciEngine } from './engine.js'
export { loadDigits } from './load.js'
