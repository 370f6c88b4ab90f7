import { Failure } from './transfer.js'

/** Status code (base specification 1.4, 5.2.1). */
const EVENT_LIMIT = 0x105

/** Asynchronous events (5.2): one of a type at a time, the next comes after its log page was read. */
export class EventQueue<Request> {
  readonly #complete: (request: Request, event: number) => void
  readonly #masked = new Set<number>()
  #request: Request | undefined
  #events: number[] = []

  constructor(complete: (request: Request, event: number) => void) {
    this.#complete = complete
  }

  /** A request that ends with the next event. */
  request(request: Request): void {
    if (this.#request !== undefined) throw new Failure(EVENT_LIMIT)
    this.#request = request
    this.#tell()
  }

  /** DW0 of the completion. */
  add(event: number): void {
    this.#events.push(event)
    this.#tell()
  }

  logWasRead(): void {
    this.#masked.clear()
  }

  /** A controller reset. */
  clear(): void {
    this.#masked.clear()
    this.#events = []
    this.#request = undefined
  }

  #tell(): void {
    const request = this.#request
    const at = this.#events.findIndex((event) => !this.#masked.has(event & 7))
    if (request === undefined || at < 0) return
    const [event] = this.#events.splice(at, 1)
    this.#request = undefined
    this.#masked.add(event! & 7)
    this.#complete(request, event!)
  }
}
