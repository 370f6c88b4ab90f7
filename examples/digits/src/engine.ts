import { type CompiledGraph, Session } from '@uaccel/inference'

/** A session and where it runs. */
export interface Engine {
  /** As it stands in the report, such as `NPU-1`. */
  readonly device: string
  /** How the device is reached, such as `vfio-user`. */
  readonly transport: string
  readonly session: Session
  close(): Promise<void>
}

/** The graph on the CPU alone. */
export async function cpuEngine(graph: CompiledGraph): Promise<Engine> {
  const session = await Session.load(graph)
  return { device: 'CPU', transport: 'none', session, close: () => session.close() }
}
