import type { Accelerator, AcceleratorMemory, CommandList } from '../accelerator.js'
import type { Part, Program, Stretch } from './executor.js'
import type { Layout } from './memory.js'
import type { Report } from './report.js'

/** Commands of a group, and the tensors that they are at. */
export interface Lowered {
  readonly commands: readonly unknown[]
  readonly tensors: ReadonlySet<number>
}

/** A unit that is ready: what the CPU does, or the device's commands. */
export type Piece = {
  /** Indices into the graph's operators. */
  readonly operators: readonly number[]
} & ({ readonly work: readonly (() => void)[] } | Lowered)

/** Frees what was taken, the last first. */
export class Taken {
  readonly #all: { free(): void }[] = []

  take<T extends { free(): void }>(one: T): T {
    this.#all.push(one)
    return one
  }

  free(): void {
    for (let one = this.#all.pop(); one !== undefined; one = this.#all.pop()) one.free()
  }
}

/** What a program is made of. Nothing here names a value of the graph: its constants can be collected while the program lives. */
export interface Parts {
  readonly accelerator: Accelerator | undefined
  readonly report: Report
  /** Units by stretch. */
  readonly pieces: readonly (readonly Piece[])[]
  readonly memories: readonly (AcceleratorMemory | undefined)[]
  readonly echoes: Layout['echoes']
  /** How many inputs and outputs there are. */
  readonly tensorCount: number
  readonly taken: Taken
}

/** Prepares lists: one for each stretch of the device now, and one for each group when a profile wants them. */
export function programOf({
  accelerator,
  report,
  pieces,
  memories,
  echoes,
  tensorCount,
  taken,
}: Parts): Program {
  /** Makes a stretch of units, and notes which tensors its list is at. */
  const make = (units: readonly Piece[], lists: CommandList[][], free: Taken): Stretch => {
    const work = units.flatMap((unit) => ('work' in unit ? unit.work : []))
    const groups = units.filter((unit) => 'commands' in unit)
    if (groups.length === 0) return { work }
    const commands = groups.flatMap((group) => group.commands)
    const list = free.take(accelerator!.prepare(commands, memories))
    for (const tensor of new Set(groups.flatMap(({ tensors }) => [...tensors]))) lists[tensor].push(list)
    return { list }
  }
  const noLists = () => Array.from({ length: tensorCount }, (): CommandList[] => [])
  const lists = noLists()
  return {
    report,
    stretches: pieces.map((units) => make(units, lists, taken)),
    echoes,
    lists,
    parts() {
      const [alone, free] = [noLists(), new Taken()]
      try {
        const parts = pieces
          .flat()
          .map((unit): Part => ({ operators: unit.operators, stretch: make([unit], alone, free) }))
        return { parts, lists: alone, free: () => free.free() }
      } catch (error) {
        free.free()
        throw error
      }
    },
    free: () => taken.free(),
  }
}
