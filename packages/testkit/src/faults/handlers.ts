import type { CommandContext, Probed } from '@uaccel/accel'
import { isAccelError, type Uapi } from '@uaccel/uapi'

type Work = (...args: unknown[]) => unknown

/** What a driver answers calls with, and which of it does not end. */
export class Handlers {
  readonly #running = new Map<symbol, string>()
  readonly #givenUp = new Set<string>()

  /** Has a driver probe its device, watched. The subsystem gives up one that has no limit; what it waits in goes on. */
  probe<D, P>(probe: (dev: D) => P | Promise<P>, dev: D): Promise<P> {
    return this.#watched('the probe', () => probe(dev), undefined)() as Promise<P>
  }

  /** The same, watched. */
  watch<P extends Probed<never> | Probed<Uapi>>(probed: P): P {
    const commands = Object.fromEntries(
      Object.entries<Work>(probed.commands as Record<string, Work>).map(([name, work]) => [
        name,
        this.#watched(`the handler of ${name}`, work, probed.commands),
      ]),
    )
    const others = (['submit', 'recover', 'beforeReset', 'afterReset'] as const).flatMap((name) => {
      const work = probed[name] as Work | undefined
      return work === undefined ? [] : [[name, this.#watched(name, work, probed)] as const]
    })
    return { ...probed, commands, ...Object.fromEntries(others) }
  }

  get endless(): readonly string[] {
    return [
      ...[...this.#running.values()].map((what) => `${what} does not end, and ignores its signal`),
      ...[...this.#givenUp].map((what) => `${what} has no limit: it ended when its caller's passed`),
    ]
  }

  #watched(what: string, work: Work, owner: unknown): Work {
    return async (...args) => {
      const id = Symbol()
      const signal = (args.at(-1) as Partial<CommandContext> | undefined)?.signal
      this.#running.set(id, what)
      const aborted = () => {
        if (isAccelError(signal?.reason, 'ERR_ACCEL_TIMEOUT')) this.#givenUp.add(what)
      }
      signal?.addEventListener('abort', aborted, { once: true })
      try {
        return await work.apply(owner, args)
      } finally {
        signal?.removeEventListener('abort', aborted)
        this.#running.delete(id)
      }
    }
  }
}
