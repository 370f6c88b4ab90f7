import type { OperatorDefinition } from './definition.js'
import { elementwise } from './elementwise.js'
import { gathers } from './gather.js'
import { layout } from './layout.js'
import { matrix } from './matrix.js'
import { recurrent } from './recurrent.js'
import { reductions } from './reduction.js'
import { spatial } from './spatial.js'

/** The operators of the specification (https://www.w3.org/TR/webnn/), by name. */
export const operators: ReadonlyMap<string, OperatorDefinition> = new Map(
  [...elementwise, ...layout, ...gathers, ...reductions, ...spatial, ...matrix, ...recurrent].map((each) => [
    each.name,
    each,
  ]),
)
