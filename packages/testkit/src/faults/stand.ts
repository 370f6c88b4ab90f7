import { AssertionError } from 'node:assert'
import { Accel, type AccelClient, type AccelDevice, type AccelNode } from '@uaccel/accel'
import { type AccelError, isAccelError, type Uapi } from '@uaccel/uapi'
import { Handlers } from './handlers.js'
import { type DeviceHeld, listenersOf, type Watched, watched } from './held.js'
import type { Peer } from './peers.js'
import type { AnyMatrix, FaultOperation } from './types.js'
import type { VirtualTime } from './virtual-time.js'

/** What it needs of the process that it is in. */
export interface StandHost {
  readonly matrix: AnyMatrix
  readonly time: VirtualTime
  /** Something of the driver's touches the device. */
  touched(): void
  /** Regions of DMA memory that are in use. */
  regions(): number
}

/** Something did not end. */
export class Hung extends Error {
  constructor(what: string, limitMs: number) {
    super(`${what} has not ended after ${limitMs} ms of its time`)
    this.name = 'Hung'
  }
}

/** How something ended. */
export type Outcome =
  | { readonly code: 'done'; readonly value: unknown }
  | { readonly code: string; readonly error: unknown }

export type AnyOperation = FaultOperation<Uapi>

/** How often, and after which pause, an operation is tried again that came during a reset. */
const TRIES = 500
const AGAIN_MS = 10
const DEFAULT_LIMIT_MS = 120_000

/** A device under its driver in a subsystem of its own. */
export class Stand {
  readonly accel: Accel
  /** Errors that no caller was told of. */
  readonly errors: AccelError[] = []
  readonly #matrix: AnyMatrix
  readonly #peer: Peer
  readonly #host: StandHost
  readonly #transports: Watched[] = []
  readonly #handlers = new Handlers()
  #dev: AccelDevice | undefined
  #node: AccelNode | undefined
  #client: AccelClient<Uapi> | undefined

  constructor(host: StandHost, peer: Peer) {
    this.#host = host
    this.#matrix = host.matrix
    this.#peer = peer
    const { driver, options } = host.matrix
    this.accel = new Accel(options.limits === undefined ? {} : { limits: options.limits })
    this.accel.on('error', (error) => this.errors.push(error))
    this.accel.register({
      ...driver,
      probe: async (dev: AccelDevice) => {
        this.#dev = dev
        return this.#handlers.watch(await this.#handlers.probe((each) => driver.probe(each), dev))
      },
    })
  }

  /** The node, as long as its device is there. */
  get node(): AccelNode | undefined {
    return this.#node?.reason === undefined ? this.#node : undefined
  }

  /** Why the device went. */
  get reason(): AccelError | undefined {
    return this.#node?.reason
  }

  /** Makes the device and brings a way to it, which `add` takes. */
  async connect(): Promise<Watched> {
    const transport = watched(await this.#peer.connect(), this.#host.touched)
    this.#transports.push(transport)
    return transport
  }

  async add({ transport }: Watched): Promise<void> {
    this.#client = undefined
    this.#node = await this.accel.add(transport)
  }

  /** Runs an operation through the open that is there, or one of its own. */
  async run(operation: AnyOperation): Promise<boolean> {
    this.#client ??= this.accel.open(this.#matrix.driver.uapi, this.#node!.name)
    try {
      return await operation(this.#client)
    } catch (error) {
      if (error instanceof AssertionError) return false
      throw error
    }
  }

  /** The same, again while the device is in reset: this is what ERR_ACCEL_AGAIN asks for. */
  async runPatiently(operation: AnyOperation): Promise<boolean> {
    for (let tries = 0; ; tries++) {
      try {
        return await this.run(operation)
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_AGAIN') || tries >= TRIES) throw error
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
      }
    }
  }

  /** Whether the driver says that its device has to be reset. */
  async needsReset(): Promise<boolean> {
    const asked = async () => {
      this.#client ??= this.accel.open(this.#matrix.driver.uapi, this.#node!.name)
      return (await this.#client.query('status'))?.state
    }
    const outcome = await this.attempt('the query of its status', asked)
    return 'value' in outcome && outcome.value === 'needsReset'
  }

  /** The next operation has an open of its own. */
  async reopen(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    await client?.close()
  }

  /** Waits for the end of something, which is to come before the limit of the matrix. @throws Hung */
  async attempt(what: string, work: () => Promise<unknown>): Promise<Outcome> {
    const { limitMs = DEFAULT_LIMIT_MS } = this.#matrix.options
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Hung(what, limitMs)), limitMs)
    })
    const ended = Promise.resolve()
      .then(work)
      .then(
        (value): Outcome => ({ code: 'done', value }),
        (error: unknown): Outcome => ({ code: isAccelError(error) ? error.code : String(error), error }),
      )
    try {
      return await Promise.race([ended, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** What the driver holds of the device now. */
  get held(): DeviceHeld {
    return {
      mappings: this.#transports.at(-1)?.mappings.size ?? 0,
      listeners: listenersOf(this.#dev?.signal),
      regions: this.#host.regions(),
      timers: this.#host.time.pending.length,
    }
  }

  /** What of the driver has not ended, or only when its caller gave it up. */
  get endless(): readonly string[] {
    return this.#handlers.endless
  }

  /** Mappings that were there when the transports were closed, and transports that were not. */
  get left(): string[] {
    return this.#transports.flatMap(({ leftAtClose, transport }) =>
      leftAtClose === undefined
        ? [`transport to ${transport.identity.address}, which was not closed`]
        : leftAtClose,
    )
  }
}
