import type { AcceleratorMemory, CommandList } from '../accelerator.js'
import type { Executable, Memories } from '../backend.js'
import { FIRST_TENSOR } from './memory.js'
import type { PartProfile, Profile, Report } from './report.js'

/** Work of the CPU, or a list of the device. Made once: a dispatch runs through them. */
export type Stretch = { readonly work: readonly (() => void)[] } | { readonly list: CommandList }

/** A part of a profile: a kernel of the CPU with its copies, or a group of the device. */
export interface Part {
  readonly operators: readonly number[]
  readonly stretch: Stretch
}

/** What a graph was made into. */
export interface Program {
  readonly report: Report
  readonly stretches: readonly Stretch[]
  /** Copies from an output to another that is the same value. */
  readonly echoes: readonly { readonly from: number; readonly to: number }[]
  /** Lists that are at each input and output, by position. */
  readonly lists: readonly (readonly CommandList[])[]
  /** Each group of its own, for a profile: made when the first is wanted. */
  parts(): {
    readonly parts: readonly Part[]
    readonly lists: readonly (readonly CommandList[])[]
    free(): void
  }
  free(): void
}

/** The tensors of the run that is under way, by position; kernels' copies find them here. */
export type Bound = (AcceleratorMemory | undefined)[]

/** Tells lists which memory their tensors are, where it is another than before. */
function bind(
  lists: readonly (readonly CommandList[])[],
  bound: Bound,
  offset: number,
  memories: Memories,
): void {
  for (let at = 0; at < memories.length; at++) {
    const position = offset + at
    if (bound[position] === memories[at]) continue
    // Unknown until all lists have it: one that fails here is bound anew next time.
    bound[position] = undefined
    const those = lists[position]
    for (let list = 0; list < those.length; list++) those[list].bind(FIRST_TENSOR + position, memories[at])
    bound[position] = memories[at]
  }
}

const microsSince = (start: bigint) => Number(process.hrtime.bigint() - start) / 1000

/** Runs a program, stretch by stretch: the CPU's at once, the device's with a doorbell each. What a run allocates is the same for any graph. */
export class Executor implements Executable {
  readonly report: Report
  readonly #program: Program
  readonly #bound: Bound
  #profiled: (ReturnType<Program['parts']> & { readonly bound: Bound }) | undefined
  #at = 0
  /** Told of the end of what is under way. */
  #ended: ((error: Error | undefined) => void) | undefined
  #lost: Error | undefined
  readonly #done: (error: Error | undefined) => void

  /** `bound` is what the copies of `program` look at. */
  constructor(program: Program, bound: Bound) {
    this.report = program.report
    this.#program = program
    this.#bound = bound
    this.#done = (error) => {
      if (this.#ended === undefined) return // It was lost meanwhile.
      if (error !== undefined) this.#end(error)
      else {
        this.#at++
        this.#advance()
      }
    }
  }

  run(inputs: Memories, outputs: Memories, ended: (error: Error | undefined) => void): void {
    this.#ended = ended
    if (this.#lost !== undefined) {
      this.#end(this.#lost)
      return
    }
    try {
      bind(this.#program.lists, this.#bound, 0, inputs)
      bind(this.#program.lists, this.#bound, inputs.length, outputs)
    } catch (error) {
      this.#end(error as Error)
      return
    }
    this.#at = 0
    this.#advance()
  }

  async profile(inputs: Memories, outputs: Memories): Promise<Profile> {
    if (this.#lost !== undefined) throw this.#lost
    this.#profiled ??= { ...this.#program.parts(), bound: [] }
    const { parts, lists, bound } = this.#profiled
    for (const one of [bound, this.#bound]) {
      const those = one === bound ? lists : this.#program.lists
      bind(those, one, 0, inputs)
      bind(those, one, inputs.length, outputs)
    }
    const found: PartProfile[] = []
    const begin = process.hrtime.bigint()
    for (const { operators, stretch } of parts) {
      const start = process.hrtime.bigint()
      if ('work' in stretch) {
        for (const each of stretch.work) each()
        found.push({ place: 'cpu', operators, micros: microsSince(start) })
        continue
      }
      const deviceMicros = await new Promise<number | undefined>((resolve, reject) => {
        this.#ended = (error) => error !== undefined && reject(error)
        stretch.list.submit((error, micros) => (error === undefined ? resolve(micros) : reject(error)))
      }).finally(() => {
        this.#ended = undefined
      })
      const micros = microsSince(start)
      found.push({
        place: 'device',
        operators,
        micros,
        ...(deviceMicros === undefined ? {} : { deviceMicros }),
      })
    }
    this.#echo()
    return { parts: found, micros: microsSince(begin) }
  }

  /** Ends the run that is under way, and all that follow. */
  lose(error: Error): void {
    this.#lost = error
    this.#end(error)
  }

  destroy(): void {
    this.#profiled?.free()
    this.#profiled = undefined
    this.#bound.length = 0
    this.#program.free()
  }

  /** Runs up to the next list, which it starts, or to the end. */
  #advance(): void {
    try {
      const list = this.#work()
      if (list === undefined) this.#end(undefined)
      else list.submit(this.#done)
    } catch (error) {
      this.#end(error as Error)
    }
  }

  /** Does the CPU's work, up to the list that it answers; at the end of the program it fills what is left of the outputs. */
  #work(): CommandList | undefined {
    const { stretches } = this.#program
    for (; this.#at < stretches.length; this.#at++) {
      const stretch = stretches[this.#at]
      if ('list' in stretch) return stretch.list
      const { work } = stretch
      for (let at = 0; at < work.length; at++) work[at]()
    }
    this.#echo()
    return undefined
  }

  #echo(): void {
    const { echoes } = this.#program
    for (let at = 0; at < echoes.length; at++)
      this.#bound[echoes[at].to]!.bytes.set(this.#bound[echoes[at].from]!.bytes)
  }

  #end(error: Error | undefined): void {
    const ended = this.#ended
    this.#ended = undefined
    ended?.(error)
  }
}
