import type { Shown } from './messages.js'

/** A value that is shown, and when it became that. */
export interface ShownValue {
  readonly value: string
  readonly unit: string
  /** 0 where it has not changed since it is there. */
  readonly changedMs: number
}

/** What is so now, for a screen. */
export interface DevState {
  build: {
    state: 'none' | 'building' | 'ok' | 'errors'
    atMs: number
    ms: number
    errors: readonly string[]
  }
  model: {
    state: 'stopped' | 'starting' | 'running' | 'failed'
    name: string
    /** 0 where it has no process. */
    pid: number
    sinceMs: number
    /** How often it was started anew. */
    restarts: number
    /** How often its driver had it reset. */
    resets: number
  }
  driver: {
    state: 'none' | 'loading' | 'probing' | 'running' | 'failed'
    name: string
    pid: number
    /** 0 where none ran yet. */
    sinceMs: number
    reloads: number
    /** From the load of its modules until it was there, the last time. */
    tookMs: number
    /** Why the one that was built last does not run. */
    problem: string
  }
  attributes: Map<string, ShownValue>
  /** In the words of command `query`; absent where the driver does not run. */
  status: { state: string; opens: number; atMs: number } | undefined
  tracing: boolean
}

export const initialState = (tracing: boolean): DevState => ({
  build: { state: 'none', atMs: 0, ms: 0, errors: [] },
  model: { state: 'stopped', name: '', pid: 0, sinceMs: 0, restarts: 0, resets: 0 },
  driver: { state: 'none', name: '', pid: 0, sinceMs: 0, reloads: 0, tookMs: 0, problem: '' },
  attributes: new Map(),
  status: undefined,
  tracing,
})

/** Takes over what the driver told of its attributes, and notes what changed. */
export function showAttributes(state: DevState, shown: readonly Shown[]): void {
  const before = state.attributes
  const now = Date.now()
  state.attributes = new Map(
    shown.map(([path, value, unit]) => {
      const last = before.get(path)
      const changedMs = last === undefined ? 0 : last.value === value ? last.changedMs : now
      return [path, { value, unit, changedMs }]
    }),
  )
}
