import { type AccelError, isAccelError } from '@uaccel/uapi'
import { ask, isGone, type Snapshot, type Wanted } from '../nodes/ask.js'
import { type CommonNode, type FolderFlag, findNodes, openNode } from '../nodes/find.js'

/** A node that is watched. */
export interface NodeView {
  readonly target: string
  /** What it said last, and the time before: rates are of what is between. */
  readonly now: Snapshot | undefined
  readonly before: Snapshot | undefined
  /** Why it says nothing. */
  readonly error: AccelError | undefined
}

/** What the screen shows. */
const wanted: Wanted = {
  kinds: [
    'identity',
    'status',
    'engines',
    'memoryRegions',
    'sensors',
    'power',
    'contexts',
    'usage',
    'counters',
  ],
  attributes: ['irqs', 'queues/inUse', 'queues/total'],
}

/** A server that hangs keeps nobody from seeing the others for longer. */
const ASK_MS = 1500

/** Asks nodes again and again: those that were named, or all that there are, those that come later included. */
export class Watcher {
  readonly #named: readonly string[]
  readonly #folder: FolderFlag
  readonly #views = new Map<string, NodeView & { client: CommonNode | undefined }>()

  constructor(named: readonly string[], folder: FolderFlag) {
    this.#named = named
    this.#folder = folder
  }

  /** In the order in which they came up. */
  get views(): readonly NodeView[] {
    return [...this.#views.values()]
  }

  /** Asks each once. One that goes stays with its reason, and is opened again when it is back. */
  async sample(signal: AbortSignal): Promise<void> {
    const targets = this.#named.length > 0 ? this.#named : findNodes(this.#folder).map(({ target }) => target)
    await Promise.all(
      [...new Set([...this.#views.keys(), ...targets])].map((target) => this.#sample(target, signal)),
    )
  }

  async close(): Promise<void> {
    await Promise.all([...this.#views.values()].map(({ client }) => client?.close()))
  }

  async #sample(target: string, signal: AbortSignal): Promise<void> {
    const known = this.#views.get(target)
    // Its place in the order.
    if (!known)
      this.#views.set(target, {
        target,
        now: undefined,
        before: undefined,
        error: undefined,
        client: undefined,
      })
    let client = known?.client
    try {
      client ??= await openNode(target, this.#folder)
      const now = await ask(client, wanted, { signal, timeoutMs: ASK_MS })
      const silent = now.answers.identity === undefined ? now.failures[0]?.error : undefined
      this.#views.set(target, { target, now, before: known?.now, error: silent, client })
    } catch (error) {
      if (!isAccelError(error)) throw error
      if (signal.aborted) return
      const left = isGone(error) ? undefined : client
      this.#views.set(target, { target, now: undefined, before: undefined, error, client: left })
    }
  }
}
