import { isAccelError } from '@uaccel/uapi'
import type { Operator, Value } from '@uaccel/webnn'
import type { OperatorSupport, Placement } from '@uaccel/webnn/accelerator'
import { casts } from './cast.js'
import { type Command, emit } from './draft.js'
import { gathers } from './gather.js'
import { elementwiseHead, follow } from './group.js'
import { layout } from './layout.js'
import type { Lowering } from './lowering.js'
import { matrix } from './matrix.js'
import { reductions } from './reduction.js'
import { spatial } from './spatial.js'
import { elementwise } from './stages.js'

/** Operators by their names. What computes nothing is moved, whatever its type. */
const lowerings: Readonly<Record<string, Lowering>> = {
  ...Object.fromEntries(
    Object.entries(elementwise).map(([name, { types }]): [string, Lowering] => [
      name,
      { types, drafts: (operator, placement) => [elementwiseHead(operator, placement)] },
    ]),
  ),
  ...casts,
  ...layout,
  ...reductions,
  ...spatial,
  ...matrix,
  ...gathers,
}

/** Places that say of two values only whether they are the same: enough to find out whether something can be done. */
function trial(): Placement {
  const places = new Map<Value, number>()
  let next = 0
  return {
    at(value) {
      const buffer = places.get(value) ?? next++
      places.set(value, buffer)
      return { buffer }
    },
    keep: () => ({ buffer: next++ }),
    scratch: () => ({ buffer: next++ }),
    constant: ({ source }) => (source.kind === 'constant' ? source.bytes : undefined),
  }
}

function lower(operator: Operator, followers: readonly Operator[], placement: Placement): Command[] {
  const drafts = lowerings[operator.name]!.drafts(operator, placement)
  const last = follow(drafts.at(-1)!, followers, placement)
  return [...drafts.slice(0, -1), last].flatMap((draft) => emit(draft, placement))
}

/** Why something cannot be done; `undefined` where it can. */
function reason(operator: Operator, followers: readonly Operator[]): string | undefined {
  try {
    lower(operator, followers, trial())
    return undefined
  } catch (error) {
    if (isAccelError(error, 'ERR_ACCEL_UNSUPPORTED')) return error.message
    throw error
  }
}

/** The operators of WebNN that the NPU does. */
export const operators: Readonly<Record<string, OperatorSupport<Command>>> = Object.fromEntries(
  Object.entries(lowerings).map(([name, { types }]) => [
    name,
    { types, refuses: (operator: Operator) => reason(operator, []), lower },
  ]),
)

/** Whether a group is still one step with `next`: see `Accelerator.follows`. */
export function follows(group: readonly Operator[], next: Operator): boolean {
  const [head, ...followers] = group
  const { types } = elementwise[next.name] ?? {}
  if (types === undefined || !Object.hasOwn(lowerings, head!.name)) return false
  const given = { ...next.inputs, output: next.outputs[0]! }
  for (const [name, value] of Object.entries(given))
    if (types[name] && !types[name].includes(value.descriptor.dataType)) return false
  return reason(head!, [...followers, next]) === undefined
}
