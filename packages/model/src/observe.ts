import type { ModelBehaviour, ModelContext, ModelDefinition } from './types.js'

/** What a device saw or did, in the order in which it happened. */
export type ModelEvent =
  /** An access of the driver's to what is neither memory nor the MSI-X table. `value` is absent where nothing of that width and kind is declared. */
  | {
      readonly kind: 'read' | 'write'
      readonly bar: number
      readonly offset: number
      readonly width: 1 | 2 | 4 | 8
      readonly value: number | bigint | undefined
      /** As the model describes it, for people: the register's name. */
      readonly name: string
    }
  /** A transfer of the device's: `dmaRead` is from host memory. `failed` is why it did not happen. */
  | {
      readonly kind: 'dmaRead' | 'dmaWrite' | 'dmaView'
      readonly iova: bigint
      readonly sizeBytes: number
      readonly failed?: string
    }
  /** An MSI-X or MSI vector was raised; it may be masked. */
  | { readonly kind: 'interrupt'; readonly vector: number }
  /** The INTx line. */
  | { readonly kind: 'line'; readonly asserted: boolean }
  /** Back to power-on state. */
  | { readonly kind: 'reset' }

/**
 * The same device, of whose life `observer` is told: each register access with the name that the model gives it, each transfer,
 * interrupt and reset. What a driver does in memory that it has mapped nobody sees. The observer is called inside of the access, and
 * must not throw.
 */
export function observed<Options>(
  definition: ModelDefinition<Options>,
  observer: (event: ModelEvent) => void,
): ModelDefinition<Options> {
  return {
    ...definition,
    create: (context, options) =>
      watchedBehaviour(definition.create(watchedContext(context, observer), options), observer),
  }
}

function watchedBehaviour(behaviour: ModelBehaviour, observer: (event: ModelEvent) => void): ModelBehaviour {
  const nameOf = (bar: number, offset: number) => registerName(behaviour.describe?.(bar, offset), bar, offset)
  return {
    read(bar, offset, width) {
      const value = behaviour.read(bar, offset, width)
      observer({ kind: 'read', bar, offset, width, value, name: nameOf(bar, offset) })
      return value
    },
    write(bar, offset, width, value) {
      // Told before its effects are.
      const name = nameOf(bar, offset)
      observer({ kind: 'write', bar, offset, width, value, name })
      return behaviour.write(bar, offset, width, value)
    },
    describe: (bar, offset) =>
      behaviour.describe?.(bar, offset) ?? `nothing of that width and kind at 0x${offset.toString(16)}`,
    reset() {
      observer({ kind: 'reset' })
      behaviour.reset()
    },
  }
}

function watchedContext(context: ModelContext, observer: (event: ModelEvent) => void): ModelContext {
  const transfer = <T>(
    kind: 'dmaRead' | 'dmaWrite' | 'dmaView',
    iova: bigint,
    sizeBytes: number,
    work: () => T,
  ) => {
    try {
      const done = work()
      observer({ kind, iova, sizeBytes })
      return done
    } catch (error) {
      observer({ kind, iova, sizeBytes, failed: error instanceof Error ? error.message : String(error) })
      throw error
    }
  }
  const { dma } = context
  return {
    dma: {
      read: (iova, into) => transfer('dmaRead', iova, into.length, () => dma.read(iova, into)),
      write: (iova, from) => transfer('dmaWrite', iova, from.length, () => dma.write(iova, from)),
      view: (iova, sizeBytes, access) =>
        transfer('dmaView', iova, sizeBytes, () => dma.view(iova, sizeBytes, access)),
    },
    clock: context.clock,
    atRest: (action) => context.atRest(action),
    raise(vector) {
      observer({ kind: 'interrupt', vector })
      context.raise(vector)
    },
    setIntx(asserted) {
      observer({ kind: 'line', asserted })
      context.setIntx(asserted)
    },
    memory: (name) => context.memory(name),
    violation: (message) => context.violation(message),
    get busMaster() {
      return context.busMaster
    },
    get irqMode() {
      return context.irqMode
    },
  }
}

/** A register bank describes as `NAME at 0x10 (rw, 4 bytes)`: the name is what stands before its place. */
function registerName(described: string | undefined, bar: number, offset: number): string {
  const name = described === undefined ? undefined : /^(\S+) at 0x[0-9a-f]+ \(/.exec(described)?.[1]
  return name ?? `BAR${bar}+0x${offset.toString(16)}`
}
