import type { NodeDispatchOptions, OpenOptions } from '@uaccel/accel'
import type { AccelError, Reply, Uapi } from '@uaccel/uapi'

/** What other processes can open: all that connections need of it. A node of `Accel` is one, the control node another. */
export interface Servable {
  /** Of its socket. */
  readonly name: string
  readonly driver: { readonly uapi: Uapi }
  /** Why it is gone; `undefined` while it is there. */
  readonly reason: AccelError | undefined
  /** Why nobody can open it now, whatever uAPI they speak; absent where they can. */
  readonly refusal?: AccelError
  /** It cannot be opened now where this is `resetting`. */
  readonly state: string
  /** Resolves with the reason when it goes. Never rejects. */
  readonly lost: Promise<AccelError>
  /** What one client of it holds; never `undefined`. Its rights and its process are in the options. */
  open(options: OpenOptions): unknown
  /** Frees what {@link open} gave. */
  close(open: unknown): Promise<void>
  /** Resolves once no job of `open` is left. */
  jobsEnded(open: unknown): Promise<void>
  /** Runs a command in its binary form. Descriptors: see `AccelNode.dispatch`. */
  dispatch(open: unknown, number: number, bytes: Uint8Array, options: NodeDispatchOptions): Promise<Reply>
}
