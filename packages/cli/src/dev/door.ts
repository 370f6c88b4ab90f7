import { lstatSync } from 'node:fs'
import { type NodeServer, ownFolder, type PlacedSocket, placeSocket, serveSocket } from '@uaccel/server'
import { sys } from '@uaccel/sys'
import { type AccelError, commonUapi, isAccelError } from '@uaccel/uapi'
import type { Claim } from './messages.js'

/** Nodes that are looked at for a free number. */
const MOST_NODES = 64

/**
 * The socket of a node, which stays while drivers come and go: each gets its descriptor, and who connects in between waits in its queue,
 * or is told why there is no driver.
 */
export class Door {
  readonly number: number
  readonly claim: Claim
  readonly #placed: PlacedSocket
  #refusing: { readonly server: NodeServer; reason: AccelError } | undefined

  private constructor(number: number, placed: PlacedSocket) {
    this.number = number
    this.#placed = placed
    const { dev, ino } = lstatSync(placed.path)
    this.claim = { path: placed.path, id: `${dev}:${ino}` }
  }

  /** Takes that number, or the lowest that nobody has. Errors are those of `placeSocket`. */
  static async open(folder = ownFolder(), wanted?: number): Promise<Door> {
    const last = wanted ?? MOST_NODES - 1
    for (let number = wanted ?? 0; ; number++) {
      try {
        return new Door(
          number,
          await placeSocket(folder, `accel${number}`, { mode: 0o600, uid: -1, gid: -1 }),
        )
      } catch (error) {
        if (!isAccelError(error, 'ERR_ACCEL_BUSY') || number >= last) throw error
      }
    }
  }

  get name(): string {
    return `accel${this.number}`
  }

  get path(): string {
    return this.#placed.path
  }

  get fd(): number {
    return this.#placed.fd
  }

  /** From now on, who wants to open the node is told why there is no driver. */
  refuse(reason: AccelError): void {
    if (this.#refusing) {
      this.#refusing.reason = reason
      return
    }
    const refused = () => this.#refusing?.reason ?? reason
    const server = serveSocket(
      {
        name: this.name,
        driver: { uapi: commonUapi },
        reason: undefined,
        get refusal() {
          return refused()
        },
        state: 'live',
        lost: new Promise(() => {}),
        open: () => {
          throw refused()
        },
        close: async () => {},
        jobsEnded: async () => {},
        dispatch: () => Promise.reject(refused()),
      },
      sys.dup(this.#placed.fd),
      this.path,
    )
    this.#refusing = { server, reason }
  }

  /** Leaves those who come from now on to a driver. */
  async admit(): Promise<void> {
    const refusing = this.#refusing
    this.#refusing = undefined
    await refusing?.server.close({ drainMs: 0 })
  }

  /** Takes the node's file away. */
  remove(): void {
    this.#placed.remove()
  }

  /** Takes the node away. */
  async close(): Promise<void> {
    this.remove()
    await this.admit()
    sys.close(this.#placed.fd)
  }
}
