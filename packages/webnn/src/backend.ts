import type { AcceleratorMemory, Polling } from './accelerator.js'
import type { Graph } from './graph.js'
import type { Profile, Report } from './plan/report.js'

/** Memory of each input or output, in the order of the graph's `inputs` and `outputs`; each is the backend's, and as large as its tensor. */
export type Memories = readonly AcceleratorMemory[]

/** A graph that was made ready. One run at a time. */
export interface Executable {
  /** What was decided, operator by operator. */
  readonly report: Report
  /**
   * Reads the inputs and writes the outputs. `ended` is called always, once, at once or later: with the error where there is one, also where the
   * device is lost meanwhile.
   */
  run(inputs: Memories, outputs: Memories, ended: (error: Error | undefined) => void): void
  /** As `run`, and takes the time of each part, for which a device is asked once for each group of operators. */
  profile(inputs: Memories, outputs: Memories): Promise<Profile>
  /** Gives back what it holds. Not while it runs. */
  destroy(): void
}

/** What stands behind a context. */
export interface Backend {
  readonly accelerated: boolean
  /** Zeroed memory for a tensor. */
  allocate(sizeBytes: number): AcceleratorMemory
  /** Gives it back. Not while a run is at it. */
  free(memory: AcceleratorMemory): void
  /** Makes a graph ready; constants are read now. */
  compile(graph: Graph): Executable | Promise<Executable>
  readonly polling?: Polling | undefined
  /** Resolves with the reason when the device is gone. */
  readonly lost?: Promise<string>
  /** Gives back all that is left of its memories and executables. Nothing runs any more. */
  close(): void | Promise<void>
}
