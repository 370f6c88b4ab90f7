import type { ErrorCode } from '@uaccel/uapi'
import { errorTable } from '@uaccel/uapi'

/*
 * What `uaccel dev` and its two processes, of the model and of the driver, say to each other over the channel of child_process.fork.
 */

/** Where lines of the journal come from. */
export type Source = 'device' | 'command' | 'event' | 'driver' | 'model' | 'dev'

/** A line for people. */
export interface Line {
  readonly atMs: number
  readonly source: Source
  readonly text: string
  /** How often in a row. */
  readonly count: number
  readonly level: 'plain' | 'good' | 'warning' | 'error'
  /** One of the many that the trace key switches. */
  readonly trace: boolean
}

/** The socket of the node, so that whoever is left can take it away. */
export interface Claim {
  readonly path: string
  /** Device and inode. */
  readonly id: string
}

/** To a process. */
export type ToProcess =
  | {
      readonly type: 'model'
      readonly module: string
      readonly trapped: boolean
      readonly claim: Claim
    }
  /** Load the driver, and wait. */
  | { readonly type: 'driver'; readonly module: string; readonly claim: Claim; readonly minor: number }
  /** Open the device behind that socket, probe it, serve the node. */
  | { readonly type: 'probe'; readonly socket: string }
  | {
      readonly type: 'call'
      readonly id: number
      readonly name: string
      readonly input: Readonly<Record<string, unknown>>
    }
  | { readonly type: 'stop'; readonly reason: string }
  | { readonly type: 'trace'; readonly on: boolean }

/** An attribute and its value. */
export type Shown = readonly [path: string, value: string, unit: string]

/** From a process. */
export type FromProcess =
  /** The model is served there. */
  | { readonly type: 'ready'; readonly name: string; readonly socket: string }
  /** The driver's module is there: what it is, and the snapshot of its uAPI. */
  | { readonly type: 'loaded'; readonly name: string; readonly abi: string }
  | { readonly type: 'running' }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string; readonly stack: string }
  | { readonly type: 'lines'; readonly lines: readonly Line[]; readonly dropped: number }
  | {
      readonly type: 'attributes'
      readonly shown: readonly Shown[]
      readonly state: string
      readonly opens: number
    }
  /** What a command answered, as JSON, or why it failed. */
  | { readonly type: 'answered'; readonly id: number; readonly ok: boolean; readonly text: string }
  /** The model was reset: what it knew is lost. */
  | { readonly type: 'reset' }

const forms: Readonly<
  Record<FromProcess['type'], Readonly<Record<string, 'string' | 'number' | 'boolean' | 'array'>>>
> = {
  ready: { name: 'string', socket: 'string' },
  loaded: { name: 'string', abi: 'string' },
  running: {},
  failed: { code: 'string', message: 'string', stack: 'string' },
  lines: { lines: 'array', dropped: 'number' },
  attributes: { shown: 'array', state: 'string', opens: 'number' },
  answered: { id: 'number', ok: 'boolean', text: 'string' },
  reset: {},
}

/** Whether that is something which a process may say: the code of a driver in it could have said anything. */
export function isFromProcess(message: unknown): message is FromProcess {
  if (typeof message !== 'object' || message === null) return false
  const fields = message as Readonly<Record<string, unknown>>
  const { type } = fields
  if (typeof type !== 'string' || !Object.hasOwn(forms, type)) return false
  if (type === 'failed' && !Object.hasOwn(errorTable, String(fields.code))) return false
  if (type === 'lines' && !(fields.lines as unknown[])?.every?.(isLine)) return false
  if (type === 'attributes' && !(fields.shown as unknown[])?.every?.(isShown)) return false
  return Object.entries(forms[type as FromProcess['type']]).every(([name, form]) =>
    form === 'array' ? Array.isArray(fields[name]) : typeof fields[name] === form,
  )
}

function isLine(value: unknown): value is Line {
  const { atMs, source, text, count, level } = (value ?? {}) as Readonly<Record<string, unknown>>
  return (
    typeof atMs === 'number' &&
    typeof text === 'string' &&
    typeof count === 'number' &&
    ['device', 'command', 'event', 'driver', 'model', 'dev'].includes(source as string) &&
    ['plain', 'good', 'warning', 'error'].includes(level as string)
  )
}

const isShown = (value: unknown): value is Shown =>
  Array.isArray(value) && value.length === 3 && value.every((part) => typeof part === 'string')
