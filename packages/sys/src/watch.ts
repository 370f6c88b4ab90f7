import { type SystemCalls, sys } from './system-calls.js'
import { watchWithEpoll } from './watch-epoll.js'
import { uvAvailable, watchWithUv } from './watch-uv.js'

/** How readiness reaches the event loop: libuv's own poll, or a helper thread in epoll_wait. */
export type EngineName = 'uv' | 'epoll'

const engines: Record<EngineName, Engine> = { uv: watchWithUv, epoll: watchWithEpoll }

export interface WatchOptions {
  /** What to wait for: data (or a hang-up), or room to write. `readable` unless told. */
  events?: 'readable' | 'writable'
  /** Whether the watch keeps the process alive; true unless told. */
  ref?: boolean
  /** Chosen by what the thread and the provider can do, unless told. */
  engine?: EngineName
}

/**
 * What the helper thread of an engine holds. A thread that is ended by `terminate()` runs no clean-up, so whoever outlives
 * it has to close these, unless `closed` says that it was done. Can be sent to another thread.
 */
export interface WatchHelper {
  readonly descriptors: readonly number[]
  /**
   * Two words over shared memory: 1 once the helper closed its descriptors; and a bit for each of them, set (`Atomics.or`) by whoever
   * closes it.
   */
  readonly closed: Int32Array
}

/** A descriptor that the event loop waits for. */
export interface Watch {
  readonly fd: number
  /** Absent where the engine has no helper thread. */
  readonly helper?: WatchHelper
  /**
   * Resolves when the helper thread is up, where there is one. A thread that is terminated before that may leave descriptors of
   * Node's module loader open, or end the process (koffi does, when it is interrupted while it loads).
   */
  readonly started?: Promise<void>
  /** The watch keeps the process (or worker) alive, as a server does. */
  ref(): void
  unref(): void
  /** The handler is not called again. Close the watch before its descriptor. Again is harmless. */
  close(): void
}

/** Starts one watch. The engine calls `handler` on the thread that asked, outside any other handler. */
export type Engine = (calls: SystemCalls, fd: number, writable: boolean, handler: () => void) => Watch

/**
 * Calls `handler` in this thread's event loop while `fd` is ready: level-triggered, so a handler that leaves data
 * behind is called again, and one that ignores a hang-up is called until the watch is closed. The descriptor
 * becomes non-blocking, and must not be watched twice. What a handler throws reaches `uncaughtException`.
 *
 * @throws ERR_ACCEL_SYSTEM the descriptor cannot be polled (a regular file: EPERM is ERR_ACCEL_PERMISSION)
 */
export function watch(
  fd: number,
  handler: () => void,
  options: WatchOptions = {},
  calls: SystemCalls = sys,
): Watch {
  const { events = 'readable', ref = true, engine = uvAvailable(calls) ? 'uv' : 'epoll' } = options
  const start = engines[engine]
  const watching = start(calls, fd, events === 'writable', guarded(handler))
  if (!ref) watching.unref()
  return watching
}

/** Rethrows on a clean stack: an exception inside a native callback is lost. */
function guarded(handler: () => void): () => void {
  return () => {
    try {
      handler()
    } catch (error) {
      process.nextTick(() => {
        throw error
      })
    }
  }
}
